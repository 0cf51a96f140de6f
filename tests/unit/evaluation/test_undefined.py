"""A metric that is undefined is missing with its reason, never 0 or NaN."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import precision_recall_fscore_support

from acclimate import kinds
from acclimate.data.labelled import TableSchema, read_rows
from acclimate.errors import DataError, ModelError
from acclimate.evaluation.baselines import Baseline
from acclimate.evaluation.judgement import compare_tasks, judge_task
from acclimate.evaluation.metrics import goodness, row_statistics, score
from acclimate.evaluation.options import EvaluateConfig
from acclimate.evaluation.predictions import Predictions, read_predictions, require_same_rows
from acclimate.evaluation.significance import compare
from acclimate.training.options import Variant

TAGS = ["O", "B-x", "I-x"]
ONE, NONE = np.eye(3)[[0, 0, 0]], -np.ones((3, 2))
BASE, OTHER = Variant(encoder="base", recipe="full"), Variant(encoder="other", recipe="full")


def tags(*rows: str) -> list[Any]:
    return [np.eye(3)[[TAGS.index(tag) for tag in row.split()]].ravel() for row in rows]


@pytest.mark.parametrize(
    ("kind", "gold", "predictions", "labels", "undefined"),
    [
        ("regression", [1.0, 2.0, 3.0], [[0.1]] * 3, None, {"pearson", "spearman"}),
        ("regression", [0.7] * 3, [[1.0], [2.0], [3.0]], None, {"pearson", "spearman"}),
        ("regression", [1.0, 2.0, 3.0], [[1.0], [1.0], [2.0]], None, set()),
        ("classification", [0, 0, 0], np.eye(3), list("abc"), {"mcc"}),
        ("classification", [0, 1, 2], ONE, list("abc"), set()),  # one label predicted: no better than chance, so 0
        ("multi_label", np.zeros((3, 2), np.int8), NONE, list("ab"), {"micro_f1"}),
        ("multi_label", np.eye(3, 2, dtype=np.int8), NONE, list("ab"), set()),
        ("tagging", [[0, 0]], tags("O O"), TAGS, {"entity_f1", "entity_precision", "entity_recall"}),
        ("tagging", [[1, 0]], tags("O O"), TAGS, {"entity_precision"}),
        ("tagging", [[0, 0]], tags("B-x O"), TAGS, {"entity_recall"}),
        ("tagging", [[1, 0]], tags("B-x O"), TAGS, set()),
    ],
)
def test_what_is_undefined_has_no_score_and_a_reason(kind: str, gold: Any, predictions: Any, labels: Any, undefined: set[str]) -> None:
    found = score(kind, gold, predictions, labels=labels)
    assert found.keys() == set(kinds.metric_names(kind)) - undefined
    assert all(math.isfinite(value) for value in found.values())
    assert all("is undefined where" in kinds.why_undefined(kind, name) for name in undefined)
    assert all(goodness(found, kind, name) == -math.inf for name in undefined)


@settings(max_examples=200, deadline=None)
@given(
    gold=st.lists(st.integers(-3, 3), min_size=2, max_size=6),
    scale=st.sampled_from([1e-6, 0.1, 1 / 3, 1e6]),
    predicted=st.lists(st.sampled_from([0.1, 0.2, 1 / 3]), min_size=6, max_size=6),
)
def test_a_correlation_is_undefined_where_scipys_is(gold: list[int], scale: float, predicted: list[float]) -> None:
    values, predictions = [scale * each for each in gold], predicted[: len(gold)]
    found = score("regression", values, [[each] for each in predictions], labels=None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = {"pearson": stats.pearsonr(values, predictions)[0], "spearman": stats.spearmanr(values, predictions)[0]}
    for name, value in expected.items():
        assert (name in found) == bool(np.isfinite(value))
        assert found.get(name, 0.0) == pytest.approx(np.nan_to_num(value), abs=1e-9)


def test_precision_without_predictions_is_undefined_in_sklearn_too() -> None:
    precision, _, score_of_f1, _ = precision_recall_fscore_support([1, 0], [0, 0], average="binary", zero_division=np.nan)
    assert np.isnan(precision)
    assert score_of_f1 == 0.0
    assert score("tagging", [[1, 0]], tags("O O"), labels=TAGS)["entity_f1"] == 0.0


def test_resamples_without_a_value_are_left_out_and_too_many_are_told_of() -> None:
    few, many = np.zeros(200), np.zeros(200)
    few[0], many[:8] = 1.0, 1.0
    generator = np.random.default_rng(0)
    predictions = generator.normal(size=(200, 1))
    sides = [row_statistics("regression", gold, predictions, labels=None) for gold in (few, many)]
    lost = compare(sides[:1], sides[:1], samples=400, confidence=0.95, seed=0)
    assert set(lost.by_metric) == {"rmse"}
    assert "undefined where the gold values or the predictions are all equal, in 1" in lost.missing["pearson"]  # about 400 / e
    kept = compare(sides[1:], sides[1:], samples=400, confidence=0.95, seed=0)
    assert set(kept.by_metric) == {"pearson", "spearman", "rmse"}
    assert not kept.missing


def judged(predictions: dict[Variant, list[float]], metric: str = "pearson") -> dict[str, Any]:
    gold = np.arange(30.0)
    splits = {
        (variant, 0): dict.fromkeys(("dev", "test"), Predictions(list(map(str, range(30))), gold, [[each] for each in values]))
        for variant, values in predictions.items()
    }
    schema = TableSchema("toy", "regression", None, False, metric)
    baseline = Baseline("a mean", {"dev": {"rmse": 1.0}, "test": {"rmse": 1.0}}, gold, [[1.0]] * 30, None)
    config = EvaluateConfig(bootstrap_samples=200)
    task = judge_task(schema, splits, baseline, config, reference=BASE, seed=0)
    return {"metrics": task.metrics(), **compare_tasks({"toy": task}, config)}


def test_a_run_without_a_figure_is_missing_with_its_reason() -> None:
    values = list(np.arange(30.0) ** 2)
    found = judged({BASE: values, OTHER: [1.0] * 30})
    reasons = {(each["variant"], each["metric"]): each["reason"] for each in found["missing"]}
    assert {("other-full", "pearson"), ("other-full", "spearman"), ("baseline", "pearson")} <= reasons.keys()
    assert "the predictions are all equal: seed 0" in reasons["other-full", "pearson"]
    assert found["metrics"]["variants"]["other-full"].keys() == {"rmse"}
    compared = found["tasks"]["toy"]["variants"]["other-full"]
    assert "verdict" not in compared
    assert compared["sentence"].startswith("other-full cannot be compared with base-full on toy: pearson is undefined where")
    assert compared["differences"].keys() == {"rmse"}
    assert (found["comparisons"], found["mean_over_tasks"]) == (0, [])


def test_a_task_with_a_unit_has_no_part_in_the_mean() -> None:
    values = list(np.arange(30.0) ** 2)
    found = judged({BASE: list(np.arange(30.0)), OTHER: values}, metric="rmse")
    assert found["left_out_of_mean"] == [{"task": "toy", "reason": "rmse is better when lower, and has a unit"}]
    assert found["tasks"]["toy"]["variants"]["other-full"]["verdict"] == "worse"


@pytest.mark.parametrize("margin", [0, 0.0, -0.01, math.inf, math.nan])
def test_a_margin_of_nothing_is_refused(margin: float) -> None:
    with pytest.raises(ValueError, match="must be above 0"):
        EvaluateConfig(margin=margin)


def test_a_bootstrap_of_a_few_resamples_is_refused() -> None:
    with pytest.raises(ValueError, match="greater than or equal to 100"):
        EvaluateConfig(bootstrap_samples=99)


@pytest.mark.parametrize(
    ("ids", "told"),
    [
        ([*map(str, range(29)), "x"], "1 of 30 and 1 of 30 ids are on one side only: 'x', '29'"),
        (list(map(str, range(28))), "0 of 28 and 2 of 30 ids are on one side only: '28', '29'"),
        ([f"n{row}" for row in range(30)], "30 of 30 and 30 of 30 ids are on one side only: 'n0', 'n1', 'n2', 'n3', 'n4', ..."),
        ([*map(str, range(28)), "29", "28"], "the same ids in another order or number (30 and 30), from row 28 on"),
    ],
)
def test_predictions_of_another_test_set_are_refused_with_the_ids_that_differ(ids: list[str], told: str) -> None:
    schema = TableSchema("toy", "regression", None, False, "rmse")
    runs = {}
    for variant, names in ((BASE, list(map(str, range(30)))), (OTHER, ids)):
        each = Predictions(names, np.arange(float(len(names))), np.ones((len(names), 1)))
        runs[variant, 0] = {"dev": each, "test": each}
    baseline = Baseline("a mean", {}, np.arange(30.0), [[1.0]] * 30, None)
    with pytest.raises(DataError) as caught:
        judge_task(schema, runs, baseline, EvaluateConfig(), reference=BASE, seed=0)
    assert str(caught.value) == f"toy/other-full-0 and toy/base-full-0 predict different test rows: {told}; fine-tune both on one table"


def test_damaged_predictions_and_other_gold_labels_are_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "predictions.parquet"
    rows = {"split": ["dev", "test"], "id": ["a", "b"], "gold": [0, 1], "prediction": [[1.0, 0.0], [0.0, 1.0]]}
    pq.write_table(pa.table(rows), path)
    whole = read_predictions(tmp_path)
    pq.write_table(pa.table({**rows, "gold": [0, 0]}), path)
    with pytest.raises(DataError, match=r"^two and one have different gold labels of the test row 'b'"):
        require_same_rows({"one": whole["test"], "two": read_predictions(tmp_path)["test"]})
    for damaged in (pa.table({**rows, "prediction": [[1.0], None]}), pa.table({"split": ["dev"], "id": ["a"]}), None):
        path.write_text("hello") if damaged is None else pq.write_table(damaged, path)
        with pytest.raises(DataError, match=r"predictions.parquet: .*; fine-tune this run again$"):
            read_predictions(tmp_path)


def test_damaged_splits_are_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "test.parquet"
    with pytest.raises(DataError, match=r"test.parquet: no such file; has ingest run\?$"):
        read_rows(path)
    for damaged in (pa.table({"id": ["a"], "label": [None]}), pa.table({"id": ["a"]}), None):
        path.write_text("hello") if damaged is None else pq.write_table(damaged, path)
        with pytest.raises(DataError, match=r"test.parquet: .*; run ingest again$"):
            read_rows(path)


def test_a_prediction_that_is_not_finite_names_its_run() -> None:
    with pytest.raises(ModelError, match=r"^toy/other-full-0: a logit is not finite"):
        judged({BASE: list(map(float, range(30))), OTHER: [math.nan] * 30})
