"""Replay: a share of every batch is general text (Scialom et al. 2022, https://arxiv.org/abs/2205.12393; Ibrahim et al. 2024, https://arxiv.org/abs/2403.08763)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Generic

import numpy as np
import torch
from pydantic import Field

from acclimate.errors import ConfigError
from acclimate.protocols import Draw, Retention, Source, ViewT
from acclimate.settings import Options

_KEY = 1
"""Of this source's own random numbers."""


@dataclass(frozen=True)
class Replayed(Generic[ViewT]):
    """Rows of a source, some of which give way to rows of another."""

    main: Source[ViewT]
    general: Source[ViewT]
    share: float

    def __len__(self) -> int:
        return len(self.main)

    def view(self, rows: np.ndarray, draw: Draw) -> ViewT:
        """The rows that stay, and behind them general ones in the place of the others."""
        generator = draw.generator(_KEY)
        stays = torch.rand(len(rows), generator=generator).numpy() >= self.share
        others = torch.randint(len(self.general), (int((~stays).sum()),), generator=generator).numpy()
        if stays.all():
            return self.main.view(rows, draw)
        replayed = self.general.view(others, draw)
        return self.main.view(rows[stays], draw).join(replayed) if stays.any() else replayed


class Replay(Options, Retention):
    """The text is `ingest.general`, without the rows that forgetting is measured on."""

    share: Annotated[float, Field(gt=0, lt=1)] = 0.05

    def source(self, main: Source[ViewT], general: Source[ViewT] | None) -> Source[ViewT]:
        """Main text with general text in it.

        Raises:
            ConfigError: there is no general text.
        """
        if general is None or len(general) == 0:
            raise ConfigError(
                "retention.replay: no general text to replay: give more of it under ingest.general than the rows that measure forgetting "
                "(pretrain.heldout_rows); fine-tuning has none"
            )
        return Replayed(main, general, self.share)


COMPONENT: type[Retention] = Replay
