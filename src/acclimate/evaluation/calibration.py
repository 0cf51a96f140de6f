"""Whether a model that says 80 % is right in 80 of 100 cases (Guo et al. 2017, https://arxiv.org/abs/1706.04599)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from acclimate import kinds


@dataclass(frozen=True)
class CalibrationBin:
    """Predictions whose confidence lies in (lower, upper]; the first bin holds its lower end too."""

    lower: float
    upper: float
    count: int
    confidence: float
    accuracy: float


def calibration_bins(kind: str, gold: Any, predictions: Any, *, num_bins: int) -> list[CalibrationBin]:
    """Mean confidence against accuracy in bins of equal width; none for a kind that gives no probabilities. Empty bins are left out."""
    found = kinds.metrics(kind).confidence(gold, predictions)
    if found is None:
        return []
    confidence, right = found
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
