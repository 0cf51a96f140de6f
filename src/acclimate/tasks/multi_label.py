"""Any number of labels a row: one sigmoid a label (Nam et al. 2014, https://arxiv.org/abs/1312.5419)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from acclimate.settings import Section

if TYPE_CHECKING:
    from torch import Tensor

PER_TOKEN = False


class Config(Section):
    """No options."""


def gold(values: Sequence[Sequence[str]], labels: Sequence[str]) -> list[list[int]]:
    """One 0 or 1 for each label, a row."""
    return [[int(label in set(value)) for label in labels] for value in values]


def standardization(values: Sequence[Any]) -> tuple[float, float]:
    """Shift and scale of the outputs: none."""
    return 0.0, 1.0


def collate(values: Sequence[Sequence[int]], word_positions: Sequence[np.ndarray] | None, width: int) -> tuple[Tensor, int]:
    """Targets (B, C) float32 and the number of loss terms: rows, each with the sum over its labels."""
    import torch

    return torch.tensor(np.asarray(values), dtype=torch.float32), len(values)


def loss(logits_BC: Tensor, targets_BC: Tensor) -> Tensor:
    """Binary cross-entropy, summed over rows and labels."""
    from torch.nn.functional import binary_cross_entropy_with_logits

    return binary_cross_entropy_with_logits(logits_BC.float(), targets_BC, reduction="sum")
