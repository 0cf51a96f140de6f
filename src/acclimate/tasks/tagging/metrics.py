"""Entities and words of tagged text.

Shapes: R rows, W words of all rows, C tags, S resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from acclimate import kinds
from acclimate.errors import DataError
from acclimate.evaluation.arrays import Floats, finite, ratio_or_nan


class Metrics:
    """Predictions are the logits of the words that were read, flat; words that were cut off count as `O`.

    Entities as conlleval counts them (Tjong Kim Sang and Buchholz 2000, https://aclanthology.org/W00-0726):
    an entity counts when its type and both ends are right.
    """

    metrics: ClassVar[tuple[kinds.Metric, ...]] = (
        kinds.Metric("entity_f1", undefined_where="neither gold nor prediction holds an entity"),
        kinds.Metric("entity_precision", undefined_where="no entity is predicted"),
        kinds.Metric("entity_recall", undefined_where="no entity is gold"),
        kinds.Metric("token_accuracy"),
    )

    def row_statistics(self, gold: Any, predictions: Any, labels: Sequence[str] | None) -> Floats:
        """Entities hit, predicted and gold; words hit and all words."""
        return _counts(gold, _tags(predictions, labels), tuple(labels or ()))

    def scores(self, statistics_UK: Floats, weights_SU: Floats) -> kinds.Scores:
        """From the weighted counts."""
        hits_S, predicted_S, gold_S, words_hit_S, words_S = (weights_SU @ statistics_UK).T
        return {
            "entity_f1": ratio_or_nan(2 * hits_S, predicted_S + gold_S),
            "entity_precision": ratio_or_nan(hits_S, predicted_S),
            "entity_recall": ratio_or_nan(hits_S, gold_S),
            "token_accuracy": ratio_or_nan(words_hit_S, words_S),
        }

    def confidence(self, gold: Any, predictions: Any) -> None:
        """None: an entity has no probability."""
        return

    def confusion(self, gold: Any, predictions: Any, labels: Sequence[str] | None) -> None:
        """None: a row has not one label."""
        return


def _tags(logits: Any, labels: Sequence[str] | None) -> list[NDArray[np.int64]]:
    """The tag of each word that was read."""
    num_tags = len(labels or ())
    return [finite(np.asarray(row, dtype=np.float64)).reshape(-1, num_tags).argmax(axis=1) for row in logits]


def _counts(gold: Any, predicted: Sequence[NDArray[Any]], labels: tuple[str, ...]) -> Floats:
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


COMPONENT: type[kinds.Metrics] = Metrics
