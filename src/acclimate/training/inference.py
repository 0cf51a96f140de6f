"""Logits of many rows, in batches of similar length."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch

from acclimate.data.tokens.encoding import Encoded
from acclimate.training.batches import LabelledBatch, by_length, pad_rows
from acclimate.training.finetuning import FineTuned
from acclimate.training.precision import Precision
from acclimate.training.task_model import TaskModel

TOKENS_PER_BATCH = 4096


def predict_logits(model: TaskModel, encoded: Encoded, *, precision: Precision) -> list[np.ndarray]:
    """Float32 logits of each row, in the rows' order.

    Returns:
        Arrays of shape (C,), or for a task that labels words (kept words, C), read at the first sub-token of each word.
    """
    device = next(model.parameters()).device
    logits: list[np.ndarray] = [np.empty(0)] * (len(encoded.offsets) - 1)
    model.eval()
    with torch.inference_mode():
        for rows in by_length(encoded, tokens_per_batch=TOKENS_PER_BATCH):
            padded = pad_rows(encoded, rows, model.backbone.pad_id, longest=model.spec.max_length)
            ids_BT, mask_BT, type_ids_BT = (tensor.to(device) for tensor in padded)
            with precision.autocast():
                output = model(ids_BT, mask_BT, type_ids_BT)
            values = output.float().cpu().numpy()
            for row, value in zip(rows, values, strict=True):
                logits[row] = value[encoded.word_positions[row]] if encoded.word_positions is not None else value
    return logits


def mean_loss(trained: FineTuned, batches: Iterable[LabelledBatch], *, precision: Precision) -> tuple[float, float]:
    """The task's loss for each target, without dropout, and its standard error over rows; 0 where nothing is predicted."""
    device = next(trained.parameters()).device
    losses_R, targets_R = np.empty(0), np.empty(0)
    trained.eval()
    with torch.inference_mode(), precision.autocast():
        for batch in batches:
            losses_R = np.append(losses_R, trained.row_losses(batch.to(device)).double().cpu().numpy())
            targets_R = np.append(targets_R, batch.terms_B.double().cpu().numpy())
    if not targets_R.sum():
        return 0.0, 0.0
    mean = losses_R.sum() / targets_R.sum()
    residuals_R = losses_R - mean * targets_R
    error = np.sqrt((residuals_R**2).sum() * len(residuals_R) / max(1, len(residuals_R) - 1)) / targets_R.sum()
    return float(mean), float(error)
