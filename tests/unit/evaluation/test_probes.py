from __future__ import annotations

import numpy as np
import pytest

from acclimate.backbones.loading import load_backbone
from acclimate.data.labelled import LabelledSplit, TableSchema
from acclimate.data.tokens.encoding import encode_texts, load_tokenizer
from acclimate.evaluation.metrics import RowStatistics, plain_scores
from acclimate.evaluation.probes import gain, layer_statistics, probe_statistics
from acclimate.kinds import ProbeRows


def _schema(kind: str, labels: list[str] | None) -> TableSchema:
    return TableSchema(name="t", kind=kind, labels=labels, pair=False, metric="")


def _features(seed: int, num_rows: int = 80):
    return np.random.default_rng(seed).normal(size=(num_rows, 6)).astype(np.float32)


def _scores(*given, **named):
    return [plain_scores(statistics) for statistics in probe_statistics(*given, **named)]


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
    scores = _scores(_schema(kind, labels), ProbeRows(train, gold_of(train)), [ProbeRows(test, gold_of(test))], regularization=0.1)
    assert scores[0][metric] > 0.9


def test_tagging_probes_words_and_counts_cut_words_as_outside():
    features = _features(0, 90)
    tags = (features[:, 0] > 0).astype(int)
    rows = [list(row) for row in tags.reshape(30, 3)]
    split = ProbeRows(features, rows, np.full(30, 3))
    kept = np.full(30, 2)
    cut = ProbeRows(features.reshape(30, 3, 6)[:, :2].reshape(-1, 6), rows, kept)
    whole_scores, cut_scores = _scores(_schema("tagging", ["O", "B-X"]), split, [split, cut], regularization=0.1)
    assert whole_scores["token_accuracy"] > 0.9
    assert cut_scores["entity_recall"] < whole_scores["entity_recall"]


def test_a_label_that_training_lacks_is_scored_and_not_predicted():
    train, test = _features(0), _features(1)
    split = ProbeRows(train, (train[:, 0] > 0).astype(int))
    scores = _scores(_schema("classification", ["a", "b", "c"]), split, [ProbeRows(test, np.full(80, 2))], regularization=1.0)
    assert scores[0]["accuracy"] == 0.0


def test_an_encoder_is_probed_layer_by_layer(tiny_encoder_dir):
    texts = [f"{word} number {i}" for i in range(12) for word in ("apple", "kernel")]
    encoded = encode_texts(load_tokenizer(tiny_encoder_dir), texts, max_length=16)
    split = LabelledSplit([str(i) for i in range(24)], ["fruit", "unix"] * 12, encoded)
    (layers,) = layer_statistics(load_backbone(tiny_encoder_dir), _schema("classification", ["fruit", "unix"]), split, [split])
    scores = [plain_scores(layer) for layer in layers]
    assert [layer["accuracy"] for layer in scores] == [1.0, 1.0, 1.0]


def _statistics(errors: np.ndarray) -> RowStatistics:
    """A regression whose gold values are 0 to 199."""
    gold = np.arange(200.0)
    return RowStatistics("regression", np.stack([gold, gold + errors], axis=1))


def test_a_lower_error_is_a_gain_with_its_standard_error():
    generator = np.random.default_rng(0)
    worse, better = _statistics(generator.normal(size=200) * 20), _statistics(generator.normal(size=200) * 10)
    found = gain(worse, better, "rmse", seed=0)
    assert 0.4 < found.gain < 0.6 and 0.0 < found.standard_error < 0.1
    assert gain(worse, better, "pearson", seed=0).gain > 0
    nothing = gain(worse, worse, "rmse", seed=0)
    assert (nothing.gain, nothing.standard_error) == (0.0, 0.0)
