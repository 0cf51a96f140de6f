"""LoRA: frozen weights plus a trained product of two thin matrices (Hu et al. 2022, https://arxiv.org/abs/2106.09685)."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from acclimate.backbones.fast.dropout import Dropout
from acclimate.errors import ConfigError
from acclimate.protocols import Strategy
from acclimate.settings import Options
from acclimate.training.task_model import TaskModel


class LowRankLinear(nn.Module):
    """y = W x + b + (alpha / rank) B A x, with W and b frozen (Hu et al. 2022, https://arxiv.org/abs/2106.09685).

    A starts as in peft (Kaiming-uniform with a = sqrt 5) and B at zero, so the wrapped layer starts equal to the plain one.
    """

    def __init__(self, linear: nn.Linear, *, rank: int, alpha: float, dropout: float, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.linear = linear.requires_grad_(False)
        self.scale = alpha / rank
        self.down = nn.Parameter(torch.empty(rank, linear.in_features))
        self.up = nn.Parameter(torch.zeros(linear.out_features, rank))
        self.dropout = Dropout(dropout)
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5), generator=generator)

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


class Lora(Options, Strategy):
    """Wraps linear layers. Its learning rate is about ten times that of `full` (Biderman et al. 2024, https://arxiv.org/abs/2405.09673)."""

    rank: Annotated[int, Field(ge=1)] = 8
    alpha: Annotated[float, Field(gt=0)] = 16.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: Annotated[list[str], Field(min_length=1)] = ["query", "value"]

    def apply(self, model: TaskModel, generator: torch.Generator) -> None:
        """Freeze the backbone and wrap each linear layer whose name ends in one of `targets`.

        Raises:
            ConfigError: no layer of that name.
        """
        linear = {name: module for name, module in model.backbone.named_modules() if isinstance(module, nn.Linear)}
        endings = {name.rsplit(".", 1)[-1] for name in linear}
        unknown = sorted(set(self.targets) - endings)
        if unknown:
            raise ConfigError(f"strategy.lora.targets: no linear layer called {', '.join(unknown)}; allowed: {', '.join(sorted(endings))}")
        model.backbone.requires_grad_(False)
        for name, module in linear.items():
            if name.rsplit(".", 1)[-1] in self.targets:
                wrapped = LowRankLinear(module, rank=self.rank, alpha=self.alpha, dropout=self.dropout, generator=generator)
                model.backbone.set_submodule(name, wrapped)

    def merge(self, model: TaskModel) -> None:
        """Fold each product into the weight it was trained beside; the outputs stay the same to rounding."""
        for name, module in list(model.backbone.named_modules()):
            if isinstance(module, LowRankLinear):
                model.backbone.set_submodule(name, module.merged())


COMPONENT: type[Strategy] = Lora
