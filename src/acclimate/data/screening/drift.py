"""Has the data changed since its last version? Distributions of length, words and labels, and how far two of them are apart."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from acclimate.data.leakage.hashing import hash_words

_WORD_BUCKETS = 512
_FLOOR = 1e-4
"""A share of nothing counts as this, so that one row in an empty bin is no infinite drift."""


class TextStatistics:
    """Distributions of a table's text, gathered a batch at a time."""

    def __init__(self) -> None:
        self.rows = 0
        self._lengths: Counter[str] = Counter()
        self._labels: Counter[str] = Counter()
        self._words = np.zeros(_WORD_BUCKETS, dtype=np.int64)

    def add(self, texts: Sequence[str], labels: Iterable[str] = ()) -> None:
        """Count a batch.

        Args:
            labels: every label of every row; none for unlabelled text.
        """
        self.rows += len(texts)
        self._lengths.update(f"<2^{max(len(text), 1).bit_length()}" for text in texts)
        self._words += np.bincount((hash_words(texts).values % np.uint64(_WORD_BUCKETS)).astype(np.int64), minlength=_WORD_BUCKETS)
        self._labels.update(labels)

    def as_json(self) -> dict[str, Any]:
        """Shares of length classes (powers of two, characters), of hashed words and of labels."""
        return {
            "rows": self.rows,
            "length": _shares(self._lengths),
            "words": _shares(Counter({str(bucket): int(count) for bucket, count in enumerate(self._words)})),
            "labels": _shares(self._labels),
        }


def drift(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, float]:
    """The population stability index of each distribution that both have.

    Below 0.1 is read as stable, from 0.25 as another population (Siddiqi 2006, Credit Risk Scorecards).
    """
    return {
        name: population_stability_index(before[name], after[name])
        for name in ("length", "words", "labels")
        if before.get(name) and after.get(name)
    }


def population_stability_index(before: Mapping[str, float], after: Mapping[str, float]) -> float:
    """Sum of (after - before) * ln(after / before) over the bins of two distributions of shares."""
    total = 0.0
    for name in sorted({*before, *after}):
        old, new = max(before.get(name, 0.0), _FLOOR), max(after.get(name, 0.0), _FLOOR)
        total += (new - old) * math.log(new / old)
    return total


def _shares(counts: Counter[str]) -> dict[str, float]:
    total = sum(counts.values())
    return {name: count / total for name, count in sorted(counts.items()) if count} if total else {}
