"""TF-IDF of words and word pairs, in scripts without spaces of characters and their pairs: features of the baselines that read texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from acclimate.data.screening.scripts import words

_MAX_FEATURES = 100_000
INVERSE_PENALTIES = (1.0, 10.0, 100.0)


def tfidf_candidates(
    rows: Mapping[str, Mapping[str, Sequence[Any]]],
    gold: Mapping[str, Any],
    fit: Callable[..., list[Any]],
    *,
    inverse_penalties: Sequence[float] = INVERSE_PENALTIES,
) -> list[tuple[float | None, dict[str, Any]]]:
    """Predictions of dev and test by a linear model on the train rows, for each penalty.

    Args:
        fit: `(features, gold, other features, inverse_penalty=...)` gives predictions for each of the others.
    """
    features = _features(rows)
    candidates: list[tuple[float | None, dict[str, Any]]] = []
    for value in inverse_penalties:
        dev, test = fit(features["train"], gold["train"], [features["dev"], features["test"]], inverse_penalty=value)
        candidates.append((value, {"dev": dev, "test": test}))
    return candidates


def _features(rows: Mapping[str, Mapping[str, Sequence[Any]]]) -> dict[str, Any]:
    """Sparse features by split; a pair gives both texts, their product and its sum, the cosine."""
    from scipy.sparse import csr_matrix, hstack
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, max_features=_MAX_FEATURES, tokenizer=words, token_pattern=None)
    train = rows["train"]
    vectorizer.fit([*train["text"], *train.get("text_pair", [])])
    features = {}
    for split, columns in rows.items():
        left = vectorizer.transform(columns["text"])
        if "text_pair" in columns:
            right = vectorizer.transform(columns["text_pair"])
            product = left.multiply(right).tocsr()
            features[split] = hstack([left, right, product, csr_matrix(product.sum(axis=1))], format="csr")
        else:
            features[split] = left
    return features
