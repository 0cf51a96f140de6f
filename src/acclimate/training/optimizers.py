"""Parameter groups and AdamW."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn


def parameter_groups(named: Iterable[tuple[str, nn.Parameter]], *, learning_rate: float, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups of the trainable parameters: matrices decay, norms and biases do not."""
    trainable = [(name, parameter) for name, parameter in named if parameter.requires_grad]
    decayed = [parameter for _, parameter in trainable if parameter.ndim >= 2]
    plain = [parameter for _, parameter in trainable if parameter.ndim < 2]
    groups = [(decayed, weight_decay), (plain, 0.0)]
    return [{"params": members, "lr": learning_rate, "weight_decay": decay} for members, decay in groups if members]


def adamw(groups: Sequence[dict[str, Any]], *, betas: tuple[float, float], epsilon: float) -> torch.optim.AdamW:
    """Fused AdamW (Loshchilov and Hutter 2019, https://arxiv.org/abs/1711.05101)."""
    optimizer = torch.optim.AdamW(list(groups), betas=betas, eps=epsilon, fused=True)
    for group in optimizer.param_groups:
        group["peak_lr"] = group["lr"]
    return optimizer
