"""One label a row (Devlin et al. 2019, section 4.1, https://arxiv.org/abs/1810.04805); texts may come in pairs."""

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


def gold(values: Sequence[str], labels: Sequence[str]) -> list[int]:
    """Label numbers of the rows."""
    number = {label: index for index, label in enumerate(labels)}
    return [number[value] for value in values]


def standardization(values: Sequence[Any]) -> tuple[float, float]:
    """Shift and scale of the outputs: none."""
    return 0.0, 1.0


def collate(values: Sequence[int], word_positions: Sequence[np.ndarray] | None, width: int) -> tuple[Tensor, int]:
    """Targets (B,) int64 and how many there are."""
    import torch

    return torch.tensor(values, dtype=torch.int64), len(values)


def loss(logits_BC: Tensor, targets_B: Tensor) -> Tensor:
    """Summed cross-entropy."""
    from torch.nn.functional import cross_entropy

    return cross_entropy(logits_BC.float(), targets_B, reduction="sum")
