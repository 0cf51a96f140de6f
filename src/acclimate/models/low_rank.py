"""A frozen linear layer plus a trained low-rank product."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


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
        self.dropout = nn.Dropout(dropout)
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
