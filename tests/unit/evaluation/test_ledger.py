from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from acclimate import kinds
from acclimate.data.labelled import TableSchema
from acclimate.evaluation import ledger_tables
from acclimate.evaluation.draws import drawn_rows, draws_of, pool_variance, sampled_rows
from acclimate.evaluation.ledger import TOLERANCE, EncoderLedger, Ledger, Split
from acclimate.evaluation.ledger_verdicts import Sides, TaskLedger, compared
from acclimate.evaluation.neighbours import nearest_rows
from acclimate.evaluation.options import DeclaredConfig, ProbeConfig
from acclimate.kinds import ProbeRows

GENERATOR = np.random.default_rng(0)
CONFIG = ProbeConfig(rows=[20, 40, "all"], draws=4, declared=DeclaredConfig(rows=[20, 40]), bootstrap_samples=50)
SIZES = st.one_of(st.integers(1, 50), st.just("all"))
GOLD = {
    "classification": (lambda x: (x[:, 0] > 0).astype(int) + 2 * (x[:, 1] > 0), list("abcd"), "macro_f1"),
    "multi_label": (lambda x: (x[:, :2] > 0).astype(int), ["a", "b"], "micro_f1"),
    "regression": (lambda x: x[:, 0] - x[:, 1], None, "spearman"),
}


def split_of(kind: str, rows: int, *, seed: int = 0, noise: float = 0.0) -> Split:
    """Two layers: what the labels are linear in, and noise."""
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(2, rows, 6)).astype(np.float32)
    gold = GOLD[kind][0](features[1])
    return Split(features + noise * generator.normal(size=features.shape).astype(np.float32), gold)


def schema_of(kind: str, metric: str | None = None) -> TableSchema:
    return TableSchema("toy", kind, GOLD[kind][1], False, metric or GOLD[kind][2])


def measured(kind: str, encoders: Sequence[tuple[str, float]], *, config: ProbeConfig = CONFIG, **of_task: Any) -> TaskLedger:
    schema = schema_of(kind)
    draws, missing = draws_of(80, config.rows, config.draws, seed=1, task="toy")
    ledger = Ledger(schema, config, draws, 1)
    found = {name: ledger.of_encoder(*(split_of(kind, rows, seed=rows, noise=noise) for rows in (80, 60, 30))) for name, noise in encoders}
    given = {"general": False, "pool_rows": 80, "judged_rows": 60, "layers": {name: 2 for name, _ in encoders}}
    return TaskLedger(**{**given, "kind": kind, "metric": schema.metric, "encoders": found, "missing": missing, **of_task})


@settings(max_examples=100, deadline=None)
@given(pool=st.integers(51, 200), size=SIZES, draw=st.integers(0, 30), seed=st.integers(-(2**40), 2**40))
def test_draws_are_reproducible_and_of_their_size(pool: int, size: Any, draw: int, seed: int) -> None:
    rows = drawn_rows(pool, size, draw, seed=seed, task="toy")
    assert rows.tolist() == drawn_rows(pool, size, draw, seed=seed, task="toy").tolist()
    assert len(rows) == (pool if size == "all" else size)
    assert size == "all" or len(set(rows.tolist())) == size
    assert rows.min() >= 0 and rows.max() < pool


def test_draws_differ_by_number_task_seed_and_size() -> None:
    drawn = [
        tuple(drawn_rows(1000, size, draw, seed=seed, task=task))
        for size in (30, 31, "all")
        for draw in range(3)
        for seed in (0, 1)
        for task in ("a", "b")
    ]
    assert len(set(drawn)) == len(drawn)
    assert not set(drawn[0]) <= set(drawn_rows(1000, 31, 0, seed=0, task="a").tolist())  # not nested


def test_a_size_that_the_pool_does_not_hold_twice_is_missing_with_its_reason() -> None:
    found, missing = draws_of(40, [20, 40, 100, "all"], 3, seed=0, task="toy")
    assert list(found) == [20, "all"]
    assert missing[100] == "100 of 40 labelled rows cannot be drawn several times; fewer can, and `all` draws them with replacement"
    assert list(missing) == [40, 100]


@pytest.mark.parametrize(("size", "expected"), [(100, 100 / 3900), (2000, 1.0), ("all", 1.0)])
def test_the_variance_that_one_pool_hides(size: Any, expected: float) -> None:
    assert pool_variance(size, 4000) == pytest.approx(expected)


def test_the_variance_over_pools_is_that_between_draws_and_what_one_pool_hides() -> None:
    """Means of 100 of 400 normal numbers, 20 draws a pool: the formula against many pools."""
    generator, means, between = np.random.default_rng(0), [], []
    for _ in range(1500):
        pool = generator.normal(size=400)
        draws = [pool[generator.choice(400, 100, replace=False)].mean() for _ in range(20)]
        means.append(np.mean(draws))
        between.append(np.var(draws, ddof=1))
    expected = np.mean(between) * (1 / 20 + pool_variance(100, 400))
    assert np.var(means) == pytest.approx(expected, rel=0.15)  # four standard errors of a variance of 1,500
    assert np.var(means) > 3 * np.mean(between) / 20  # without it the interval would be half as wide


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(3, 40), judged=st.integers(1, 20), seed=st.integers(0, 1000))
def test_the_nearest_neighbour_is_sklearns(rows: int, judged: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    pool, others = generator.normal(size=(60, 5)).astype(np.float32), generator.normal(size=(judged, 5)).astype(np.float32)
    drawn = np.sort(generator.choice(60, rows, replace=False))
    (found,) = nearest_rows(pool, others, [drawn])
    model = KNeighborsClassifier(1, metric="cosine", algorithm="brute").fit(pool[drawn], drawn % 2)
    assert (found % 2).tolist() == model.predict(others).tolist()
    assert set(found.tolist()) <= set(drawn.tolist())


def test_neighbours_are_found_in_parts_as_in_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    pool, judged = GENERATOR.normal(size=(2, 50, 4)).astype(np.float32)
    draws = [np.arange(0, 50, 2), np.array([3, 3, 7])]
    whole = nearest_rows(pool, judged, draws)
    monkeypatch.setattr("acclimate.evaluation.neighbours._MAX_SIMILARITIES", 120)
    assert [each.tolist() for each in nearest_rows(pool, judged, draws)] == [each.tolist() for each in whole]


def test_the_linear_probe_says_what_the_optimum_says() -> None:
    """99 % of 400 rows of 8 classes, as sklearn finds it with a tolerance of 1e-8."""
    generator = np.random.default_rng(3)
    features = generator.normal(size=(700, 40)).astype(np.float32)
    gold = (features @ generator.normal(size=(40, 8)) + 4 * generator.normal(size=(700, 8))).argmax(axis=1)
    train, test = ProbeRows(features[:300], gold[:300]), ProbeRows(features[300:], gold[300:])
    (found,) = kinds.baseline("classification").probe(train, [test], num_outputs=8, regularization=1.0, tolerance=TOLERANCE)
    mean, scale = features[:300].mean(axis=0), features[:300].std(axis=0)
    best = LogisticRegression(C=1.0, tol=1e-8, max_iter=5000).fit((features[:300] - mean) / scale, gold[:300])
    expected = best.predict((features[300:] - mean) / scale)
    assert np.mean(found.argmax(axis=1) == expected) > 0.99


@pytest.mark.parametrize("kind", GOLD)
def test_both_probes_find_the_layer_that_holds_the_labels(kind: str) -> None:
    task = measured(kind, [("base", 0.0)])
    means = {(point.rows, point.layer, point.probe): point.values_K.mean() for point in task.encoders["base"].points}
    assert len(means) == 3 * 2 * 2
    for probe in ("linear", "neighbour"):
        assert means["all", 1, probe] > means["all", 0, probe] + 0.2
    assert means["all", 1, "linear"] > means[20, 1, "linear"] > 0.5
    assert ledger_tables.layers(task)["base"]["best_layer"] == 1


@pytest.mark.parametrize("kind", GOLD)
def test_an_encoder_against_itself_differs_by_nothing(kind: str) -> None:
    task = measured(kind, [("base", 0.0), ("same", 0.0)])
    found = compared({"toy": task}, Sides(["base", "same"], "base", [], []), CONFIG, confidence=0.95)
    pairs = found["tasks"]["toy"]["pairs"]
    assert [(pair["rows"], pair["difference"]["mean"], pair["difference"]["p"]) for pair in pairs] == [(20, 0.0, 1.0), (40, 0.0, 1.0)]
    assert {pair["verdict"] for pair in pairs} == {"equivalent"}
    assert found["mean_over_tasks"] == []


def test_a_better_encoder_is_better_on_each_task_and_in_the_mean() -> None:
    tasks = {name: measured("classification", [("base", 2.0), ("made", 0.0), ("other", 2.0)]) for name in ("one", "two")}
    tasks["general"] = measured("classification", [("base", 2.0), ("made", 0.0), ("other", 2.0)], general=True)
    found = compared(tasks, Sides(["base", "made"], "base", ["other"], ["made", "other"]), CONFIG, confidence=0.95)
    pairs = [(each["encoder"], each["against"]) for each in found["tasks"]["one"]["pairs"] if each["rows"] == 40]
    assert pairs == [("made", "base"), ("other", "base"), ("made", "other")]
    assert found["comparisons"] == 3 * 3 * 2 + 3 * 2
    mean = next(each for each in found["mean_over_tasks"] if (each["encoder"], each["against"], each["rows"]) == ("made", "base", 40))
    assert mean["tasks"] == ["one", "two"] and mean["verdict"] == "better"
    of_task = next(each for each in found["tasks"]["one"]["pairs"] if (each["encoder"], each["rows"]) == ("made", 40))
    assert mean["difference"]["mean"] == pytest.approx(of_task["difference"]["mean"])
    assert mean["difference"]["standard_error"] == pytest.approx(of_task["difference"]["standard_error"] / 2**0.5)


def test_a_control_that_was_not_trained_stands_against_the_reference_alone() -> None:
    sides = Sides(["base", "made"], "base", ["scratch", "other"], ["made", "other"])
    assert [*sides.pairs()] == [("made", "base"), ("scratch", "base"), ("other", "base"), ("made", "other")]


def test_a_size_that_is_missing_has_a_reason_and_no_comparison() -> None:
    config = ProbeConfig(rows=[20, 100], draws=3, declared=DeclaredConfig(rows=[20, 100]), bootstrap_samples=20)
    task = measured("regression", [("base", 0.0), ("made", 1.0)], config=config)
    found = compared({"toy": task}, Sides(["base", "made"], "base", [], []), config, confidence=0.95)
    assert [pair["rows"] for pair in found["tasks"]["toy"]["pairs"]] == [20]
    assert [(each["rows"], each["reason"][:9]) for each in found["missing"]] == [(100, "100 of 80")]
    assert [each["rows"] for each in ledger_tables.curves(task, {"base": 0, "made": 5})["missing"]] == [100]


def test_draws_of_one_label_have_no_score_and_no_verdict() -> None:
    """A probe that can learn nothing would make every two encoders equal."""
    schema = schema_of("classification")
    pool, judged = split_of("classification", 30), split_of("classification", 20, seed=1)
    alone = Split(pool.features_LRD, np.zeros(30, dtype=int))
    found = Ledger(schema, CONFIG, {20: [np.arange(20)] * 2}, 0).of_encoder(alone, judged, None)
    assert all(np.isnan(point.values_K).all() for point in found.points)
    task = TaskLedger("classification", schema.metric, False, 30, 20, {"base": 2, "made": 2}, {"base": found, "made": found}, {})
    config = ProbeConfig(rows=[20], draws=2, declared=DeclaredConfig(rows=[20]), bootstrap_samples=20)
    compared_ = compared({"toy": task}, Sides(["base", "made"], "base", [], []), config, confidence=0.95)
    assert compared_["tasks"]["toy"]["pairs"] == []
    assert "one label alone" in compared_["missing"][0]["reason"]


def undefined(task: TaskLedger, draws: int) -> TaskLedger:
    """The same without a score in the first draws of one encoder."""
    ledger = task.encoders["made"]
    for point in ledger.points:
        point.values_K[:draws] = np.nan
    for side in ledger.declared.values():
        side.observed[task.metric][:draws] = np.nan
        side.resamples[task.metric][:, :draws] = np.nan
    return task


@pytest.mark.parametrize(("draws", "compared_at"), [(0, [20, 40]), (2, [20, 40]), (3, [])])
def test_a_draw_without_a_score_is_left_out_and_a_comparison_with_too_few_is_missing(draws: int, compared_at: list[int]) -> None:
    task = undefined(measured("regression", [("base", 0.5), ("made", 0.4)]), draws)
    found = compared({"toy": task}, Sides(["base", "made"], "base", [], []), CONFIG, confidence=0.95)
    assert [pair["rows"] for pair in found["tasks"]["toy"]["pairs"]] == compared_at
    assert all(np.isfinite(pair["difference"]["standard_error"]) for pair in found["tasks"]["toy"]["pairs"])
    if not compared_at:
        why = kinds.why_undefined("regression", task.metric)
        assert {each["reason"] for each in found["missing"]} == {
            f"the drawn rows have one label alone, or {why}: in 3 of 4 draws; allowed 50%"
        }
    points = [point for point in ledger_tables.curves(task, {"base": 0, "made": 0})["points"] if point["encoder"] == "made"]
    assert {point["draws"] for point in points} == ({4 - draws} if draws < 3 else set())
    assert len(ledger_tables.ledger_rows({"toy": task})) == (4 + 4 - draws) * 3 * 2 * 2


@settings(max_examples=50, deadline=None)
@given(rows=st.integers(1, 60), limit=st.one_of(st.none(), st.integers(1, 80)))
def test_the_rows_that_are_kept_are_in_order_and_at_most_so_many(rows: int, limit: int | None) -> None:
    kept = sampled_rows(rows, limit, seed=0, task="toy").tolist()
    assert kept == sorted(set(kept)) and len(kept) == min(rows, limit or rows)


def test_the_layer_is_the_best_on_dev_whichever_way_the_metric_goes() -> None:
    task = measured("regression", [("base", 0.0)])
    points = [point for point in task.encoders["base"].points if point.dev_K is not None]
    assert {point.rows for point in points} == {40}
    assert ledger_tables.layers(task)["base"]["best_layer"] == 1
    lower = TaskLedger(**{**vars(task), "metric": "rmse", "encoders": {"base": EncoderLedger(points, {})}})
    assert ledger_tables.layers(lower)["base"]["best_layer"] == 0  # as if the values were errors


def test_several_workers_find_the_same() -> None:
    schema, config = schema_of("classification"), CONFIG
    pool, judged = split_of("classification", 60), split_of("classification", 40, seed=1)
    ledger = Ledger(schema, config, {20: [np.arange(20), np.arange(20, 40)]}, 0)
    alone, shared = (ledger.of_encoder(pool, judged, judged, workers=workers) for workers in (1, 2))
    assert [(each.layer, each.probe) for each in alone.points] == [(each.layer, each.probe) for each in shared.points]
    assert all(np.array_equal(left.values_K, right.values_K) for left, right in zip(alone.points, shared.points, strict=True))
    assert np.array_equal(alone.declared[20].resamples[schema.metric], shared.declared[20].resamples[schema.metric])
