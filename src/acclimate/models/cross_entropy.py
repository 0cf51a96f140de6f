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

    The products run in the format that autocast asks for, softmax and sums in float32. Between forward and backward only the logits
    in the product's format are kept; they become their own gradient, chunk by chunk.
    """
    if torch.is_autocast_enabled(hidden_MD.device.type):
        wanted = torch.get_autocast_dtype(hidden_MD.device.type)
        hidden_MD, weight_VD, bias_V = hidden_MD.to(wanted), weight_VD.to(wanted), bias_V.to(wanted)
    loss: Tensor = _LinearCrossEntropy.apply(hidden_MD, weight_VD, bias_V, labels_M)  # type: ignore[no-untyped-call]
    return loss


def _chunks(logits_MV: Tensor) -> int:
    """Predictions of a chunk."""
    return max(1, (_CHUNK_ELEMENTS if logits_MV.device.type == "cpu" else 64 * _CHUNK_ELEMENTS) // logits_MV.shape[1])


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden_MD: Tensor, weight_VD: Tensor, bias_V: Tensor, labels_M: Tensor) -> Tensor:
        with torch.autocast(hidden_MD.device.type, enabled=False):
            logits_MV = functional.linear(hidden_MD, weight_VD, bias_V)
            rows = _chunks(logits_MV)
            log_sum_M = torch.cat([chunk_CV.float().logsumexp(1) for chunk_CV in torch.split(logits_MV, rows)])
            picked_M = logits_MV.gather(1, labels_M[:, None]).squeeze(1).float()
        ctx.save_for_backward(hidden_MD, weight_VD, labels_M, log_sum_M)
        ctx.logits_MV = logits_MV  # overwritten by backward, so it cannot be a saved tensor
        return (log_sum_M - picked_M).sum()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        hidden_MD, weight_VD, labels_M, log_sum_M = ctx.saved_tensors
        logits_MV, ctx.logits_MV = ctx.logits_MV, None
        if logits_MV is None:
            raise RuntimeError("linear_cross_entropy: backward a second time; its logits were overwritten by the first")
        bias_gradient_V = torch.zeros(weight_VD.shape[0], dtype=torch.float32, device=hidden_MD.device)
        rows = _chunks(logits_MV)
        with torch.autocast(hidden_MD.device.type, enabled=False):
            for start in range(0, len(labels_M), rows):
                chunk = slice(start, start + rows)
                gradient_CV = logits_MV[chunk].float().sub_(log_sum_M[chunk, None]).exp_()
                gradient_CV.scatter_add_(1, labels_M[chunk, None], gradient_CV.new_full((len(gradient_CV), 1), -1.0))
                gradient_CV.mul_(gradients[0])
                bias_gradient_V += gradient_CV.sum(0)
                logits_MV[chunk] = gradient_CV
            return logits_MV @ weight_VD, logits_MV.T @ hidden_MD, bias_gradient_V.to(weight_VD.dtype), None
