"""Loss on text that was never trained on, with the same masks for every model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from acclimate.data.packing import PackedText, read_packed
from acclimate.training.batches import step_generator
from acclimate.training.precision import Precision

__all__ = ["PackedText", "heldout_loss", "read_packed"]

_ROWS_PER_BATCH = 32
_MASK_KEY = 7


def heldout_loss(
    model: nn.Module,
    text: PackedText,
    *,
    make_batch: Callable[..., Any],
    loss_fn: Callable[[nn.Module, Any], torch.Tensor],
    precision: Precision,
) -> float | None:
    """Mean loss per target in nats; None when there is no text. Masks depend on the row block alone."""
    device = next(model.parameters()).device
    total, num_targets = 0.0, 0
    model.eval()
    with torch.inference_mode(), precision.autocast():
        for start in range(0, len(text.ids), _ROWS_PER_BATCH):
            ids, segments = (
                torch.from_numpy(part[start : start + _ROWS_PER_BATCH].astype(np.int64, copy=False)) for part in (text.ids, text.segments)
            )
            batch = make_batch(ids, segments, step_generator(_MASK_KEY, start)).to(device)
            total += float(loss_fn(model, batch))
            num_targets += batch.num_targets
    return total / num_targets if num_targets else None
