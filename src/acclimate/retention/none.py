"""Keep the weights as pretraining leaves them (Gururangan et al. 2020, https://arxiv.org/abs/2004.10964)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from acclimate.settings import Section

if TYPE_CHECKING:
    from torch import Tensor


class Config(Section):
    """No options."""


def candidates(config: Config) -> list[float]:
    """One: the adapted weights."""
    return [1.0]


def combine(base: dict[str, Tensor], adapted: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    """The adapted weights."""
    return adapted
