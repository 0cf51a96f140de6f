"""Losses on text that was never trained on, with the same masks for every model."""

from __future__ import annotations

from typing import Any

import torch

from acclimate.protocols import Trained
from acclimate.training.precision import Precision
from acclimate.training.streams import Stream

_SEED = 7
BATCH_SIZE = 32


def heldout_losses(trained: Trained[Any], streams: list[Stream[Any, Any]], *, precision: Precision) -> dict[str, float]:
    """Mean losses in nats for each term, by name, over each stream's first epoch; a stream's batches depend on their number alone."""
    device = next(trained.parameters()).device
    totals: dict[str, float] = {}
    counts: dict[str, int] = {}
    trained.eval()
    with torch.inference_mode(), precision.autocast():
        for stream in streams:
            for index in range(stream.order.batches_per_epoch):
                batch = stream.batch(index)
                for name, loss in trained(batch.to(device), stream.name).items():
                    totals[name] = totals.get(name, 0.0) + float(loss)
                    counts[name] = counts.get(name, 0) + batch.counts()[name]
    return {name: total / counts[name] for name, total in totals.items() if counts[name]}
