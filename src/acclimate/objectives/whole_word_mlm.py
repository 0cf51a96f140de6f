"""Masked-language modelling of whole words (whole word masking in Devlin et al. 2019's second release; Cui et al. 2021, https://arxiv.org/abs/1906.08101).

Shape suffixes: B rows, T tokens, M masked positions of the batch.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch

from acclimate.objectives._masked_lm import MaskedBatch, Masking, is_special
from acclimate.protocols import Draw, Facts, Objective, PackedRows


class WholeWordMlm(Masking):
    """A word is masked with all of its tokens or not at all."""

    loss: ClassVar[str] = "whole_word_mlm"

    def batch(self, view: PackedRows, facts: Facts, draw: Draw) -> MaskedBatch:
        """Choose a share of the words and corrupt their tokens. The first token of a row begins a word: what is before it is not here."""
        generator, vocabulary = draw.generator(), facts.vocabulary
        starts_BT = view.word_starts().clone()
        starts_BT[:, 0] = True
        word = starts_BT.numpy().ravel().cumsum() - 1
        is_chosen = torch.rand(int(word[-1]) + 1, generator=generator).numpy() < np.float32(self.rate)
        ids = view.ids_BT.numpy().ravel()
        masked_M = np.flatnonzero(is_chosen[word] & ~is_special(vocabulary.size, vocabulary.special_ids)[ids])
        return self.corrupted(view, masked_M, facts, generator)


COMPONENT: type[Objective[PackedRows, MaskedBatch]] = WholeWordMlm
