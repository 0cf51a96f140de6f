"""Frozen encoders on two general tasks by MTEB's protocols (Muennighoff et al. 2023, https://arxiv.org/abs/2210.07316).

An encoder is read by our `load_backbone`, its last layer is averaged over real tokens. What an adapted encoder loses here beside the base
is what it forgot.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from acclimate.backbones.loading import load_backbone
from acclimate.data.tokens.encoding import encode_texts, load_tokenizer
from acclimate.evaluation.features import layer_features
from acclimate.evaluation.metrics import RowStatistics, row_statistics
from benchmarks.anchor_data import Row

MAX_LENGTH = 256
"""Tokens, as the model's card and MTEB's run of it have it."""
EXPERIMENTS, ROWS_PER_LABEL, SEED, MAX_ITERATIONS = 10, 8, 42, 100


def embed(encoder: Path, texts: Sequence[str]) -> np.ndarray:
    """Unit vectors, (R, D): the means over tokens, normalised as the model's card does."""
    encoded = encode_texts(load_tokenizer(encoder), texts, max_length=MAX_LENGTH)
    features_RD = layer_features(load_backbone(encoder), encoded, layers=[-1])[0]
    return features_RD / np.linalg.norm(features_RD, axis=1, keepdims=True)


def relatedness(encoder: Path, pairs: Sequence[Row]) -> list[RowStatistics]:
    """SICK-R: cosines of the pairs beside the judged relatedness; Spearman's and Pearson's correlation over all pairs."""
    vectors = embed(encoder, [row["text"] for row in pairs] + [row["text_pair"] for row in pairs])
    cosines_R = (vectors[: len(pairs)] * vectors[len(pairs) :]).sum(axis=1)
    return [row_statistics("regression", [row["score"] for row in pairs], cosines_R[:, None], labels=None)]


def undersampled(labels: Sequence[Hashable], *, per_label: int, experiments: int, seed: int) -> Iterator[list[int]]:
    """Row numbers of each experiment's training rows, as MTEB's AbsTaskClassification draws them.

    The list of row numbers is shuffled for each experiment, always by the same permutation: MTEB's Evaluator seeds NumPy's generator anew
    whenever one is made, which is once an experiment, while the list stays as the last shuffle left it. The first `per_label` rows of each
    label are taken in that order.
    """
    order = np.arange(len(labels))
    for _ in range(experiments):
        np.random.RandomState(seed).shuffle(order)  # the legacy generator, as there
        taken: Counter[Hashable] = Counter()
        chosen = []
        for row in order.tolist():
            if taken[labels[row]] < per_label:
                taken[labels[row]] += 1
                chosen.append(row)
        yield chosen


def intents(encoder: Path, rows: dict[str, list[Row]]) -> list[RowStatistics]:
    """Banking77: logistic regression on 8 rows of each label, ten draws, judged on all test rows; one entry a draw."""
    from sklearn.linear_model import LogisticRegression

    train, test = rows["train"], rows["test"]
    vectors = embed(encoder, [row["text"] for row in train + test])
    gold = np.array([row["label"] for row in train])
    names = sorted(set(gold.tolist()))
    expected = [names.index(row["label"]) for row in test]
    found = []
    for chosen in undersampled(gold.tolist(), per_label=ROWS_PER_LABEL, experiments=EXPERIMENTS, seed=SEED):
        model: Any = LogisticRegression(random_state=SEED, max_iter=MAX_ITERATIONS).fit(vectors[chosen], gold[chosen])
        logits = model.decision_function(vectors[len(train) :])
        found.append(row_statistics("classification", expected, logits, labels=names))
    return found
