"""The distance of a backbone's weights from those at the start, for the penalties on it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from acclimate.backbones.base import Backbone
from acclimate.training.distributed import split_as


class Distance(nn.Module):
    """Half of `strength` times the squared distance of the backbone's trained weights from those it was made with."""

    def __init__(self, backbone: Backbone, strength: float) -> None:
        super().__init__()
        self._strength, self._backbone = strength, [backbone]  # in a list: not a second owner of its weights
        self._numbers: dict[str, int] = {}
        self._is_weighed = False
        for number, (name, parameter) in enumerate(backbone.named_parameters()):
            if parameter.requires_grad:
                self._numbers[name] = number
                self.register_buffer(f"start_{number}", parameter.detach().clone(), persistent=False)

    @property
    def parameters_by_name(self) -> Mapping[str, nn.Parameter]:
        """What the distance is of."""
        weights = dict(self._backbone[0].named_parameters())
        return {name: weights[name] for name in self._numbers}

    def weigh(self, importance: Mapping[str, Tensor]) -> None:
        """Give each squared difference a weight, in the shape of its parameter."""
        self._is_weighed = True
        for name, tensor in importance.items():
            self.register_buffer(f"importance_{self._numbers[name]}", tensor, persistent=False)

    def forward(self) -> Tensor:
        """The penalty."""
        return self._strength / 2 * torch.stack([self._square(name, weight) for name, weight in self.parameters_by_name.items()]).sum()

    def _square(self, name: str, weight: Tensor) -> Tensor:
        number = self._numbers[name]
        square = (weight - split_as(getattr(self, f"start_{number}"), weight)).square()
        return (square * split_as(getattr(self, f"importance_{number}"), weight) if self._is_weighed else square).sum()
