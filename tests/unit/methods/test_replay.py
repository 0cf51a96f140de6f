"""A share of every batch is general text, the same after resuming."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from acclimate.data.tokens.packing import pack
from acclimate.errors import ConfigError
from acclimate.protocols import Draw
from acclimate.retention.replay import Replay
from acclimate.training.streams import PackedSource


def source(first: int) -> PackedSource:
    ids = np.arange(first, first + 800, dtype=np.uint16)
    return PackedSource(pack(ids, np.arange(0, 800, 8), sequence_length=8, word_start_bits=np.packbits(np.ones(800, dtype=bool))))


def test_general_rows_take_the_place_of_a_share() -> None:
    mixed = Replay(share=0.25).source(source(0), source(10_000))
    views = [mixed.view(np.arange(32), Draw(1, "mlm", index)) for index in range(60)]
    assert all(view.ids_BT.shape == (32, 8) for view in views)
    shares = [float((view.ids_BT[:, 0] >= 10_000).float().mean()) for view in views]
    assert abs(float(np.mean(shares)) - 0.25) < 0.04  # 1,920 draws: four standard errors are 0.04
    again = mixed.view(np.arange(32), Draw(1, "mlm", 7))
    assert torch.equal(again.ids_BT, views[7].ids_BT) and again.word_starts().shape == (32, 8)


def test_no_general_text_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"retention.replay: no general text to replay"):
        Replay().source(source(0), None)
