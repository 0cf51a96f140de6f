"""LoRA: frozen weights plus a trained product of two thin matrices (Hu et al. 2022, https://arxiv.org/abs/2106.09685)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from acclimate.config import Section
from acclimate.errors import ConfigError

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
    from torch import nn

    from acclimate.models.low_rank import LowRankLinear

    encoder.requires_grad_(False)
    linear = {name: module for name, module in encoder.named_modules() if isinstance(module, nn.Linear)}
    endings = {name.rsplit(".", 1)[-1] for name in linear}
    unknown = sorted(set(config.targets) - endings)
    if unknown:
        raise ConfigError(
            f"finetune.strategies.lora.targets: no linear layer called {', '.join(unknown)}; allowed: {', '.join(sorted(endings))}"
        )
    for name, module in linear.items():
        if name.rsplit(".", 1)[-1] in config.targets:
            wrapped = LowRankLinear(module, rank=config.rank, alpha=config.alpha, dropout=config.dropout)
            _replace(encoder, name, wrapped)


def merge(encoder: nn.Module) -> None:
    """Fold the product into each wrapped weight and unwrap; the logits stay the same."""
    from acclimate.models.low_rank import LowRankLinear

    for name, module in list(encoder.named_modules()):
        if isinstance(module, LowRankLinear):
            _replace(encoder, name, module.merged())


def learning_rate_scale(config: Config) -> float:
    """Factor on `finetune.lr`."""
    return config.learning_rate_scale


def _replace(root: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(root.get_submodule(parent), leaf, module)
