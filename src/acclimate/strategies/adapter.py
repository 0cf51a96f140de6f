"""Bottleneck adapters behind attention and feed-forward of each layer (Houlsby et al. 2019, https://arxiv.org/abs/1902.00751).

With `targets` of the feed-forward alone it is the adapter of Pfeiffer et al. 2021 (https://arxiv.org/abs/2005.00247).
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from acclimate.errors import ConfigError
from acclimate.protocols import Strategy
from acclimate.settings import Options
from acclimate.training.task_model import TaskModel

_OUTPUTS = ["output.dense", "out_lin", "lin2", "Wo", "wo", "o", "o_proj", "down_proj"]
"""What architectures call the linear layers that write into the residual stream."""


class Bottleneck(nn.Module):
    """y = z + U gelu(D z), z = W x: down to `size`, up again. U starts at zero, so that the layer starts as the plain one."""

    def __init__(self, linear: nn.Linear, size: int, generator: torch.Generator) -> None:
        super().__init__()
        self.linear = linear
        width = linear.out_features
        self.down, self.up = nn.Linear(width, size), nn.Linear(size, width)
        with torch.no_grad():
            self.down.weight.normal_(std=0.02, generator=generator)
            for started in (self.down.bias, self.up.weight, self.up.bias):
                started.zero_()

    def forward(self, inputs: Tensor) -> Tensor:
        """Same shapes as the wrapped layer."""
        output: Tensor = self.linear(inputs)
        changed: Tensor = output + self.up(nn.functional.gelu(self.down(output)))
        return changed


class Adapter(Options, Strategy):
    """Only the adapters, the layer norms and the head are trained."""

    merges: ClassVar[bool] = False

    size: Annotated[int, Field(ge=1)] = 64
    targets: Annotated[list[str], Field(min_length=1, description="ends of the names of the wrapped linear layers")] = _OUTPUTS

    def apply(self, model: TaskModel, generator: torch.Generator) -> None:
        """Freeze the backbone and wrap the layers that write into the residual stream.

        Raises:
            ConfigError: none is called so.
        """
        backbone = model.backbone
        backbone.requires_grad_(False)
        for module in backbone.modules():
            if isinstance(module, nn.LayerNorm):
                module.requires_grad_(True)
        linear = {name: module for name, module in backbone.named_modules() if isinstance(module, nn.Linear)}
        wrapped = [name for name in linear if any(f".{name}".endswith(f".{target}") for target in self.targets)]
        if not wrapped:
            endings = sorted({".".join(name.split(".")[-2:]) for name in linear})
            raise ConfigError(
                f"strategy.adapter.targets: no linear layer ends in {', '.join(self.targets)}; there are: {', '.join(endings)}"
            )
        for name in wrapped:
            backbone.set_submodule(name, Bottleneck(linear[name], self.size, generator))


COMPONENT: type[Strategy] = Adapter
