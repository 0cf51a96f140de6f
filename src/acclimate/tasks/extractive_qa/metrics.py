"""Exact match and F1 of answers, as SQuAD's own script counts them (https://rajpurkar.github.io/SQuAD-explorer/, version 2.0).

On SQuAD 1.1 they are those of its first script too, but for answers of articles and punctuation alone, which SQuAD has not.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from acclimate import kinds
from acclimate.data.screening.scripts import part_characters
from acclimate.evaluation.arrays import Floats, finite, ratio

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


class Metrics:
    """Predictions are those of `decode.best_spans`. Of several gold answers the nearest counts. From 0 to 1, where SQuAD says per cent."""

    metrics: ClassVar[tuple[kinds.Metric, ...]] = (kinds.Metric("f1"), kinds.Metric("exact_match"))

    def row_statistics(self, gold: Any, predictions: Any, labels: Sequence[str] | None) -> Floats:
        """F1 and exact match of each question."""
        finite(np.array([list(prediction["scores"]) for prediction in predictions], dtype=np.float64))
        rows = [_best(list(answer["texts"]), prediction["text"]) for answer, prediction in zip(gold, predictions, strict=True)]
        return np.array(rows, dtype=np.float64)

    def scores(self, statistics_UK: Floats, weights_SU: Floats) -> kinds.Scores:
        """Weighted means."""
        means_SK = ratio(weights_SU @ statistics_UK, weights_SU.sum(axis=1, keepdims=True) * np.ones((1, 2)))
        return {"f1": means_SK[:, 0], "exact_match": means_SK[:, 1]}

    def confidence(self, gold: Any, predictions: Any) -> None:
        """None: a score is no probability."""
        return

    def confusion(self, gold: Any, predictions: Any, labels: Sequence[str] | None) -> None:
        """None: there are no labels."""
        return


def normalized(text: str) -> str:
    """Lower case, without punctuation, articles and superfluous white space."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def _best(answers: Sequence[str], predicted: str) -> tuple[float, float]:
    """F1 and exact match, each with the answer that fits best; an answer of nothing but articles and punctuation is none.

    In scripts without spaces F1 counts characters.
    """
    found = normalized(predicted)
    known = [each for each in map(normalized, answers) if each] or [""]
    words = part_characters(found).split()
    return max(_word_f1(part_characters(each).split(), words) for each in known), float(found in known)


def _word_f1(gold: Sequence[str], predicted: Sequence[str]) -> float:
    if not gold or not predicted:
        return float(gold == predicted)
    common = (Counter(gold) & Counter(predicted)).total()
    return 2 * common / (len(gold) + len(predicted))


COMPONENT: type[kinds.Metrics] = Metrics
