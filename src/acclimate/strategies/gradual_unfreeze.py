"""Gradual unfreezing: the head first, then one layer after the other from the top (Howard and Ruder 2018, section 3.3, https://arxiv.org/abs/1801.06146)."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from pydantic import Field

from acclimate.protocols import Group, Rates, Strategy
from acclimate.settings import Options
from acclimate.training.task_model import TaskModel


class GradualUnfreeze(Options, Strategy):
    """After the share `until` of the steps every layer is trained; layers open at equal distances before that, the embeddings last."""

    until: Annotated[float, Field(gt=0, lt=1)] = 0.5

    def groups(self, model: TaskModel, rates: Rates) -> list[Group]:
        """A group with a gate for each layer, and the head, which is always open."""
        layers = model.backbone.layers()
        return [
            *(
                Group(
                    list(layer.parameters()),
                    rates.learning_rate,
                    rates.weight_decay,
                    partial(_open_after, self.until * (len(layers) - depth) / len(layers)),
                )
                for depth, layer in enumerate(layers)
            ),
            Group(list(model.head.parameters()), rates.head_learning_rate, rates.weight_decay),
        ]


def _open_after(share: float, step: int, steps: int) -> float:
    return float(step >= share * steps)


COMPONENT: type[Strategy] = GradualUnfreeze
