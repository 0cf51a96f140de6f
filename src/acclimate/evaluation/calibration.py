"""Whether a model that says 80 % is right in 80 of 100 cases (Guo et al. 2017, https://arxiv.org/abs/1706.04599)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from acclimate.evaluation.metrics import Floats

CALIBRATED_KINDS = ("classification", "multi_label")


@dataclass(frozen=True)
class CalibrationBin:
    """Predictions whose confidence lies in (lower, upper]; the first bin holds its lower end too."""

    lower: float
    upper: float
    count: int
    confidence: float
    accuracy: float


def calibration_bins(kind: str, gold: Any, logits: Any, *, num_bins: int) -> list[CalibrationBin]:
    """Mean confidence against accuracy in bins of equal width.

    classification: the greatest softmax probability against whether its label is right. multi_label: the sigmoid of every
    label of every row against whether the row has the label. Other kinds give no probabilities, hence no bins.
    Empty bins are left out.
    """
    if kind not in CALIBRATED_KINDS:
        return []
    confidence, right = _classification(gold, logits) if kind == "classification" else _multi_label(gold, logits)
    index = np.clip(np.ceil(confidence * num_bins).astype(np.int64) - 1, 0, num_bins - 1)
    count = np.bincount(index, minlength=num_bins)
    confidence_sum = np.bincount(index, weights=confidence, minlength=num_bins)
    right_sum = np.bincount(index, weights=right, minlength=num_bins)
    return [
        CalibrationBin(i / num_bins, (i + 1) / num_bins, int(count[i]), float(confidence_sum[i] / count[i]), float(right_sum[i] / count[i]))
        for i in np.flatnonzero(count).tolist()
    ]


def expected_calibration_error(bins: list[CalibrationBin]) -> float:
    """Mean over predictions of |confidence - accuracy| of their bin, in [0, 1]."""
    total = sum(each.count for each in bins)
    return sum(each.count * abs(each.confidence - each.accuracy) for each in bins) / total


def _classification(gold: Any, logits: Any) -> tuple[Floats, Floats]:
    logits_RC = np.stack([np.asarray(row, dtype=np.float64) for row in logits])
    exponential_RC = np.exp(logits_RC - logits_RC.max(axis=1, keepdims=True))
    probability_RC = exponential_RC / exponential_RC.sum(axis=1, keepdims=True)
    right_R = probability_RC.argmax(axis=1) == np.asarray(gold)
    return probability_RC.max(axis=1), right_R.astype(np.float64)


def _multi_label(gold: Any, logits: Any) -> tuple[Floats, Floats]:
    flat_logits = np.concatenate([np.asarray(row, dtype=np.float64) for row in logits])
    flat_gold = np.concatenate([np.asarray(row, dtype=np.float64) for row in gold])
    return 0.5 * (1 + np.tanh(flat_logits / 2)), flat_gold  # the sigmoid, without overflow
