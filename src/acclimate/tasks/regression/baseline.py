"""Ridge regression: over TF-IDF as the baseline, over frozen features as the probe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from acclimate import kinds
from acclimate.evaluation.arrays import Floats
from acclimate.evaluation.linear import ridge_logits, standardized
from acclimate.evaluation.tfidf import tfidf_candidates

_INVERSE_PENALTIES = (0.1, 1.0, 10.0)


class Baseline:
    """TF-IDF and ridge regression."""

    description: ClassVar[str] = "TF-IDF of words and word pairs, ridge regression, penalty chosen on dev"
    audit: ClassVar[kinds.LabelAudit | None] = None

    def candidates(
        self, rows: Mapping[str, kinds.Columns], gold: Mapping[str, Sequence[Any]], labels: Sequence[str] | None
    ) -> list[tuple[float | None, dict[str, Any]]]:
        """Numbers."""
        return tfidf_candidates(rows, gold, ridge_logits, inverse_penalties=_INVERSE_PENALTIES)

    def probe(
        self, train: kinds.ProbeRows, others: Sequence[kinds.ProbeRows], *, num_outputs: int, regularization: float, tolerance: float
    ) -> list[Any]:
        """Numbers. The penalty is per row, so that the squared error's growth with the rows does not drown it."""
        features, rest = standardized(train.features, [split.features for split in others])
        return [*ridge_logits(features, train.gold, rest, inverse_penalty=1 / (regularization * len(features)))]

    def repeated(self, gold: Any, num_outputs: int) -> Floats:
        """The numbers."""
        return np.asarray(gold, dtype=np.float64)[:, None]


COMPONENT: type[kinds.SentenceBaseline] = Baseline
