"""Every weight of the encoder is trained (Devlin et al. 2019, https://arxiv.org/abs/1810.04805)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from acclimate.settings import Section

if TYPE_CHECKING:
    from torch import nn


class Config(Section):
    """No options."""


def apply(encoder: nn.Module, config: Config) -> None:
    """Leave every weight trainable."""
    encoder.requires_grad_(True)


def merge(encoder: nn.Module) -> None:
    """Nothing was added, so nothing is folded in."""


def learning_rate_scale(config: Config) -> float:
    """`finetune.lr` is meant for this strategy."""
    return 1.0
