"""A BIO tag for each word, read at its first sub-token (Devlin et al. 2019, section 5.3, https://arxiv.org/abs/1810.04805)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from acclimate.settings import Section

if TYPE_CHECKING:
    from torch import Tensor

PER_TOKEN = True
IGNORE = -100


class Config(Section):
    """No options."""


def gold(values: Sequence[Sequence[str]], labels: Sequence[str]) -> list[list[int]]:
    """Tag numbers of the words of each row."""
    number = {label: index for index, label in enumerate(labels)}
    return [[number[tag] for tag in tags] for tags in values]


def standardization(values: Sequence[Any]) -> tuple[float, float]:
    """Shift and scale of the outputs: none."""
    return 0.0, 1.0


def collate(values: Sequence[Sequence[int]], word_positions: Sequence[np.ndarray] | None, width: int) -> tuple[Tensor, int]:
    """Targets (B, T) int64, IGNORE but at the first sub-token of a kept word, and how many there are."""
    import torch

    assert word_positions is not None
    targets_BT = np.full((len(values), width), IGNORE, dtype=np.int64)
    for row, (tags, positions) in enumerate(zip(values, word_positions, strict=True)):
        targets_BT[row, positions] = tags[: len(positions)]
    return torch.from_numpy(targets_BT), int(sum(len(positions) for positions in word_positions))


def loss(logits_BTC: Tensor, targets_BT: Tensor) -> Tensor:
    """Cross-entropy summed over words."""
    from torch.nn.functional import cross_entropy

    return cross_entropy(logits_BTC.float().flatten(0, 1), targets_BT.flatten(), ignore_index=IGNORE, reduction="sum")
