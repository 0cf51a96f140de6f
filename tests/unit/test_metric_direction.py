"""Every place that ranks asks the metric which way is better.

The share that retention keeps does so in evaluation/test_probes.py, the gates in adapters/test_gates.py.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acclimate import kinds
from acclimate.adapters.gates import read_candidate
from acclimate.data.labelled import TableSchema
from acclimate.evaluation.baselines import fit_baseline
from acclimate.evaluation.judgement import _best_on_dev
from acclimate.evaluation.ledger import EncoderLedger, Point
from acclimate.evaluation.ledger_tables import layers
from acclimate.evaluation.ledger_verdicts import TaskLedger
from acclimate.evaluation.metrics import score
from acclimate.evaluation.significance import Comparison
from acclimate.evaluation.verdicts import judge
from acclimate.export.choice import best_run
from acclimate.sinks import MemorySink
from acclimate.training.options import Variant
from stages import finetune
from stages.command import StageContext

BEST = {"rmse": min, "pearson": max, "spearman": max}
METRIC = st.sampled_from(sorted(BEST))
SCORES = st.lists(st.floats(0, 1e6), min_size=1, max_size=6)
BASE = Variant(encoder="base", recipe="full")


def schema(metric: str) -> TableSchema:
    return TableSchema("toy", "regression", None, False, metric)


@pytest.mark.parametrize(("metric", "maximize"), [("rmse", False), ("spearman", True)])
def test_early_stopping_waits_for_a_lower_error(
    metric: str, maximize: bool, tiny_encoder_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema = {"name": "toy", "kind": "regression", "labels": None, "pair": False, "metric": metric}
    (tmp_path / "schema.json").write_text(json.dumps(schema))
    for split in ("train", "dev", "test"):
        rows = {"id": ["x", "y"], "text": ["a text", "another"], "label": [1.0, 2.0]}
        pq.write_table(pa.table(rows), tmp_path / f"{split}.parquet")

    def stop_before_training(*_: Any, config: Any, **__: Any) -> Any:
        raise InterruptedError(config.health.watch, config.health.maximize)

    monkeypatch.setattr(finetune, "fit", stop_before_training)
    params = finetune.Params.model_validate(
        {"finetune": {}, "recipes": {"full": {"strategy": "full"}}, "tasks": {"toy": {"kind": "regression", "data": "x", "metric": metric}}}
    )
    context = StageContext("finetune@toy", MemorySink(), tmp_path / "checkpoints", lambda: None)
    with pytest.raises(InterruptedError) as caught:
        finetune.run(
            params,
            task="toy",
            encoder_name="base",
            recipe="full",
            seed=0,
            encoder=tiny_encoder_dir,
            table=tmp_path,
            verdict=tmp_path,
            out=tmp_path,
            context=context,
        )
    assert caught.value.args == (f"dev/{metric}", maximize)


@settings(max_examples=100, deadline=None)
@given(metric=METRIC, scores=SCORES)
def test_the_probed_layer_is_the_best_on_dev(metric: str, scores: list[float]) -> None:
    points = [Point(100, layer, "linear", np.full(2, -each), np.full(2, each)) for layer, each in enumerate(scores)]
    ledger = TaskLedger("regression", metric, False, 200, 50, {"base": len(scores)}, {"base": EncoderLedger(points, {})}, {})
    found = layers(ledger)["base"]
    assert scores[found["best_layer"]] == BEST[metric](scores)
    assert found["best"][metric] == -scores[found["best_layer"]] and found["last"][metric] == -scores[-1]


@settings(max_examples=100, deadline=None)
@given(metric=METRIC, scores=SCORES)
def test_the_run_that_is_judged_and_the_run_that_is_exported_are_the_best_on_dev(
    metric: str, scores: list[float], tmp_path_factory: pytest.TempPathFactory
) -> None:
    runs = {(BASE, seed): {"dev": {metric: each}} for seed, each in enumerate(scores)}
    assert runs[_best_on_dev(runs, schema(metric), BASE)]["dev"][metric] == BEST[metric](scores)
    directory = tmp_path_factory.mktemp("runs")
    for seed, each in enumerate(scores):
        (directory / f"base-full-{seed}").mkdir()
        (directory / f"base-full-{seed}" / "metrics.json").write_text(json.dumps({"dev": {metric: each}}))
    lower = not kinds.higher_is_better("regression", metric)
    places = {"variants": [BASE], "reference": BASE, "seeds": range(len(scores))}
    assert best_run(directory, **places, metric=metric, lower_is_better=lower).dev_metric == BEST[metric](scores)


@pytest.mark.parametrize("metric", sorted(BEST))
def test_the_baselines_penalty_is_the_best_on_dev(metric: str, tmp_path: Path) -> None:
    texts = [f"{'cheap' if row % 3 else 'dear'} thing number {row}" for row in range(30)]
    for split in ("train", "dev", "test"):
        labels = [float(row % 3) * 1e5 + row for row in range(30)]
        pq.write_table(pa.table({"id": [str(row) for row in range(30)], "text": texts, "label": labels}), tmp_path / f"{split}.parquet")
    chosen = fit_baseline(tmp_path, "regression", None, metric=metric)
    rows = {split: pq.read_table(tmp_path / f"{split}.parquet").to_pydict() for split in ("train", "dev", "test")}
    gold = {split: columns["label"] for split, columns in rows.items()}
    tried = [
        score("regression", gold["dev"], found["dev"], labels=None)[metric]
        for _, found in kinds.baseline("regression").candidates(rows, gold, None)
    ]
    assert chosen.scores["dev"][metric] == BEST[metric](tried)


@pytest.mark.parametrize("metric", sorted(BEST))
def test_the_verdict_and_the_gates_baseline_follow_the_metric(metric: str, tmp_path: Path) -> None:
    lower = not kinds.higher_is_better("regression", metric)
    both = {mean: Comparison(mean, mean - 0.1, mean + 0.1, 0.001, 0.05, 100.0) for mean in (-1.0, 1.0)}
    found = judge(both, confidence=0.95, margin=0.01, lower_is_better=dict.fromkeys(both, lower))
    assert [each.verdict for each in found.values()] == (["better", "worse"] if lower else ["worse", "better"])
    files = {
        "task.json": {"kind": "regression"},
        "chosen.json": {"encoder": "base", "recipe": "full", "seed": 0, "variant": "fp32", "file": "model.onnx"},
        "metrics.json": {"variants": {"fp32": {"metric": {metric: 1.0}, "latency_ms": {"1": 1.0}}}, "test_rows": {"sha256": "rows"}},
    }
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    (tmp_path / "judged").mkdir()
    judged = {"toy": {"metric": metric, "baseline": {"weak": {metric: 0.5}, "strong": {metric: 0.7}}}}
    (tmp_path / "judged" / "metrics.json").write_text(json.dumps(judged))
    assert read_candidate("toy", tmp_path, tmp_path / "judged").baseline == BEST[metric](0.5, 0.7)
