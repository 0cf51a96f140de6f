"""L2-SP: a penalty on the distance from the weights at the start (Li et al. 2018, https://arxiv.org/abs/1802.01483)."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from acclimate.backbones.base import Backbone
from acclimate.protocols import Retention
from acclimate.settings import Options
from acclimate.training.distributed import split_as


class Distance(nn.Module):
    """Half of `strength` times the squared distance of the backbone's trained weights from those it was made with."""

    def __init__(self, backbone: Backbone, strength: float) -> None:
        super().__init__()
        self._strength, self._backbone = strength, [backbone]  # in a list: not a second owner of its weights
        self._starts: dict[str, str] = {}
        for number, (name, parameter) in enumerate(backbone.named_parameters()):
            if parameter.requires_grad:
                self._starts[name] = f"start_{number}"
                self.register_buffer(f"start_{number}", parameter.detach().clone(), persistent=False)

    def forward(self) -> Tensor:
        """The penalty."""
        weights = dict(self._backbone[0].named_parameters())
        squares = [(weights[name] - split_as(getattr(self, start), weights[name])).square().sum() for name, start in self._starts.items()]
        return self._strength / 2 * torch.stack(squares).sum()


class L2Sp(Options, Retention):
    """`strength` is the paper's alpha."""

    strength: Annotated[float, Field(gt=0)] = 0.01

    def penalty(self, backbone: Backbone) -> nn.Module:
        """The distance from the weights as they are now."""
        return Distance(backbone, self.strength)


COMPONENT: type[Retention] = L2Sp
