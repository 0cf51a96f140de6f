"""Cross-entropy over a large vocabulary without a float32 copy of all logits.

Shape suffixes: M predictions, D width, V vocabulary, C predictions of one chunk.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

_CHUNK_ELEMENTS = 1 << 20
"""float32 logits held at once on a CPU: 4 MB, which its caches hold."""


def linear_cross_entropy(hidden_MD: Tensor, weight_VD: Tensor, bias_V: Tensor, labels_M: Tensor) -> Tensor:
    """Sum over predictions of -log softmax(hidden @ weight.T + bias)[label], as a float32 scalar.

    Predictions behind the last label fill their count up: they add nothing and get no gradient.

    The products run in the format that autocast asks for, softmax and sums in float32. The logits become their own gradient chunk by
    chunk in the forward pass, as Liger's do (Hsu et al. 2024, https://arxiv.org/abs/2410.10989): one exponential for each, and between
    forward and backward nothing is kept but one matrix in the product's format.
    """
    if torch.is_autocast_enabled(hidden_MD.device.type):
        wanted = torch.get_autocast_dtype(hidden_MD.device.type)
        hidden_MD, weight_VD, bias_V = hidden_MD.to(wanted), weight_VD.to(wanted), bias_V.to(wanted)
    loss: Tensor = _LinearCrossEntropy.apply(hidden_MD, weight_VD, bias_V, labels_M)  # type: ignore[no-untyped-call]
    return loss


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden_MD: Tensor, weight_VD: Tensor, bias_V: Tensor, labels_M: Tensor) -> Tensor:
        with torch.autocast(hidden_MD.device.type, enabled=False):
            logits_MV = functional.linear(hidden_MD, weight_VD, bias_V)
            asked_MV = logits_MV[: len(labels_M)]
            picked_M = asked_MV.gather(1, labels_M[:, None]).squeeze(1).float()
            if not any(ctx.needs_input_grad):
                return (_log_sums(asked_MV) - picked_M).sum()
            log_sum_M, bias_gradient_V = _become_gradient(asked_MV, labels_M)
            logits_MV[len(labels_M) :] = 0.0
        ctx.save_for_backward(hidden_MD, weight_VD, logits_MV, bias_gradient_V)
        return (log_sum_M - picked_M).sum()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        hidden_MD, weight_VD, gradient_MV, bias_gradient_V = ctx.saved_tensors
        factor, dtype = gradients[0], weight_VD.dtype
        with torch.autocast(hidden_MD.device.type, enabled=False):
            hidden_gradient_MD = (gradient_MV @ weight_VD).float() * factor
            weight_gradient_VD = gradient_MV.T @ (hidden_MD.float() * factor).to(dtype)
        return hidden_gradient_MD.to(dtype), weight_gradient_VD, (bias_gradient_V * factor).to(dtype), None


def _chunks(logits_MV: Tensor) -> tuple[Tensor, ...]:
    """Views of some predictions each."""
    elements = _CHUNK_ELEMENTS if logits_MV.device.type == "cpu" else 64 * _CHUNK_ELEMENTS
    return torch.split(logits_MV, max(1, elements // logits_MV.shape[1]))


def _log_sums(logits_MV: Tensor) -> Tensor:
    return torch.cat([chunk_CV.float().logsumexp(1) for chunk_CV in _chunks(logits_MV)])


def _become_gradient(logits_MV: Tensor, labels_M: Tensor) -> tuple[Tensor, Tensor]:
    """Overwrite logits by softmax less one at the label.

    Returns:
        Log-sum-exp (M,) and the gradient of the bias (V,), float32. The former from the greatest logit, whose probability is at least
        1 / V, so nothing underflows: log sum exp(x) = x - log softmax(x).
    """
    bias_gradient_V = torch.zeros(logits_MV.shape[1], dtype=torch.float32, device=logits_MV.device)
    log_sums = []
    for chunk_CV, labels_C in zip(chunks := _chunks(logits_MV), torch.split(labels_M, len(chunks[0])), strict=True):
        greatest_C = chunk_CV.amax(1).float()
        softmax_CV = chunk_CV.softmax(1, dtype=torch.float32)
        log_sums.append(greatest_C - softmax_CV.amax(1).log())
        softmax_CV[torch.arange(len(labels_C), device=labels_C.device), labels_C] -= 1.0
        bias_gradient_V += softmax_CV.sum(0)
        chunk_CV.copy_(softmax_CV)
    return torch.cat(log_sums), bias_gradient_V
