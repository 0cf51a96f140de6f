"""One logistic regression per label: over TF-IDF as the baseline and the judge of labels, over frozen features as the probe.

Shapes: R rows, C labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from acclimate import kinds
from acclimate.data.screening.label_problems import LabelProblem, unlikely_label_sets
from acclimate.evaluation.arrays import Floats
from acclimate.evaluation.linear import one_vs_rest_logits, standardized
from acclimate.evaluation.tfidf import tfidf_candidates


class Audit:
    """Whether a row has a label too many or too few."""

    def probabilities(self, features: Any, gold: NDArray[Any], others: Any, num_labels: int, *, inverse_penalty: float) -> Floats:
        """Of each label by itself."""
        log_odds_RC = one_vs_rest_logits(features, gold, [others], inverse_penalty=inverse_penalty)[0]
        return np.asarray(1 / (1 + np.exp(-log_odds_RC)))

    def known(self, gold: NDArray[Any], num_labels: int) -> NDArray[np.bool_]:
        """Labels that some rows have and some have not."""
        return np.asarray((gold.max(axis=0) > 0) & (gold.min(axis=0) == 0))

    def judge(self, gold: NDArray[Any], probabilities_RC: Floats) -> dict[str, float]:
        """Share of right answers over all labels, of the model and of the more frequent answer."""
        gold_RC = gold > 0
        shares_C = gold_RC.mean(axis=0)
        return {
            "accuracy": float(np.mean((probabilities_RC > 0.5) == gold_RC)),
            "of_the_most_frequent": float(np.maximum(shares_C, 1 - shares_C).mean()),
        }

    def problems(
        self, gold: NDArray[Any], probabilities_RC: Floats, judged_RC: NDArray[np.bool_], names: Sequence[str]
    ) -> list[LabelProblem]:
        """Rows with an unlikely label, or without a likely one."""
        return unlikely_label_sets(gold, probabilities_RC, judged_RC, names)


class Baseline:
    """TF-IDF and one logistic regression per label."""

    description: ClassVar[str] = "TF-IDF of words and word pairs, one logistic regression per label, penalty chosen on dev"
    audit: ClassVar[kinds.LabelAudit | None] = Audit()

    def candidates(
        self, rows: Mapping[str, kinds.Columns], gold: Mapping[str, Sequence[Any]], labels: Sequence[str] | None
    ) -> list[tuple[float | None, dict[str, Any]]]:
        """Log-odds."""
        return tfidf_candidates(rows, gold, one_vs_rest_logits)

    def probe(
        self, train: kinds.ProbeRows, others: Sequence[kinds.ProbeRows], *, num_outputs: int, regularization: float, tolerance: float
    ) -> list[Any]:
        """Log-odds."""
        features, rest = standardized(train.features, [split.features for split in others])
        return [*one_vs_rest_logits(features, train.gold, rest, inverse_penalty=1 / regularization, tolerance=tolerance)]

    def repeated(self, gold: Any, num_outputs: int) -> Floats:
        """1 for a label that is given and -1 for one that is not."""
        return np.asarray(2.0 * np.asarray(gold, dtype=np.float64) - 1.0)


COMPONENT: type[kinds.SentenceBaseline] = Baseline
