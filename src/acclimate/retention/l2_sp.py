"""L2-SP: a penalty on the distance from the weights at the start (Li et al. 2018, https://arxiv.org/abs/1802.01483)."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field
from torch import nn

from acclimate.backbones.base import Backbone
from acclimate.protocols import Retention
from acclimate.retention._distance import Distance
from acclimate.settings import Options


class L2Sp(Options, Retention):
    """`strength` is the paper's alpha."""

    in_finetuning: ClassVar[bool] = True

    strength: Annotated[float, Field(gt=0)] = 0.01

    def penalty(self, backbone: Backbone) -> nn.Module:
        """The distance from the weights as they are now."""
        return Distance(backbone, self.strength)


COMPONENT: type[Retention] = L2Sp
