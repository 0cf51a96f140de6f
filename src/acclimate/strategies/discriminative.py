"""Layer-wise rates: each layer learns slower than the one above it (Howard and Ruder 2018, section 3.2, https://arxiv.org/abs/1801.06146)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from acclimate.protocols import Group, Rates, Strategy
from acclimate.settings import Options
from acclimate.training.task_model import TaskModel


class Discriminative(Options, Strategy):
    """The top layer has the recipe's rate, each one below it `decay` times that of the one above."""

    decay: Annotated[float, Field(gt=0, le=1)] = 0.9

    def groups(self, model: TaskModel, rates: Rates) -> list[Group]:
        """A group for each layer, the embeddings first, and the head."""
        layers = model.backbone.layers()
        return [
            *(
                Group(list(layer.parameters()), rates.learning_rate * self.decay ** (len(layers) - 1 - depth), rates.weight_decay)
                for depth, layer in enumerate(layers)
            ),
            Group(list(model.head.parameters()), rates.head_learning_rate, rates.weight_decay),
        ]


COMPONENT: type[Strategy] = Discriminative
