"""The official metrics of each kind of task, from gold labels and logits.

Every metric is a function of weighted sums over rows, so one piece of code gives the score of a test set and
of all its bootstrap resamples at once (`significance.py`). Written in NumPy because importing sklearn.metrics
costs 1.6 s in every fine-tuning process; `tests/parity/test_metrics.py` holds it to sklearn, scipy and seqeval.

Shapes: R rows, C labels, W words, S resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acclimate.errors import DataError, ModelError

Floats = NDArray[np.float64]

DEFAULT_METRIC: Mapping[str, str] = {
    "classification": "macro_f1",
    "multi_label": "micro_f1",
    "regression": "spearman",
    "tagging": "entity_f1",
}
"""The metric that decides where params.yaml names none."""

METRICS: Mapping[str, tuple[str, ...]] = {
    "classification": ("accuracy", "macro_f1", "weighted_f1", "mcc"),
    "multi_label": ("micro_f1", "macro_f1", "subset_accuracy"),
    "regression": ("pearson", "spearman", "rmse"),
    "tagging": ("entity_f1", "entity_precision", "entity_recall", "token_accuracy"),
}
"""Every metric that a kind is scored by."""

LOWER_IS_BETTER = frozenset({"rmse"})


@dataclass(frozen=True)
class RowStatistics:
    """What the metrics of a kind need to know of each row; `per_row` has shape (R, columns)."""

    kind: str
    per_row: Floats


def score(kind: str, gold: Any, logits: Any, *, labels: Sequence[str] | None) -> dict[str, float]:
    """Score predictions against gold labels.

    - classification: accuracy; F1 macro-averaged over the labels present in gold or predictions, and weighted by gold
      counts, as sklearn does by default; Matthews correlation (Gorodkin 2004, https://doi.org/10.1016/j.compbiolchem.2004.09.006).
    - multi_label: threshold 0.5 on the sigmoid; F1 from pooled counts and averaged over all labels; rows wholly right.
    - regression: Pearson and Spearman correlation (0 where one side is constant) and root mean squared error.
    - tagging: entities as conlleval counts them (Tjong Kim Sang and Buchholz 2000, https://aclanthology.org/W00-0726):
      an entity counts when its type and both ends are right; words cut off by truncation count as "O".

    Args:
        kind: a kind of task.
        gold: the `gold` column of predictions.parquet.
        logits: its `logits` column.
        labels: the schema's labels, in the order of the logits; None for regression.

    Raises:
        DataError: the kind is unknown, there are no rows, or gold and logits do not fit each other.
        ModelError: a logit is not finite.
    """
    statistics = row_statistics(kind, gold, logits, labels=labels)
    scores = resampled_scores(statistics, np.ones((1, len(statistics.per_row))))
    return {name: float(values[0]) for name, values in scores.items()}


def decode(kind: str, logits: Any, labels: Sequence[str] | None) -> Any:
    """Turn logits into predictions.

    Returns:
        classification: label indices, int64 (R,). multi_label: multi-hot, int8 (R, C). regression: float64 (R,).
        tagging: a list of int64 arrays, the tag index of each word that was kept.
    """
    if kind == "tagging":
        num_tags = len(labels or ())
        return [_finite(np.asarray(row, dtype=np.float64)).reshape(-1, num_tags).argmax(axis=1) for row in logits]
    logits_RC = _finite(_matrix(logits))
    if kind == "classification":
        return logits_RC.argmax(axis=1)
    if kind == "multi_label":
        return (logits_RC > 0).astype(np.int8)  # sigmoid(x) > 0.5
    if kind == "regression":
        return logits_RC[:, 0]
    raise _unknown_kind(kind)


def row_statistics(kind: str, gold: Any, logits: Any, *, labels: Sequence[str] | None) -> RowStatistics:
    """Reduce each row to the numbers that the metrics of its kind sum over. Arguments and errors as `score`."""
    if kind not in _STATISTICS:
        raise _unknown_kind(kind)
    if len(gold) == 0 or len(gold) != len(logits):
        raise DataError(f"predictions hold {len(gold)} gold labels and {len(logits)} rows of logits; they must agree and not be empty")
    return RowStatistics(kind, _STATISTICS[kind](gold, decode(kind, logits, labels), tuple(labels or ())))


def resampled_scores(statistics: RowStatistics, weights_SR: Floats) -> dict[str, Floats]:
    """Every metric on weighted rows, for many weightings at once.

    Args:
        weights_SR: how often each row counts; all ones is the plain score, multinomial counts are bootstrap resamples.

    Returns:
        Each metric's values, shape (S,).
    """
    scores = _SCORES[statistics.kind](statistics.per_row, np.asarray(weights_SR, dtype=np.float64))
    return {name: scores[name] for name in METRICS[statistics.kind]}


# Classification and multi-label: hits, predicted and gold counts per label, side by side.


def _classification_rows(gold: Any, predicted_R: NDArray[Any], labels: tuple[str, ...]) -> Floats:
    eye_CC = np.eye(len(labels))
    gold_R = np.asarray(gold, dtype=np.int64)
    hits_R1 = (gold_R == predicted_R)[:, None]
    return np.hstack([eye_CC[gold_R] * hits_R1, eye_CC[predicted_R], eye_CC[gold_R]])


def _multi_label_rows(gold: Any, predicted_RC: NDArray[Any], _: tuple[str, ...]) -> Floats:
    gold_RC = _matrix(gold)
    exact_R1 = (gold_RC == predicted_RC).all(axis=1)[:, None]
    return np.hstack([gold_RC * predicted_RC, predicted_RC, gold_RC, exact_R1, np.ones_like(exact_R1)])


def _classification_scores(per_row: Floats, weights_SR: Floats) -> dict[str, Floats]:
    hits_SC, predicted_SC, gold_SC = np.split(weights_SR @ per_row, 3, axis=1)
    f1_SC = _ratio(2 * hits_SC, predicted_SC + gold_SC)
    total_S = gold_SC.sum(axis=1)
    present_SC = predicted_SC + gold_SC > 0
    return {
        "accuracy": hits_SC.sum(axis=1) / total_S,
        "macro_f1": f1_SC.sum(axis=1) / present_SC.sum(axis=1),
        "weighted_f1": (f1_SC * gold_SC).sum(axis=1) / total_S,
        "mcc": _matthews(hits_SC.sum(axis=1), predicted_SC, gold_SC, total_S),
    }


def _matthews(hits_S: Floats, predicted_SC: Floats, gold_SC: Floats, total_S: Floats) -> Floats:
    covariance_S = hits_S * total_S - (predicted_SC * gold_SC).sum(axis=1)
    predicted_S = total_S**2 - (predicted_SC**2).sum(axis=1)
    gold_S = total_S**2 - (gold_SC**2).sum(axis=1)
    return _ratio(covariance_S, np.sqrt(predicted_S * gold_S))


def _multi_label_scores(per_row: Floats, weights_SR: Floats) -> dict[str, Floats]:
    totals = weights_SR @ per_row
    hits_SC, predicted_SC, gold_SC = np.split(totals[:, :-2], 3, axis=1)
    return {
        "micro_f1": _ratio(2 * hits_SC.sum(axis=1), (predicted_SC + gold_SC).sum(axis=1)),
        "macro_f1": _ratio(2 * hits_SC, predicted_SC + gold_SC).mean(axis=1),
        "subset_accuracy": totals[:, -2] / totals[:, -1],
    }


# Regression: gold and prediction.


def _regression_rows(gold: Any, predicted_R: NDArray[Any], _: tuple[str, ...]) -> Floats:
    return np.stack([np.asarray(gold, dtype=np.float64), predicted_R], axis=1)


def _regression_scores(per_row: Floats, weights_SR: Floats) -> dict[str, Floats]:
    gold_R, predicted_R = per_row.T
    shape_SR = weights_SR.shape
    gold_SR, predicted_SR = np.broadcast_to(gold_R, shape_SR), np.broadcast_to(predicted_R, shape_SR)
    ranks = (_weighted_ranks(gold_R, weights_SR), _weighted_ranks(predicted_R, weights_SR))
    squared_error_S = weights_SR @ (gold_R - predicted_R) ** 2
    return {
        "pearson": _correlation(gold_SR, predicted_SR, weights_SR),
        "spearman": _correlation(*ranks, weights_SR),
        "rmse": np.sqrt(squared_error_S / weights_SR.sum(axis=1)),
    }


def _weighted_ranks(values_R: Floats, weights_SR: Floats) -> Floats:
    """Mid-ranks that each row would have if it stood in the sample `weight` times; equal values share their rank."""
    _, group_R = np.unique(values_R, return_inverse=True)
    order_R = np.argsort(group_R, kind="stable")
    starts_G = np.flatnonzero(np.diff(group_R[order_R], prepend=-1))
    weight_SG = np.add.reduceat(weights_SR[:, order_R], starts_G, axis=1)
    rank_SG = np.cumsum(weight_SG, axis=1) - (weight_SG - 1) / 2
    return rank_SG[:, group_R]


def _correlation(left_SR: Floats, right_SR: Floats, weights_SR: Floats) -> Floats:
    total_S1 = weights_SR.sum(axis=1, keepdims=True)
    left_SR = left_SR - (left_SR * weights_SR).sum(axis=1, keepdims=True) / total_S1
    right_SR = right_SR - (right_SR * weights_SR).sum(axis=1, keepdims=True) / total_S1
    covariance_S = (weights_SR * left_SR * right_SR).sum(axis=1)
    left_S, right_S = (weights_SR * left_SR**2).sum(axis=1), (weights_SR * right_SR**2).sum(axis=1)
    return _ratio(covariance_S, np.sqrt(left_S * right_S))


# Tagging: entities hit, predicted and gold; words hit and all words.


def _tagging_rows(gold: Any, predicted: Sequence[NDArray[Any]], labels: tuple[str, ...]) -> Floats:
    if not labels or "O" not in labels:
        raise DataError(f"the tags of a tagging task must hold 'O'; found: {', '.join(labels)}")
    outside = labels.index("O")
    gold_rows = [np.asarray(row, dtype=np.int64) for row in gold]
    padded_rows = [_pad(row, len(gold_row), outside) for row, gold_row in zip(predicted, gold_rows, strict=True)]
    lengths_R = np.array([len(row) for row in gold_rows])
    row_of_word_W = np.repeat(np.arange(len(gold_rows)), lengths_R + 1)  # an "O" after each row keeps entities apart
    gold_W = np.concatenate([np.append(row, outside) for row in gold_rows])
    predicted_W = np.concatenate([np.append(row, outside) for row in padded_rows])
    gold_spans, predicted_spans = _spans(gold_W, labels), _spans(predicted_W, labels)
    hit_spans = gold_spans[np.isin(gold_spans, predicted_spans, assume_unique=True)]
    counts = [_count_by_row(spans, row_of_word_W, len(labels), len(gold_rows)) for spans in (hit_spans, predicted_spans, gold_spans)]
    words_hit_R = np.bincount(row_of_word_W, weights=gold_W == predicted_W, minlength=len(gold_rows)) - 1
    return np.stack([*counts, words_hit_R, lengths_R], axis=1).astype(np.float64)


def _pad(row: NDArray[Any], length: int, outside: int) -> NDArray[np.int64]:
    if len(row) > length:
        raise DataError(f"predictions hold {len(row)} tags for a row of {length} words")
    return np.append(row, np.full(length - len(row), outside)).astype(np.int64)


def _spans(tags_W: NDArray[np.int64], labels: tuple[str, ...]) -> NDArray[np.int64]:
    """Entities as one integer each, (start, end, type) packed; the last tag must be "O".

    An entity starts at B or S, after O, E or S, and where the type changes; it ends before the next start or O.
    """
    prefixes_C = np.array([label[:1] for label in labels])
    names = sorted({label[2:] for label in labels})
    types_C = np.array([names.index(label[2:]) for label in labels])
    prefix_W, type_W = prefixes_C[tags_W], types_C[tags_W]
    before_W, type_before_W = np.append("O", prefix_W[:-1]), np.append(-1, type_W[:-1])
    inside_W = prefix_W != "O"
    starts_W = inside_W & (np.isin(prefix_W, ("B", "S")) | np.isin(before_W, ("O", "E", "S")) | (type_W != type_before_W))
    borders = np.flatnonzero(starts_W | ~inside_W)
    starts = np.flatnonzero(starts_W)
    ends = borders[np.searchsorted(borders, starts, side="right")]
    packed: NDArray[np.int64] = (starts * (len(tags_W) + 1) + ends) * len(labels) + type_W[starts]
    return packed


def _count_by_row(spans: NDArray[np.int64], row_of_word_W: NDArray[np.int64], num_labels: int, num_rows: int) -> NDArray[np.int64]:
    starts = spans // num_labels // (len(row_of_word_W) + 1)
    counts: NDArray[np.int64] = np.bincount(row_of_word_W[starts], minlength=num_rows)
    return counts


def _tagging_scores(per_row: Floats, weights_SR: Floats) -> dict[str, Floats]:
    hits_S, predicted_S, gold_S, words_hit_S, words_S = (weights_SR @ per_row).T
    return {
        "entity_f1": _ratio(2 * hits_S, predicted_S + gold_S),
        "entity_precision": _ratio(hits_S, predicted_S),
        "entity_recall": _ratio(hits_S, gold_S),
        "token_accuracy": _ratio(words_hit_S, words_S),
    }


_STATISTICS: Mapping[str, Callable[[Any, Any, tuple[str, ...]], Floats]] = {
    "classification": _classification_rows,
    "multi_label": _multi_label_rows,
    "regression": _regression_rows,
    "tagging": _tagging_rows,
}

_SCORES: Mapping[str, Callable[[Floats, Floats], dict[str, Floats]]] = {
    "classification": _classification_scores,
    "multi_label": _multi_label_scores,
    "regression": _regression_scores,
    "tagging": _tagging_scores,
}


def _matrix(rows: Any) -> Floats:
    """A column of equally long lists as one matrix."""
    return np.stack([np.asarray(row, dtype=np.float64) for row in rows])


def _finite(logits: Floats) -> Floats:
    if not np.isfinite(logits).all():
        raise ModelError("a logit is not finite; the model diverged: lower the learning rate")
    return logits


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Division where nothing divided by nothing is 0, as sklearn's `zero_division` default."""
    return np.divide(numerator, denominator, out=np.zeros_like(numerator, dtype=np.float64), where=denominator > 0)


def _unknown_kind(kind: str) -> DataError:
    return DataError(f"no metrics for tasks of kind {kind!r}; allowed: {', '.join(METRICS)}")
