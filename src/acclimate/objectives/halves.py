"""Two disjoint halves of a text attract each other, those of other texts repel (DeCLUTR, Giorgi et al. 2021, https://arxiv.org/abs/2006.03659).

Shape suffixes: B rows, D width.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import nn

from acclimate.backbones.base import Backbone
from acclimate.objectives._pairs import PairBatch, halves, info_nce, pair_batch, sentence_vectors
from acclimate.protocols import Documents, Draw, Facts, Losses, Objective, Trained
from acclimate.settings import Options


class HalvesModel(Trained[PairBatch]):
    """A backbone whose mean vectors are compared."""

    def __init__(self, backbone: Backbone, temperature: float) -> None:
        super().__init__()
        self.backbone, self._temperature = backbone, temperature
        self.weights = {"halves": 1.0}

    def forward(self, batch: PairBatch, stream: str) -> Losses:
        """Each half finds its other half among those of the batch, in both directions."""
        left_BD = sentence_vectors(self.backbone, batch.left_BT, batch.left_mask_BT)
        right_BD = sentence_vectors(self.backbone, batch.right_BT, batch.right_mask_BT)
        return {"halves": info_nce(left_BD, right_BD, self._temperature)}

    def kept(self) -> nn.Module:
        """The backbone."""
        return self.backbone


class Halves(Options):
    """A text is cut at a random place in its middle third."""

    view: ClassVar[type[Documents]] = Documents
    divisible: ClassVar[bool] = False  # the rows of a batch are each other's negatives
    shapes: ClassVar[tuple[str, ...]] = ("encoder", "encoder_decoder")

    temperature: Annotated[float, Field(gt=0)] = 0.05

    def build(self, backbone: Backbone, facts: Facts, generator: torch.Generator) -> HalvesModel:
        """Nothing is added."""
        return HalvesModel(backbone, self.temperature)

    def batch(self, view: Documents, facts: Facts, draw: Draw) -> PairBatch:
        """Both halves of each text."""
        places = torch.rand(len(view.ids), generator=draw.generator()).tolist()
        left, right = zip(*(halves(ids_T, place) for ids_T, place in zip(view.ids, places, strict=True)), strict=True)
        return pair_batch(left, right, facts.pad_id, "halves")


COMPONENT: type[Objective[Documents, PairBatch]] = Halves
