"""Official metrics, from gold labels and predictions: what a kind calls them and sums for them stands in `tasks/<kind>/metrics.py`.

Every metric is a function of weighted sums over units, mostly rows, so one piece of code gives the score of a test set and
of all its bootstrap resamples at once (`significance.py`). Written in NumPy because importing sklearn.metrics
costs 1.6 s in every fine-tuning process; `tests/parity/test_metrics.py` holds it to sklearn, scipy and seqeval.

Shapes: U units, S resamples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from acclimate import kinds
from acclimate.errors import DataError
from acclimate.evaluation.arrays import Floats


@dataclass(frozen=True)
class RowStatistics:
    """What the metrics of a kind need to know of each unit; `per_row` has shape (U, columns)."""

    kind: str
    per_row: Floats


def score(kind: str, gold: Any, predictions: Any, *, labels: Sequence[str] | None) -> dict[str, float]:
    """Score predictions against gold labels, by every metric that is defined for them.

    Args:
        kind: a kind of task.
        gold: the `gold` column of predictions.parquet.
        predictions: its `prediction` column.
        labels: the schema's labels, in the order of the logits; None for a kind without.

    Raises:
        ConfigError: there is no such kind.
        DataError: there are no rows, or gold and predictions do not fit each other.
        ModelError: a logit is not finite.
    """
    return plain_scores(row_statistics(kind, gold, predictions, labels=labels))


def plain_scores(statistics: RowStatistics) -> dict[str, float]:
    """Every metric that is defined, each unit counted once."""
    scores = resampled_scores(statistics, np.ones((1, len(statistics.per_row))))
    return {name: float(values[0]) for name, values in scores.items() if np.isfinite(values[0])}


def goodness(scores: Mapping[str, float], kind: str, metric: str) -> float:
    """A score for ranking: higher is better, and an undefined one is worse than any."""
    if metric not in scores:
        return -math.inf
    return scores[metric] if kinds.higher_is_better(kind, metric) else -scores[metric]


def row_statistics(kind: str, gold: Any, predictions: Any, *, labels: Sequence[str] | None) -> RowStatistics:
    """Reduce each unit to the numbers that the metrics of its kind sum over. Arguments and errors as `score`."""
    metrics = kinds.metrics(kind)
    if len(gold) == 0 or len(gold) != len(predictions):
        raise DataError(f"predictions hold {len(gold)} gold labels and {len(predictions)} rows of logits; they must agree and not be empty")
    return RowStatistics(kind, metrics.row_statistics(gold, predictions, labels))


def resampled_scores(statistics: RowStatistics, weights_SU: Floats) -> dict[str, Floats]:
    """Every metric on weighted units, for many weightings at once.

    Args:
        weights_SU: how often each unit counts; all ones is the plain score, multinomial counts are bootstrap resamples.

    Returns:
        Each metric's values, shape (S,); NaN where it is undefined.
    """
    scores = kinds.metrics(statistics.kind).scores(statistics.per_row, np.asarray(weights_SU, dtype=np.float64))
    return {name: scores[name] for name in kinds.metric_names(statistics.kind)}
