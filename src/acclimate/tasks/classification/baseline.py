"""Logistic regression: over TF-IDF as the baseline and the judge of labels, over frozen features as the probe.

Shapes: R rows, C labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from acclimate import kinds
from acclimate.data.screening.label_problems import LabelProblem, unlikely_labels
from acclimate.evaluation.arrays import Floats
from acclimate.evaluation.linear import logistic_logits, standardized
from acclimate.evaluation.tfidf import tfidf_candidates


class Audit:
    """Whether a row's class is confidently another."""

    def probabilities(self, features: Any, gold: NDArray[Any], others: Any, num_labels: int, *, inverse_penalty: float) -> Floats:
        """By logistic regression."""
        return np.asarray(np.exp(logistic_logits(features, gold, [others], num_labels=num_labels, inverse_penalty=inverse_penalty)[0]))

    def known(self, gold: NDArray[Any], num_labels: int) -> NDArray[np.bool_]:
        """Labels with a row."""
        return np.bincount(gold, minlength=num_labels) > 0

    def judge(self, gold: NDArray[Any], probabilities_RC: Floats) -> dict[str, float]:
        """Share of right answers, of the model and of the most frequent class."""
        return {
            "accuracy": float(np.mean(probabilities_RC.argmax(axis=1) == gold)),
            "of_the_most_frequent": float(np.bincount(gold).max() / len(gold)),
        }

    def problems(
        self, gold: NDArray[Any], probabilities_RC: Floats, judged_RC: NDArray[np.bool_], names: Sequence[str]
    ) -> list[LabelProblem]:
        """Rows whose class is unlikely."""
        return unlikely_labels(gold, probabilities_RC, judged_RC[np.arange(len(gold)), gold], names)


class Baseline:
    """TF-IDF and logistic regression."""

    description: ClassVar[str] = "TF-IDF of words and word pairs, logistic regression, penalty chosen on dev"
    audit: ClassVar[kinds.LabelAudit | None] = Audit()

    def candidates(
        self, rows: Mapping[str, kinds.Columns], gold: Mapping[str, Sequence[Any]], labels: Sequence[str] | None
    ) -> list[tuple[float | None, dict[str, Any]]]:
        """Log-probabilities."""
        return tfidf_candidates(rows, gold, partial(logistic_logits, num_labels=len(labels or ())))

    def probe(
        self, train: kinds.ProbeRows, others: Sequence[kinds.ProbeRows], *, num_outputs: int, regularization: float, tolerance: float
    ) -> list[Any]:
        """Log-probabilities."""
        features, rest = standardized(train.features, [split.features for split in others])
        return [
            *logistic_logits(features, train.gold, rest, num_labels=num_outputs, inverse_penalty=1 / regularization, tolerance=tolerance)
        ]

    def repeated(self, gold: Any, num_outputs: int) -> Floats:
        """1 for the label and 0 for the others."""
        return np.asarray(np.eye(num_outputs)[np.asarray(gold, dtype=np.int64)])


COMPONENT: type[kinds.SentenceBaseline] = Baseline
