"""Average the weights before and after (WiSE-FT, Wortsman et al. 2022, https://arxiv.org/abs/2109.01903).

Plain MLM made the default backbone forget what classification uses; a share of the base brings it back.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar

from pydantic import Field

from acclimate.protocols import Retention, State
from acclimate.settings import Options


class WeightAverage(Options, Retention):
    """`shares` are those of the weights after training; 1 is no averaging. In fine-tuning dev chooses, and the head stays as trained."""

    in_finetuning: ClassVar[bool] = True

    shares: Annotated[list[Annotated[float, Field(gt=0, le=1)]], Field(min_length=1)] = [0.3, 0.5, 0.7, 1.0]

    def candidates(self, start: State, end: State) -> Iterator[tuple[float, State]]:
        """(1 - share) * start + share * end, tensor by tensor, in float32."""
        for share in self.shares:
            yield share, {name: start[name].float().lerp(tensor.float(), share) for name, tensor in end.items()}


COMPONENT: type[Retention] = WeightAverage
