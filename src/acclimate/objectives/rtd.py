"""Replaced-token detection: a small generator fills masks, the backbone finds what it replaced (ELECTRA, Clark et al. 2020, https://arxiv.org/abs/2003.10555).

The generator is the bottom of the backbone at the start, with the embeddings shared and a masked-language-model head.
Shape suffixes: B rows, T tokens, M masked positions, D width, V vocabulary.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from acclimate.backbones.base import Backbone
from acclimate.errors import ConfigError
from acclimate.objectives._masked_lm import LmHead, MaskedBatch, corrupt, is_special, make_head, require_mask
from acclimate.protocols import Batch, Draw, Facts, Losses, Objective, PackedRows, Trained
from acclimate.settings import Options


@dataclass(frozen=True)
class RtdBatch(Batch):
    """A masked batch, the rows before masking, and the numbers that the generator's tokens are drawn by."""

    masked: MaskedBatch
    ids_BT: Tensor
    judged_BT: Tensor
    """True where the backbone says whether a token was replaced: not at special ones."""
    noise_M: Tensor
    """Uniform in [0, 1)."""

    @property
    def num_rows(self) -> int:
        """Rows."""
        return len(self.ids_BT)

    @property
    def num_tokens(self) -> int:
        """Packed rows hold no padding."""
        return self.ids_BT.numel()

    def counts(self) -> dict[str, int]:
        """Masked positions, and judged ones."""
        return {"rtd_generator": len(self.masked.labels_M), "rtd": int(self.judged_BT.sum())}

    def part(self, start: int, stop: int) -> RtdBatch:
        """Some of the rows."""
        tokens = self.ids_BT.shape[1]
        first, last = np.searchsorted(self.masked.masked.numpy(), (start * tokens, stop * tokens))
        return RtdBatch(self.masked.part(start, stop), self.ids_BT[start:stop], self.judged_BT[start:stop], self.noise_M[first:last])


class RtdModel(Trained[RtdBatch]):
    """Generator and backbone."""

    needs_warmup = True

    def __init__(self, backbone: Backbone, generator: Backbone, lm_head: LmHead, weight: float) -> None:
        super().__init__()
        self.backbone, self.generator, self.lm_head = backbone, generator, lm_head
        self.dense, self.head = nn.Linear(backbone.width, backbone.width), nn.Linear(backbone.width, 1)
        self.weights = {"rtd_generator": 1.0, "rtd": weight}

    def forward(self, batch: RtdBatch, stream: str) -> Losses:
        """The generator's cross-entropy, and the backbone's over every judged token."""
        masked = batch.masked
        num_masked = len(masked.labels_M)
        hidden_MD = self.generator.packed(masked.ids_BT, masked.segments_BT, at=masked.at, pieces=masked.pieces)
        logits_MV = self.lm_head.logits(self.generator, hidden_MD[:num_masked]).float()
        loss = nn.functional.cross_entropy(logits_MV, masked.labels_M, reduction="sum")
        with torch.no_grad():
            below_MV = logits_MV.softmax(-1).cumsum(-1)
            sampled_M = torch.searchsorted(below_MV, batch.noise_M[:, None] * below_MV[:, -1:]).squeeze(1).clamp_max(logits_MV.shape[1] - 1)
            ids = batch.ids_BT.flatten().scatter(0, masked.at.flat_M[:num_masked], sampled_M)
            replaced = (ids != batch.ids_BT.flatten()).float()
        hidden_BTD = self.backbone.packed(ids.view_as(batch.ids_BT), masked.segments_BT)
        scores = self.head(nn.functional.gelu(self.dense(hidden_BTD))).flatten().float()
        losses = nn.functional.binary_cross_entropy_with_logits(scores, replaced, reduction="none")
        return {"rtd_generator": loss, "rtd": (losses * batch.judged_BT.flatten()).sum()}

    def kept(self) -> nn.Module:
        """The backbone; the generator is left behind."""
        return self.backbone

    def card(self) -> dict[str, Any]:
        """How large the generator is."""
        return {"generator_layers": len(self.generator.blocks())}


class Rtd(Options):
    """`weight` is that of the backbone's loss beside the generator's."""

    view: ClassVar[type[PackedRows]] = PackedRows
    divisible: ClassVar[bool] = True
    shapes: ClassVar[tuple[str, ...]] = ("encoder",)

    rate: Annotated[float, Field(gt=0, lt=1)] = 0.15
    generator_layers: Annotated[int, Field(ge=1)] = 2
    discriminator_weight: Annotated[float, Field(gt=0)] = 50.0

    def build(self, backbone: Backbone, facts: Facts, generator: torch.Generator) -> RtdModel:
        """The backbone beside a generator made of its bottom.

        Raises:
            ConfigError: the backbone has fewer layers than the generator.
        """
        require_mask(facts.vocabulary)
        if self.generator_layers > len(backbone.blocks()):
            raise ConfigError(
                f"objectives.rtd.generator_layers is {self.generator_layers}; the backbone has {len(backbone.blocks())} layers"
            )
        bottom = copy.deepcopy(backbone)
        blocks = bottom.blocks()
        held = next(module for module in bottom.modules() if isinstance(module, nn.ModuleList) and list(module) == blocks)
        del held[self.generator_layers :]
        bottom.model.set_input_embeddings(backbone.model.get_input_embeddings())
        return RtdModel(backbone, bottom, make_head(bottom, facts), self.discriminator_weight)

    def batch(self, view: PackedRows, facts: Facts, draw: Draw) -> RtdBatch:
        """Every chosen token is masked."""
        generator, vocabulary = draw.generator(), facts.vocabulary
        ids = view.ids_BT.numpy().ravel()
        judged = ~is_special(vocabulary.size, vocabulary.special_ids)[ids]
        masked_M = np.flatnonzero((torch.rand(ids.shape, generator=generator).numpy() < np.float32(self.rate)) & judged)
        masked = corrupt(
            view.ids_BT, view.segments_BT, masked_M, generator, vocabulary, mask_share=1.0, random_share=0.0, loss="rtd_generator"
        )
        noise_M = torch.rand(len(masked_M), generator=generator)
        return RtdBatch(masked, view.ids_BT, torch.from_numpy(judged).view_as(view.ids_BT), noise_M)


COMPONENT: type[Objective[PackedRows, RtdBatch]] = Rtd
