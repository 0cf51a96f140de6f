"""Masked-language modelling of whole words (whole word masking in Devlin et al. 2019's second release; Cui et al. 2021, https://arxiv.org/abs/1906.08101).

Shape suffixes: B rows, T tokens, M masked positions of the batch.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field

from acclimate.backbones.base import Backbone
from acclimate.objectives._masked_lm import MaskedBatch, MaskedLm, corrupt, is_special, make_head, require_mask
from acclimate.protocols import Draw, Facts, Objective, PackedRows
from acclimate.settings import Options


class WholeWordMlm(Options):
    """A word is masked with all of its tokens or not at all."""

    view: ClassVar[type[PackedRows]] = PackedRows
    divisible: ClassVar[bool] = True
    shapes: ClassVar[tuple[str, ...]] = ("encoder",)

    rate: Annotated[float, Field(gt=0, lt=1)] = 0.15
    mask_share: Annotated[float, Field(ge=0, le=1)] = 0.8
    random_share: Annotated[float, Field(ge=0, le=1)] = 0.1

    def build(self, backbone: Backbone, facts: Facts, generator: torch.Generator) -> MaskedLm:
        """The backbone with its own head, or one made for it."""
        require_mask(facts.vocabulary)
        return MaskedLm(backbone, make_head(backbone, facts), "whole_word_mlm")

    def batch(self, view: PackedRows, facts: Facts, draw: Draw) -> MaskedBatch:
        """Choose a share of the words and corrupt their tokens. The first token of a row begins a word: what is before it is not here."""
        generator, vocabulary = draw.generator(), facts.vocabulary
        starts_BT = view.word_starts().clone()
        starts_BT[:, 0] = True
        word = starts_BT.numpy().ravel().cumsum() - 1
        is_chosen = torch.rand(int(word[-1]) + 1, generator=generator).numpy() < np.float32(self.rate)
        ids = view.ids_BT.numpy().ravel()
        masked_M = np.flatnonzero(is_chosen[word] & ~is_special(vocabulary.size, vocabulary.special_ids)[ids])
        shares = {"mask_share": self.mask_share, "random_share": self.random_share}
        return corrupt(view.ids_BT, view.segments_BT, masked_M, generator, vocabulary, **shares, loss="whole_word_mlm")


COMPONENT: type[Objective[PackedRows, MaskedBatch]] = WholeWordMlm
