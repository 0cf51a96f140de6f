"""LoRA: frozen weights plus a trained product of two thin matrices (Hu et al. 2022, https://arxiv.org/abs/2106.09685)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from acclimate.errors import ConfigError
from acclimate.settings import Section

if TYPE_CHECKING:
    from torch import nn


class Config(Section):
    """Options of LoRA."""

    rank: Annotated[int, Field(ge=1)] = 8
    alpha: Annotated[float, Field(gt=0)] = 16.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: Annotated[list[str], Field(min_length=1)] = ["query", "value"]
    learning_rate_scale: Annotated[float, Field(gt=0)] = 10.0
    """LoRA wants about ten times the rate of full fine-tuning (Biderman et al. 2024, https://arxiv.org/abs/2405.09673)."""


def apply(encoder: nn.Module, config: Config) -> None:
    """Freeze the encoder and wrap each linear layer whose name ends in one of `config.targets`.

    Raises:
        ConfigError: no layer of that name.
    """
    from acclimate.models.low_rank import wrap_linear_layers

    unknown = wrap_linear_layers(encoder, rank=config.rank, alpha=config.alpha, dropout=config.dropout, targets=config.targets)
    if unknown:
        raise ConfigError(f"finetune.strategies.lora.targets: no linear layer called {unknown}")


def merge(encoder: nn.Module) -> None:
    """Fold the product into each wrapped weight and unwrap; the logits stay the same."""
    from acclimate.models.low_rank import unwrap_linear_layers

    unwrap_linear_layers(encoder)


def learning_rate_scale(config: Config) -> float:
    """Factor on `finetune.lr`."""
    return config.learning_rate_scale
