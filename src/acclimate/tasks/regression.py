"""One number a row, as GLUE's STS-B (Wang et al. 2019, https://arxiv.org/abs/1804.07461); texts may come in pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from acclimate.settings import Section

if TYPE_CHECKING:
    from torch import Tensor

PER_TOKEN = False


class Config(Section):
    """No options."""


def gold(values: Sequence[float], labels: Sequence[str] | None) -> list[float]:
    """The numbers themselves."""
    return [float(value) for value in values]


def standardization(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation of the training labels, so that the learning rate does not depend on their unit."""
    return float(np.mean(values)), float(np.std(values)) or 1.0


def collate(values: Sequence[float], word_positions: Sequence[np.ndarray] | None, width: int) -> tuple[Tensor, int]:
    """Targets (B, 1) float32 and how many there are."""
    import torch

    return torch.tensor(values, dtype=torch.float32)[:, None], len(values)


def loss(logits_B1: Tensor, targets_B1: Tensor) -> Tensor:
    """Summed squared error, in standard deviations of the training labels."""
    from torch.nn.functional import mse_loss

    return mse_loss(logits_B1.float(), targets_B1, reduction="sum")
