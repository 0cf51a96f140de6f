"""What any encoder must beat: a linear model on word counts, on exactly the same rows, scored by the same metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from acclimate import plugins
from acclimate.errors import DataError
from acclimate.evaluation.linear import logistic_logits, one_vs_rest_logits, ridge_logits
from acclimate.evaluation.metrics import LOWER_IS_BETTER, Floats, score

_INVERSE_PENALTIES = (1.0, 10.0, 100.0)
_RIDGE_INVERSE_PENALTIES = (0.1, 1.0, 10.0)
_MAX_FEATURES = 100_000
_SPLITS = ("train", "dev", "test")

DESCRIPTIONS = {
    "classification": "TF-IDF of words and word pairs, logistic regression, penalty chosen on dev",
    "multi_label": "TF-IDF of words and word pairs, one logistic regression per label, penalty chosen on dev",
    "regression": "TF-IDF of words and word pairs, ridge regression, penalty chosen on dev",
    "tagging": "the tag that each word form has most often in the training rows, O for a new word",
}


@dataclass(frozen=True)
class Baseline:
    """A baseline's dev and test scores, its test logits, and the penalty that dev chose."""

    description: str
    scores: dict[str, dict[str, float]]
    test_gold: Any
    test_logits: Any
    inverse_penalty: float | None


def fit_baseline(table: Path, kind: str, labels: Sequence[str] | None, *, metric: str) -> Baseline:
    """Fit on the train rows of an ingested table, choose on dev, score dev and test.

    Args:
        table: directory with train.parquet, dev.parquet and test.parquet.
        metric: decides between penalties on dev.

    Raises:
        DataError: a split is missing or empty, or there is no baseline for the kind.
    """
    if kind not in DESCRIPTIONS:
        raise DataError(f"no baseline for tasks of kind {kind!r}; allowed: {', '.join(DESCRIPTIONS)}")
    rows = {split: _read(table / f"{split}.parquet") for split in _SPLITS}
    gold = {split: plugins.load("tasks", kind).gold(columns["label"], labels) for split, columns in rows.items()}
    candidates = _word_tags(rows, gold, labels) if kind == "tagging" else _tfidf(kind, rows, gold, labels)
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    scored = [
        Baseline(
            DESCRIPTIONS[kind],
            {split: score(kind, gold[split], logits[split], labels=labels) for split in ("dev", "test")},
            gold["test"],
            logits["test"],
            inverse_penalty,
        )
        for inverse_penalty, logits in candidates
    ]
    return max(scored, key=lambda baseline: sign * baseline.scores["dev"][metric])


def _read(path: Path) -> dict[str, list[Any]]:
    import pyarrow.parquet as pq

    if not path.is_file():
        raise DataError(f"{path}: no such file; has ingest run?")
    columns: dict[str, list[Any]] = pq.read_table(path).to_pydict()
    if not columns["id"]:
        raise DataError(f"{path}: no rows; a baseline needs train, dev and test rows")
    return columns


def _tfidf(kind: str, rows: dict[str, dict[str, list[Any]]], gold: dict[str, Any], labels: Sequence[str] | None) -> list[tuple[float, Any]]:
    features = _tfidf_features(rows)
    num_labels = len(labels or ())
    fits: dict[str, tuple[tuple[float, ...], Callable[..., list[Floats]]]] = {
        "classification": (_INVERSE_PENALTIES, partial(logistic_logits, num_labels=num_labels)),
        "multi_label": (_INVERSE_PENALTIES, one_vs_rest_logits),
        "regression": (_RIDGE_INVERSE_PENALTIES, ridge_logits),
    }
    grid, fit = fits[kind]
    candidates = []
    for value in grid:
        dev, test = fit(features["train"], gold["train"], [features["dev"], features["test"]], inverse_penalty=value)
        candidates.append((value, {"dev": dev, "test": test}))
    return candidates


def _tfidf_features(rows: dict[str, dict[str, list[Any]]]) -> dict[str, Any]:
    """Sparse features by split; a pair gives both texts, their product and its sum, the cosine."""
    from scipy.sparse import csr_matrix, hstack
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, max_features=_MAX_FEATURES, token_pattern=r"(?u)\b\w[\w.+-]*\b")
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


def _word_tags(rows: dict[str, dict[str, list[Any]]], gold: dict[str, Any], labels: Sequence[str] | None) -> list[tuple[None, Any]]:
    tags = list(labels or ())
    counts: dict[str, Counter[int]] = {}
    for words, row_tags in zip(rows["train"]["words"], gold["train"], strict=True):
        for word, tag in zip(words, row_tags, strict=True):
            counts.setdefault(word, Counter())[tag] += 1
    outside = tags.index("O")
    tag_of = {word: min(counter, key=lambda tag: (-counter[tag], tag)) for word, counter in counts.items()}
    eye_CC = np.eye(len(tags))

    def encode(words: list[str]) -> Floats:
        return eye_CC[[tag_of.get(word, outside) for word in words]].ravel()

    return [(None, {split: [encode(words) for words in rows[split]["words"]] for split in ("dev", "test")})]
