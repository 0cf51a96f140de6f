"""Accuracy, F1 and Matthews correlation of one label a row.

Shapes: R rows, C labels, S resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from acclimate import kinds
from acclimate.evaluation.arrays import Floats, f1, finite, matrix, ratio, softmax


class Metrics:
    """Predictions are logits, (R, C).

    F1 is macro-averaged over the labels present in gold or predictions, and weighted by gold counts, as sklearn does by default;
    Matthews correlation by Gorodkin 2004 (https://doi.org/10.1016/j.compbiolchem.2004.09.006); 0 where one label alone is predicted,
    as in sklearn, since that is no better than chance.
    """

    metrics: ClassVar[tuple[kinds.Metric, ...]] = (
        kinds.Metric("accuracy"),
        kinds.Metric("macro_f1"),
        kinds.Metric("weighted_f1"),
        kinds.Metric("mcc", undefined_where="all gold labels are one"),
    )

    def row_statistics(self, gold: Any, predictions: Any, labels: Sequence[str] | None) -> Floats:
        """Hits, predicted and gold counts per label, side by side."""
        eye_CC = np.eye(len(labels or ()))
        gold_R, predicted_R = np.asarray(gold, dtype=np.int64), _decided(predictions)
        hits_R1 = (gold_R == predicted_R)[:, None]
        return np.hstack([eye_CC[gold_R] * hits_R1, eye_CC[predicted_R], eye_CC[gold_R]])

    def scores(self, statistics_UK: Floats, weights_SU: Floats) -> kinds.Scores:
        """From the weighted counts."""
        hits_SC, predicted_SC, gold_SC = np.split(weights_SU @ statistics_UK, 3, axis=1)
        f1_SC = f1(hits_SC, predicted_SC, gold_SC)
        total_S = gold_SC.sum(axis=1)
        present_SC = predicted_SC + gold_SC > 0
        return {
            "accuracy": hits_SC.sum(axis=1) / total_S,
            "macro_f1": f1_SC.sum(axis=1) / present_SC.sum(axis=1),
            "weighted_f1": (f1_SC * gold_SC).sum(axis=1) / total_S,
            "mcc": _matthews(hits_SC.sum(axis=1), predicted_SC, gold_SC, total_S),
        }

    def confidence(self, gold: Any, predictions: Any) -> tuple[Floats, Floats]:
        """The greatest softmax probability, and whether its label is right."""
        probability_RC = softmax(matrix(predictions))
        right_R = probability_RC.argmax(axis=1) == np.asarray(gold)
        return probability_RC.max(axis=1), right_R.astype(np.float64)

    def confusion(self, gold: Any, predictions: Any, labels: Sequence[str] | None) -> list[dict[str, str]]:
        """Actual and predicted label of each row."""
        names = labels or ()
        return [{"actual": names[row], "predicted": names[found]} for row, found in zip(gold, _decided(predictions), strict=True)]


def _decided(logits: Any) -> NDArray[np.int64]:
    return np.asarray(finite(matrix(logits)).argmax(axis=1), dtype=np.int64)


def _matthews(hits_S: Floats, predicted_SC: Floats, gold_SC: Floats, total_S: Floats) -> Floats:
    covariance_S = hits_S * total_S - (predicted_SC * gold_SC).sum(axis=1)
    predicted_S = total_S**2 - (predicted_SC**2).sum(axis=1)
    gold_S = total_S**2 - (gold_SC**2).sum(axis=1)
    return np.where(gold_S > 0, ratio(covariance_S, np.sqrt(predicted_S * gold_S)), np.nan)


COMPONENT: type[kinds.Metrics] = Metrics
