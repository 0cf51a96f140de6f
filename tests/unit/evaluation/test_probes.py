from __future__ import annotations

import numpy as np
import pytest

from acclimate.data.encoding import encode_texts, load_tokenizer
from acclimate.data.labelled import LabelledSplit, TableSchema
from acclimate.evaluation.probes import probe_encoder, probe_scores
from acclimate.kinds import ProbeRows
from acclimate.models.backbone import load_encoder


def _schema(kind: str, labels: list[str] | None) -> TableSchema:
    return TableSchema(name="t", kind=kind, labels=labels, pair=False, metric="")


def _features(seed: int, num_rows: int = 80):
    return np.random.default_rng(seed).normal(size=(num_rows, 6)).astype(np.float32)


@pytest.mark.parametrize(
    ("kind", "labels", "gold_of", "metric"),
    [
        ("classification", ["a", "b"], lambda x: (x[:, 0] > 0).astype(int), "accuracy"),
        ("multi_label", ["a", "b"], lambda x: (x[:, :2] > 0).astype(int), "micro_f1"),
        ("regression", None, lambda x: x[:, 0] - x[:, 1], "pearson"),
    ],
)
def test_what_is_linear_in_the_features_is_found(kind, labels, gold_of, metric):
    train, test = _features(0), _features(1)
    scores = probe_scores(_schema(kind, labels), ProbeRows(train, gold_of(train)), [ProbeRows(test, gold_of(test))], regularization=0.1)
    assert scores[0][metric] > 0.9


def test_tagging_probes_words_and_counts_cut_words_as_outside():
    features = _features(0, 90)
    tags = (features[:, 0] > 0).astype(int)
    rows = [list(row) for row in tags.reshape(30, 3)]
    split = ProbeRows(features, rows, np.full(30, 3))
    kept = np.full(30, 2)
    cut = ProbeRows(features.reshape(30, 3, 6)[:, :2].reshape(-1, 6), rows, kept)
    whole_scores, cut_scores = probe_scores(_schema("tagging", ["O", "B-X"]), split, [split, cut], regularization=0.1)
    assert whole_scores["token_accuracy"] > 0.9
    assert cut_scores["entity_recall"] < whole_scores["entity_recall"]


def test_a_label_that_training_lacks_is_scored_and_not_predicted():
    train, test = _features(0), _features(1)
    split = ProbeRows(train, (train[:, 0] > 0).astype(int))
    scores = probe_scores(_schema("classification", ["a", "b", "c"]), split, [ProbeRows(test, np.full(80, 2))], regularization=1.0)
    assert scores[0]["accuracy"] == 0.0


def test_an_encoder_is_probed_layer_by_layer(tiny_encoder_dir):
    texts = [f"{word} number {i}" for i in range(12) for word in ("apple", "kernel")]
    encoded = encode_texts(load_tokenizer(tiny_encoder_dir), texts, max_tokens=16)
    split = LabelledSplit([str(i) for i in range(24)], ["fruit", "unix"] * 12, encoded)
    scores = probe_encoder(load_encoder(tiny_encoder_dir), _schema("classification", ["fruit", "unix"]), split, split)
    assert [layer["accuracy"] for layer in scores] == [1.0, 1.0, 1.0]
