"""EWC: weights that general text depends on are held to the start (Kirkpatrick et al. 2017, https://arxiv.org/abs/1612.00796).

The importance of a weight is the diagonal of the empirical Fisher information: its squared gradient, the mean over rows of general text.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from acclimate.backbones.base import Backbone
from acclimate.errors import ConfigError
from acclimate.protocols import Retention
from acclimate.retention._distance import Distance
from acclimate.settings import Options


class Ewc(Options, Retention):
    """The importances are divided by their mean, so that `strength` compares with that of `l2_sp`."""

    strength: Annotated[float, Field(gt=0)] = 0.01
    rows: Annotated[int, Field(ge=1)] = 64

    def penalty(self, backbone: Backbone) -> nn.Module:
        """The distance from the weights as they are now, unweighed until `prepare`."""
        return Distance(backbone, self.strength)

    def prepare(self, penalty: nn.Module, losses: Iterator[Tensor]) -> None:
        """Measure the importances on `rows` rows.

        Raises:
            ConfigError: there is no general text.
        """
        assert isinstance(penalty, Distance)
        parameters = penalty.parameters_by_name
        squares = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
        num_rows = 0
        for loss in islice(losses, self.rows):
            gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
            for square, gradient in zip(squares.values(), gradients, strict=True):
                if gradient is not None:
                    square += gradient.square()
            num_rows += 1
        if not num_rows:
            raise ConfigError("retention.ewc: no general text to measure importances on: give some under ingest.general")
        mean = sum(float(square.sum(dtype=torch.float64)) for square in squares.values()) / sum(map(torch.numel, squares.values()))
        penalty.weigh({name: square / mean for name, square in squares.items()})


COMPONENT: type[Retention] = Ewc
