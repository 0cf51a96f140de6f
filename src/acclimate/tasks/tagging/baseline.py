"""The commonest tag of each word form as the baseline; logistic regression over frozen features of words as the probe.

Shapes: C tags.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from acclimate import kinds
from acclimate.evaluation.arrays import Floats
from acclimate.evaluation.linear import logistic_logits, standardized

MAX_TRAIN_WORDS = 8_000
"""A probe is fitted on the first words up to here, which bounds its time (about 1 s a layer at width 384)."""


class Baseline:
    """A dictionary of word forms."""

    description: ClassVar[str] = "the tag that each word form has most often in the training rows, O for a new word"
    audit: ClassVar[kinds.LabelAudit | None] = None

    def candidates(
        self, rows: Mapping[str, kinds.Columns], gold: Mapping[str, Sequence[Any]], labels: Sequence[str] | None
    ) -> list[tuple[float | None, dict[str, Any]]]:
        """1 for the tag and 0 for the others, flat."""
        tags = list(labels or ())
        counts: dict[str, Counter[int]] = {}
        for words, row_tags in zip(rows["train"]["words"], gold["train"], strict=True):
            for word, tag in zip(words, row_tags, strict=True):
                counts.setdefault(word, Counter())[tag] += 1
        outside = tags.index("O")
        tag_of = {word: min(counter, key=lambda tag: (-counter[tag], tag)) for word, counter in counts.items()}
        eye_CC = np.eye(len(tags))

        def encode(words: Sequence[str]) -> Floats:
            return eye_CC[[tag_of.get(word, outside) for word in words]].ravel()

        return [(None, {split: [encode(words) for words in rows[split]["words"]] for split in ("dev", "test")})]

    def probe(
        self, train: kinds.ProbeRows, others: Sequence[kinds.ProbeRows], *, num_outputs: int, regularization: float, tolerance: float
    ) -> list[Any]:
        """Log-probabilities of each row's words, flat."""
        assert train.per_row is not None
        kept = [tags[:count] for tags, count in zip(train.gold, train.per_row, strict=True)]
        gold = np.concatenate(kept)[:MAX_TRAIN_WORDS]
        features, rest = standardized(train.features[:MAX_TRAIN_WORDS], [split.features for split in others])
        logits = logistic_logits(features, gold, rest, num_labels=num_outputs, inverse_penalty=1 / regularization, tolerance=tolerance)
        return [_by_row(found, split) for found, split in zip(logits, others, strict=True)]


def _by_row(logits: Floats, split: kinds.ProbeRows) -> list[Floats]:
    assert split.per_row is not None
    return [row.ravel() for row in np.split(logits, np.cumsum(split.per_row)[:-1])]


COMPONENT: type[kinds.Baseline] = Baseline
