"""Logits of many rows, in batches of similar length."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from acclimate.data.encoding import Encoded
from acclimate.models.task_model import TaskModel
from acclimate.training.batches import PaddedBatch, by_length, pad_rows
from acclimate.training.precision import Precision

TOKENS_PER_BATCH = 4096


def predict_logits(model: TaskModel, encoded: Encoded, *, precision: Precision, pad_id: int) -> list[np.ndarray]:
    """Float32 logits of each row, in the rows' order.

    Returns:
        Arrays of shape (C,), or for a task that labels words (kept words, C), read at the first sub-token of each word.
    """
    device = next(model.parameters()).device
    logits: list[np.ndarray] = [np.empty(0)] * (len(encoded.offsets) - 1)
    model.eval()
    with torch.inference_mode():
        for rows in by_length(encoded, tokens_per_batch=TOKENS_PER_BATCH):
            ids_BT, mask_BT, type_ids_BT = (tensor.to(device) for tensor in pad_rows(encoded, rows, pad_id))
            with precision.autocast():
                output = model(ids_BT, mask_BT, type_ids_BT)
            values = output.float().cpu().numpy()
            for row, value in zip(rows, values, strict=True):
                logits[row] = value[encoded.word_positions[row]] if encoded.word_positions is not None else value
    return logits


def mean_loss(
    model: TaskModel,
    rows: Sequence[np.ndarray],
    loss_fn: Callable[[TaskModel, PaddedBatch], Tensor],
    make_batch: Callable[[np.ndarray], PaddedBatch],
    *,
    precision: Precision,
) -> float:
    """Loss per target over batches of rows, without dropout; 0 where nothing is predicted."""
    device = next(model.parameters()).device
    total, num_targets = 0.0, 0
    model.eval()
    with torch.inference_mode(), precision.autocast():
        for batch in map(make_batch, rows):
            total += float(loss_fn(model, batch.to(device)))
            num_targets += batch.num_targets
    return total / num_targets if num_targets else 0.0
