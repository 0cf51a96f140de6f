"""A word is masked whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from acclimate.data.tokens.encoding import read_vocabulary
from acclimate.objectives.whole_word_mlm import WholeWordMlm
from acclimate.protocols import Draw, Facts, PackedRows


def test_words_are_masked_whole_and_as_often_as_asked(tiny_encoder_dir: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    starts_BT = torch.rand(64, 128, generator=generator) < 0.5
    ids_BT = torch.randint(1000, 30000, (64, 128), generator=generator)
    facts = Facts(read_vocabulary(tiny_encoder_dir), 0, np.ones(30522), dict)
    view = PackedRows(ids_BT, torch.ones_like(ids_BT), lambda: starts_BT)
    batch = WholeWordMlm(rate=0.3).batch(view, facts, Draw(1, "whole_word_mlm", 0))
    is_masked = torch.zeros(64 * 128, dtype=torch.bool)
    is_masked[batch.masked] = True
    starts_BT = starts_BT.clone()
    starts_BT[:, 0] = True
    word = starts_BT.flatten().cumsum(0)
    for number in range(1, int(word[-1]) + 1):
        of_word = is_masked[word == number]
        assert of_word.all() or not of_word.any()
    share = float(is_masked[starts_BT.flatten()].float().mean())
    # some 4,100 words: four standard errors of a share of 0.3 are 0.029
    assert abs(share - 0.3) < 0.029
    assert torch.equal(batch.labels_M, ids_BT.flatten()[batch.masked])
