"""Arithmetic that the metrics of several kinds share.

Shapes: R rows, C labels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from acclimate.errors import ModelError

Floats = NDArray[np.float64]


def matrix(rows: Any) -> Floats:
    """A column of equally long lists as one matrix."""
    if isinstance(rows, np.ndarray) and rows.ndim == 2:
        return rows.astype(np.float64, copy=False)
    return np.stack([np.asarray(row, dtype=np.float64) for row in rows])


def finite(logits: Floats) -> Floats:
    """Logits as they are.

    Raises:
        ModelError: one is not finite.
    """
    if not np.isfinite(logits).all():
        raise ModelError("a logit is not finite; the model diverged: lower the learning rate")
    return logits


def ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Division where nothing divided by nothing is 0, as sklearn's `zero_division` default."""
    return np.divide(numerator, denominator, out=np.zeros_like(numerator, dtype=np.float64), where=denominator > 0)


def ratio_or_nan(numerator: Floats, denominator: Floats) -> Floats:
    """Division where anything divided by nothing is NaN: undefined."""
    return np.divide(numerator, denominator, out=np.full_like(numerator, np.nan, dtype=np.float64), where=denominator > 0)


def f1(hits: Floats, predicted: Floats, gold: Floats) -> Floats:
    """F1 from counts; 0 where there is neither prediction nor gold."""
    return ratio(2 * hits, predicted + gold)


def softmax(logits_RC: Floats) -> Floats:
    """Probabilities of each row."""
    exponential_RC = np.exp(logits_RC - logits_RC.max(axis=1, keepdims=True))
    return np.asarray(exponential_RC / exponential_RC.sum(axis=1, keepdims=True))


def sigmoid(logits: Floats) -> Floats:
    """Probabilities of yes-or-no answers, without overflow."""
    return np.asarray(0.5 * (1 + np.tanh(logits / 2)))
