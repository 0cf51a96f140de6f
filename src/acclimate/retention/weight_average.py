"""Average the weights before and after (WiSE-FT, Wortsman et al. 2022, https://arxiv.org/abs/2109.01903).

Plain MLM made the default backbone forget what classification uses; a share of the base brings it back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from acclimate.settings import Section

if TYPE_CHECKING:
    from torch import Tensor


class Config(Section):
    """Options of weight averaging."""

    shares: Annotated[list[Annotated[float, Field(gt=0, le=1)]], Field(min_length=1)] = [0.3, 0.5, 0.7, 1.0]
    """Shares of the adapted weights to try; 1 is no averaging."""


def candidates(config: Config) -> list[float]:
    """The shares to choose from."""
    return list(config.shares)


def combine(base: dict[str, Tensor], adapted: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    """(1 - share) * base + share * adapted, tensor by tensor, in fp32."""
    return {name: base[name].float().lerp(tensor.float(), share) for name, tensor in adapted.items()}
