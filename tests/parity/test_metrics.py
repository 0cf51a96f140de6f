"""The metrics against sklearn, scipy and seqeval, on random and on degenerate predictions."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sklearn_metrics

from acclimate.errors import ConfigError, DataError, ModelError
from acclimate.evaluation.metrics import resampled_scores, row_statistics, score

EXACT = 1e-12  # the same sums in another order
TAGS = ["O", "B-CMD", "I-CMD", "B-PATH", "I-PATH"]


def _skewed_classification(seed: int, num_rows: int = 200, num_labels: int = 7):
    generator = np.random.default_rng(seed)
    gold = generator.choice(num_labels, num_rows, p=np.arange(1, num_labels + 1) / np.arange(1, num_labels + 1).sum())
    logits = generator.normal(size=(num_rows, num_labels)).astype(np.float32)
    logits[np.arange(num_rows), gold] += 1.0
    return gold, logits


def _sklearn_classification(gold, predicted):
    return {
        "accuracy": sklearn_metrics.accuracy_score(gold, predicted),
        "macro_f1": sklearn_metrics.f1_score(gold, predicted, average="macro"),
        "weighted_f1": sklearn_metrics.f1_score(gold, predicted, average="weighted"),
        "mcc": sklearn_metrics.matthews_corrcoef(gold, predicted),
    }


@pytest.mark.parametrize("seed", range(5))
def test_classification_equals_sklearn(seed):
    gold, logits = _skewed_classification(seed)
    assert score("classification", gold, list(logits), labels=list("abcdefg")) == pytest.approx(
        _sklearn_classification(gold, logits.argmax(axis=1)), abs=EXACT
    )


@pytest.mark.parametrize(
    ("gold", "predicted"),
    [([0, 0, 0, 0], [0, 0, 0, 0]), ([0, 0, 1, 1], [2, 2, 2, 2]), ([0, 1, 2, 0], [0, 0, 0, 0]), ([0], [1])],
    ids=["one class", "a label seen only in predictions", "constant prediction", "one row, wrong"],
)
def test_classification_with_absent_labels_equals_sklearn(gold, predicted):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = _sklearn_classification(gold, predicted)
    assert score("classification", gold, np.eye(5)[predicted], labels=list("abcde")) == pytest.approx(
        {name: value for name, value in expected.items() if name != "mcc" or len(set(gold)) > 1}, abs=EXACT
    )  # of one gold label MCC is undefined


@pytest.mark.parametrize("seed", range(3))
def test_multi_label_equals_sklearn(seed):
    generator = np.random.default_rng(seed)
    gold = (generator.random((120, 6)) < 0.3).astype(np.int8)
    gold[:, 5] = 0  # a label without a gold row
    logits = generator.normal(size=gold.shape) + gold - 0.7
    predicted = (1 / (1 + np.exp(-logits)) > 0.5).astype(int)
    expected = {
        "micro_f1": sklearn_metrics.f1_score(gold, predicted, average="micro"),
        "macro_f1": sklearn_metrics.f1_score(gold, predicted, average="macro", zero_division=0),
        "subset_accuracy": sklearn_metrics.accuracy_score(gold, predicted),
    }
    assert score("multi_label", list(gold), list(logits), labels=list("abcdef")) == pytest.approx(expected, abs=EXACT)


@pytest.mark.parametrize("num_values", [3, 1000], ids=["many ties", "few ties"])
def test_regression_equals_scipy_and_sklearn(num_values):
    generator = np.random.default_rng(0)
    gold = generator.integers(0, num_values, 150) / num_values
    predicted = np.round(gold + generator.normal(size=150), 1)
    expected = {
        "pearson": stats.pearsonr(gold, predicted).statistic,
        "spearman": stats.spearmanr(gold, predicted).statistic,
        "rmse": sklearn_metrics.root_mean_squared_error(gold, predicted),
    }
    assert score("regression", gold, predicted[:, None], labels=None) == pytest.approx(expected, abs=1e-10)


def test_correlation_of_a_constant_prediction_is_undefined_as_in_scipy():
    assert set(score("regression", [0.1, 0.5, 0.9], [[0.3], [0.3], [0.3]], labels=None)) == {"rmse"}


def _seqeval(gold, predicted):
    from seqeval import metrics as seqeval_metrics

    gold_tags, predicted_tags = ([[TAGS[tag] for tag in row] for row in rows] for rows in (gold, predicted))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            "entity_f1": seqeval_metrics.f1_score(gold_tags, predicted_tags),
            "entity_precision": seqeval_metrics.precision_score(gold_tags, predicted_tags),
            "entity_recall": seqeval_metrics.recall_score(gold_tags, predicted_tags),
            "token_accuracy": seqeval_metrics.accuracy_score(gold_tags, predicted_tags),
        }


@pytest.mark.parametrize("seed", range(5))
def test_tagging_equals_seqeval_on_any_sequence_of_tags(seed):
    """Random tags hold I after O, I after another type, and entities at both ends of a row."""
    generator = np.random.default_rng(seed)
    gold = [generator.integers(0, len(TAGS), generator.integers(1, 12)) for _ in range(60)]
    predicted = [np.where(generator.random(len(row)) < 0.6, row, generator.integers(0, len(TAGS), len(row))) for row in gold]
    logits = [np.eye(len(TAGS))[row].ravel() for row in predicted]
    assert score("tagging", gold, logits, labels=TAGS) == pytest.approx(_seqeval(gold, predicted), abs=EXACT)


def test_words_cut_off_by_truncation_count_as_outside():
    gold = [[1, 2, 0, 3], [3, 4]]
    kept = [[1, 2], []]
    logits = [np.eye(len(TAGS))[row].ravel() for row in kept]
    assert score("tagging", gold, logits, labels=TAGS) == pytest.approx(_seqeval(gold, [[1, 2, 0, 0], [0, 0]]), abs=EXACT)


def test_tagging_without_any_entity_has_no_entity_scores():
    """Seqeval gives 0 with a warning that they are ill-defined."""
    gold, logits = [[0, 0], [0]], [np.eye(len(TAGS))[[0, 0]].ravel(), np.eye(len(TAGS))[[0]].ravel()]
    assert score("tagging", gold, logits, labels=TAGS) == {"token_accuracy": 1.0}


def _predictions(kind):
    generator = np.random.default_rng(1)
    if kind == "classification":
        return *_skewed_classification(1, num_rows=60), list("abcdefg")
    if kind == "multi_label":
        gold = (generator.random((60, 4)) < 0.4).astype(np.int8)
        return gold, generator.normal(size=gold.shape) + gold - 0.5, list("abcd")
    if kind == "regression":
        gold = generator.integers(0, 6, 60) / 5
        return gold, np.round(gold + generator.normal(size=60), 1)[:, None], None
    gold = [generator.integers(0, len(TAGS), generator.integers(1, 9)) for _ in range(60)]
    return gold, [(np.eye(len(TAGS))[row] + generator.normal(size=(len(row), len(TAGS)))).ravel() for row in gold], TAGS


@pytest.mark.parametrize("kind", ["classification", "multi_label", "regression", "tagging"])
def test_resampled_scores_equal_the_scores_of_the_resampled_rows(kind):
    gold, logits, labels = _predictions(kind)
    generator = np.random.default_rng(2)
    rows_SR = generator.integers(0, 60, (5, 60))
    weights_SR = np.stack([np.bincount(rows, minlength=60) for rows in rows_SR])
    resampled = resampled_scores(row_statistics(kind, gold, logits, labels=labels), weights_SR)
    for sample, rows in enumerate(rows_SR):
        expected = score(kind, [gold[row] for row in rows], [logits[row] for row in rows], labels=labels)
        assert {name: values[sample] for name, values in resampled.items()} == pytest.approx(expected, abs=1e-10)


def test_logits_that_are_not_finite_are_refused():
    with pytest.raises(ModelError, match="not finite"):
        score("classification", [0, 1], [[0.0, float("nan")], [1.0, 0.0]], labels=["a", "b"])


def test_empty_predictions_are_refused():
    with pytest.raises(DataError, match="0 gold labels"):
        score("classification", [], [], labels=["a", "b"])


def test_an_unknown_kind_is_refused_by_name():
    with pytest.raises(ConfigError, match=r"'ranking'.*allowed: classification"):
        score("ranking", [1], [[1.0]], labels=None)
