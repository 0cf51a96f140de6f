"""Distillation from the start: hidden states on general text stay those of the encoder before (Li and Hoiem 2016, https://arxiv.org/abs/1606.09282).

The loss is the cosine loss of DistilBERT (Sanh et al. 2019, https://arxiv.org/abs/1910.01108). Shape suffixes: B rows, T tokens, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from acclimate.backbones.base import Backbone
from acclimate.protocols import Batch, Draw, Facts, Losses, Objective, PackedRows, Reference, Retention, Trained
from acclimate.settings import Options

LOSS = "distillation"


@dataclass(frozen=True)
class PackedBatch(Batch):
    """Packed rows as they stand in the text."""

    ids_BT: Tensor
    segments_BT: Tensor

    def counts(self) -> dict[str, int]:
        """Tokens."""
        return {LOSS: self.ids_BT.numel()}

    @property
    def num_tokens(self) -> int:
        """All of them are real."""
        return self.ids_BT.numel()


class Distilled(Trained[PackedBatch]):
    """A backbone beside itself at the start."""

    def __init__(self, backbone: Backbone, strength: float) -> None:
        super().__init__()
        self.backbone, self.teacher = backbone, Reference(backbone)
        self.weights = {LOSS: strength}

    def forward(self, batch: PackedBatch, stream: str) -> Losses:
        """One minus the cosine of both hidden states, summed over tokens."""
        with torch.no_grad():
            teacher_BTD = self.teacher.model.packed(batch.ids_BT, batch.segments_BT)  # type: ignore[operator]
        hidden_BTD = self.backbone.packed(batch.ids_BT, batch.segments_BT)
        return {LOSS: (1 - nn.functional.cosine_similarity(hidden_BTD.float(), teacher_BTD.float(), dim=-1)).sum()}

    def kept(self) -> nn.Module:
        """The backbone."""
        return self.backbone


@dataclass(frozen=True)
class Imitation:
    """The objective: be as at the start."""

    strength: float
    view: ClassVar[type[PackedRows]] = PackedRows
    divisible: ClassVar[bool] = True
    shapes: ClassVar[tuple[str, ...]] = ("encoder",)

    def build(self, backbone: Backbone, facts: Facts, generator: torch.Generator) -> Distilled:
        """The backbone and a copy."""
        return Distilled(backbone, self.strength)

    def batch(self, view: PackedRows, facts: Facts, draw: Draw) -> PackedBatch:
        """The rows as they are."""
        return PackedBatch(view.ids_BT, view.segments_BT)


class Distillation(Options, Retention):
    """`strength` is the weight of the loss; `share` is how many rows of general text are read for each row of the corpus."""

    strength: Annotated[float, Field(gt=0)] = 1.0
    share: Annotated[float, Field(gt=0)] = 0.25

    def objective(self) -> Objective[PackedRows, PackedBatch]:
        """On general text."""
        return Imitation(self.strength)

    def general_rows(self, batch_size: int) -> int:
        """The share of a batch, one row at least."""
        return max(1, round(batch_size * self.share))


COMPONENT: type[Retention] = Distillation
