"""Out-of-fold probabilities of a linear model, for `data/label_problems.py` to judge labels by.

Shapes: R rows, C labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acclimate.data.splits import unit_hash
from acclimate.errors import DataError
from acclimate.evaluation.linear import logistic_logits, one_vs_rest_logits
from acclimate.evaluation.metrics import Floats

KINDS = ("classification", "multi_label")
_MAX_FEATURES = 50_000
_INVERSE_PENALTY = 10.0
"""The middle of the baseline's grid. Nothing is chosen here: a penalty chosen on noisy labels would be chosen to fit them."""


@dataclass(frozen=True)
class OutOfFold:
    """Predictions for every row by a model that saw neither the row nor any other of its group."""

    probabilities_RC: Floats
    judged_RC: NDArray[np.bool_]
    """False where the training rows of the fold held no row with the label (multi-label: or none without it)."""


def out_of_fold_probabilities(
    texts: Sequence[str], gold: Any, groups: Sequence[str], *, kind: str, num_labels: int, folds: int = 5, seed: int = 0
) -> OutOfFold:
    """TF-IDF of words, logistic regression, in as many fits as there are folds.

    The fold of a row is by the hash of its group, so it depends neither on the order nor on the number of rows.

    Args:
        texts: of a pair, both in one string.
        gold: classification: label indices (R,). multi_label: multi-hot (R, C).
        groups: rows of one group never part between the fit and its predictions.
    Raises:
        DataError: the kind has no labels to judge, or all rows are of one group.
    """
    if kind not in KINDS:
        raise DataError(f"labels of kind {kind!r} cannot be audited; allowed: {', '.join(KINDS)}")
    fold_R = np.array([int(unit_hash(group, seed=seed) * folds) for group in groups])
    if len(np.unique(fold_R)) < 2:
        raise DataError(f"label audit: {len(texts)} rows of {len(set(groups))} groups make fewer than 2 folds; use more groups or none")
    gold = np.asarray(gold)
    probabilities_RC = np.zeros((len(texts), num_labels))
    judged_RC = np.zeros((len(texts), num_labels), dtype=np.bool_)
    for fold in np.unique(fold_R):
        held, seen = np.flatnonzero(fold_R == fold).tolist(), np.flatnonzero(fold_R != fold).tolist()
        probabilities_RC[held] = _fit_and_predict([texts[row] for row in seen], gold[seen], [texts[row] for row in held], kind, num_labels)
        judged_RC[held] = _known(gold[seen], kind, num_labels)
    return OutOfFold(probabilities_RC, judged_RC)


def _fit_and_predict(seen: list[str], gold: Any, held: list[str], kind: str, num_labels: int) -> Floats:
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(sublinear_tf=True, max_features=_MAX_FEATURES, token_pattern=r"(?u)\b\w[\w.+-]*\b")
    features = vectorizer.fit_transform(seen)
    others = [vectorizer.transform(held)]
    if kind == "multi_label":
        log_odds_RC = one_vs_rest_logits(features, gold, others, inverse_penalty=_INVERSE_PENALTY)[0]
        return np.asarray(1 / (1 + np.exp(-log_odds_RC)))
    logits_RC = logistic_logits(features, gold, others, num_labels=num_labels, inverse_penalty=_INVERSE_PENALTY)[0]
    return np.asarray(np.exp(logits_RC))


def _known(gold: Any, kind: str, num_labels: int) -> NDArray[np.bool_]:
    if kind == "multi_label":
        return np.asarray((gold.max(axis=0) > 0) & (gold.min(axis=0) == 0))
    return np.bincount(gold, minlength=num_labels) > 0
