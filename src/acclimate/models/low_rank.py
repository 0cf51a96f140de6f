"""A frozen linear layer plus a trained low-rank product."""

from __future__ import annotations

import math
from collections.abc import Collection

import torch
from torch import Tensor, nn

from acclimate.backbones.fast.dropout import Dropout


class LowRankLinear(nn.Module):
    """y = W x + b + (alpha / rank) B A x, with W and b frozen (Hu et al. 2022, https://arxiv.org/abs/2106.09685).

    A starts as in peft (Kaiming-uniform with a = sqrt 5) and B at zero, so the wrapped layer starts equal to the plain one.
    """

    def __init__(self, linear: nn.Linear, *, rank: int, alpha: float, dropout: float) -> None:
        super().__init__()
        self.linear = linear.requires_grad_(False)
        self.scale = alpha / rank
        self.down = nn.Parameter(torch.empty(rank, linear.in_features))
        self.up = nn.Parameter(torch.zeros(linear.out_features, rank))
        self.dropout = Dropout(dropout)
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, inputs: Tensor) -> Tensor:
        """Same shapes as the wrapped layer."""
        low_rank = nn.functional.linear(nn.functional.linear(self.dropout(inputs), self.down), self.up)
        output: Tensor = self.linear(inputs) + self.scale * low_rank
        return output

    def merged(self) -> nn.Linear:
        """The plain layer with the product folded into its weight."""
        with torch.no_grad():
            self.linear.weight += self.scale * (self.up @ self.down)
        return self.linear


def wrap_linear_layers(encoder: nn.Module, *, rank: int, alpha: float, dropout: float, targets: Collection[str]) -> str | None:
    """Freeze the encoder and wrap each linear layer whose name ends in one of `targets`.

    Returns:
        None, or where a target names no layer (nothing is changed then) which, and which names there are.
    """
    linear = {name: module for name, module in encoder.named_modules() if isinstance(module, nn.Linear)}
    endings = {name.rsplit(".", 1)[-1] for name in linear}
    unknown = sorted(set(targets) - endings)
    if unknown:
        return f"{', '.join(unknown)}; allowed: {', '.join(sorted(endings))}"
    encoder.requires_grad_(False)
    for name, module in linear.items():
        if name.rsplit(".", 1)[-1] in targets:
            _replace(encoder, name, LowRankLinear(module, rank=rank, alpha=alpha, dropout=dropout))
    return None


def unwrap_linear_layers(encoder: nn.Module) -> None:
    """Fold each product into the weight it was trained beside; the outputs stay the same."""
    for name, module in list(encoder.named_modules()):
        if isinstance(module, LowRankLinear):
            _replace(encoder, name, module.merged())


def _replace(root: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(root.get_submodule(parent), leaf, module)
