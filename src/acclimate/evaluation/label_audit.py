"""Out-of-fold probabilities of a linear model, for `data/screening/label_problems.py` to judge labels by.

Shapes: R rows, C labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acclimate import kinds
from acclimate.data.leakage.splits import unit_hash
from acclimate.data.screening.scripts import has_unspaced, words
from acclimate.errors import DataError
from acclimate.evaluation.arrays import Floats

_MAX_FEATURES = 50_000
_INVERSE_PENALTY = 10.0
"""The middle of the baseline's grid. Nothing is chosen here: a penalty chosen on noisy labels would be chosen to fit them."""


@dataclass(frozen=True)
class OutOfFold:
    """Predictions for every row by a model that saw neither the row nor any other of its group."""

    probabilities_RC: Floats
    judged_RC: NDArray[np.bool_]
    """False where the training rows of the fold held no row with the label (of several labels a row: or none without it)."""


def out_of_fold_probabilities(
    texts: Sequence[str], gold: Any, groups: Sequence[str], *, kind: str, num_labels: int, folds: int = 5, seed: int = 0
) -> OutOfFold:
    """TF-IDF of words and a linear model, in as many fits as there are folds.

    The fold of a row is by the hash of its group, so it depends neither on the order nor on the number of rows.

    Args:
        texts: of a pair, both in one string.
        gold: as `kinds.Model.gold` gives it, one a row.
        groups: rows of one group never part between the fit and its predictions.
    Raises:
        DataError: the kind has no labels to judge, or all rows are of one group.
    """
    audit = kinds.baseline(kind).audit
    if audit is None:
        raise DataError(f"labels of kind {kind!r} cannot be audited")
    fold_R = np.array([int(unit_hash(group, seed=seed) * folds) for group in groups])
    if len(np.unique(fold_R)) < 2:
        raise DataError(f"label audit: {len(texts)} rows of {len(set(groups))} groups make fewer than 2 folds; use more groups or none")
    gold = np.asarray(gold)
    probabilities_RC = np.zeros((len(texts), num_labels))
    judged_RC = np.zeros((len(texts), num_labels), dtype=np.bool_)
    for fold in np.unique(fold_R):
        held, seen = np.flatnonzero(fold_R == fold).tolist(), np.flatnonzero(fold_R != fold).tolist()
        features, others = _features([texts[row] for row in seen], [texts[row] for row in held])
        probabilities_RC[held] = audit.probabilities(features, gold[seen], others, num_labels, inverse_penalty=_INVERSE_PENALTY)
        judged_RC[held] = audit.known(gold[seen], num_labels)
    return OutOfFold(probabilities_RC, judged_RC)


def _features(seen: list[str], held: list[str]) -> tuple[Any, Any]:
    from sklearn.feature_extraction.text import TfidfVectorizer

    longest = 2 if any(map(has_unspaced, seen)) else 1  # two characters make a word of Chinese
    vectorizer = TfidfVectorizer(
        ngram_range=(1, longest), sublinear_tf=True, max_features=_MAX_FEATURES, tokenizer=words, token_pattern=None
    )
    return vectorizer.fit_transform(seen), vectorizer.transform(held)
