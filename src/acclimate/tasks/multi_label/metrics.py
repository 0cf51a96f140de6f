"""F1 and exact matches of any number of labels a row.

Shapes: R rows, C labels, S resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from acclimate import kinds
from acclimate.evaluation.arrays import Floats, f1, finite, matrix, ratio_or_nan, sigmoid


class Metrics:
    """Predictions are logits, (R, C); a label is given where its sigmoid is above 0.5.

    F1 from pooled counts, F1 averaged over all labels (0 for one that is neither gold nor predicted, as in sklearn), and the share of
    rows that are wholly right.
    """

    metrics: ClassVar[tuple[kinds.Metric, ...]] = (
        kinds.Metric("micro_f1", undefined_where="neither gold nor prediction holds a label"),
        kinds.Metric("macro_f1"),
        kinds.Metric("subset_accuracy"),
    )

    def row_statistics(self, gold: Any, predictions: Any, labels: Sequence[str] | None) -> Floats:
        """Hits, predicted and gold counts per label, side by side; exact matches and rows."""
        gold_RC = matrix(gold)
        predicted_RC = (finite(matrix(predictions)) > 0).astype(np.int8)  # sigmoid(x) > 0.5
        exact_R1 = (gold_RC == predicted_RC).all(axis=1)[:, None]
        return np.hstack([gold_RC * predicted_RC, predicted_RC, gold_RC, exact_R1, np.ones_like(exact_R1)])

    def scores(self, statistics_UK: Floats, weights_SU: Floats) -> kinds.Scores:
        """From the weighted counts."""
        totals = weights_SU @ statistics_UK
        hits_SC, predicted_SC, gold_SC = np.split(totals[:, :-2], 3, axis=1)
        return {
            "micro_f1": ratio_or_nan(2 * hits_SC.sum(axis=1), predicted_SC.sum(axis=1) + gold_SC.sum(axis=1)),
            "macro_f1": f1(hits_SC, predicted_SC, gold_SC).mean(axis=1),
            "subset_accuracy": totals[:, -2] / totals[:, -1],
        }

    def confidence(self, gold: Any, predictions: Any) -> tuple[Floats, Floats]:
        """The sigmoid of every label of every row, and whether the row has the label."""
        flat_logits = np.concatenate([np.asarray(row, dtype=np.float64) for row in predictions])
        flat_gold = np.concatenate([np.asarray(row, dtype=np.float64) for row in gold])
        return sigmoid(flat_logits), flat_gold

    def confusion(self, gold: Any, predictions: Any, labels: Sequence[str] | None) -> None:
        """None: a row has not one label."""
        return


COMPONENT: type[kinds.Metrics] = Metrics
