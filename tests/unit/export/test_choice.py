"""Which run is exported and which variant deployed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from acclimate import kinds
from acclimate.errors import DataError, ModelError
from acclimate.export.choice import best_run, choose_variant
from acclimate.export.latency import full_length_inputs, median_latency_ms, one_core
from acclimate.export.parity import compare, require_parity
from acclimate.export.predictor import load_decoder
from acclimate.training.options import Variant

VARIANTS_OF_RUNS = [Variant(encoder=encoder, recipe="full") for encoder in ("base", "mlm")]


def write_runs(directory, metric, **values):
    for name, value in values.items():
        run = directory / name.replace("_", "-full-")
        run.mkdir()
        (run / "metrics.json").write_text(json.dumps({"dev": {metric: value}}))


def choose(directory, metric="macro_f1", *, lower_is_better=False, seeds=(0, 1)):
    run = best_run(
        directory, variants=VARIANTS_OF_RUNS, reference=VARIANTS_OF_RUNS[0], seeds=seeds, metric=metric, lower_is_better=lower_is_better
    )
    return run.variant.encoder, run.seed


def test_best_dev_metric_is_exported(tmp_path):
    write_runs(tmp_path, "macro_f1", base_0=0.5, base_1=0.7, mlm_0=0.6, mlm_1=0.4)
    assert choose(tmp_path) == ("base", 1)


def test_error_metric_is_minimised(tmp_path):
    write_runs(tmp_path, "rmse", base_0=0.5, base_1=0.7, mlm_0=0.6, mlm_1=0.4)
    assert choose(tmp_path, "rmse", lower_is_better=True) == ("mlm", 1)


def test_of_equal_runs_the_mlm_one_with_the_lowest_seed_is_exported(tmp_path):
    write_runs(tmp_path, "macro_f1", base_0=0.5, base_1=0.5, mlm_0=0.5, mlm_1=0.5)
    assert choose(tmp_path) == ("mlm", 0)


def test_run_that_params_do_not_name_is_left_alone(tmp_path):
    write_runs(tmp_path, "macro_f1", base_0=0.5, base_1=0.9, mlm_0=0.6)
    assert choose(tmp_path, seeds=(0,)) == ("mlm", 0)


def test_missing_metric_is_named(tmp_path):
    write_runs(tmp_path, "accuracy", base_0=0.5, base_1=0.5, mlm_0=0.5, mlm_1=0.5)
    with pytest.raises(DataError, match="no dev metric 'macro_f1'; it has: accuracy"):
        choose(tmp_path)


VARIANTS = {
    "fp32": {"metric": {"f1": 0.80, "rmse": 1.0}, "latency_ms": {"1": 9.0}},
    "int8": {"metric": {"f1": 0.79, "rmse": 1.1}, "latency_ms": {"1": 4.0}},
}


@pytest.mark.parametrize(
    ("optimize_for", "max_metric_loss", "metric", "expected"),
    [
        ("accuracy", 1.0, "f1", "fp32"),
        ("latency", 0.02, "f1", "int8"),
        ("latency", 0.005, "f1", "fp32"),
        ("latency", 0.2, "rmse", "int8"),
        ("latency", 0.05, "rmse", "fp32"),
    ],
)
def test_deployed_variant_is_the_fastest_that_loses_little(optimize_for, max_metric_loss, metric, expected):
    found = choose_variant(
        VARIANTS, metric=metric, lower_is_better=metric == "rmse", optimize_for=optimize_for, max_metric_loss=max_metric_loss, batch=1
    )
    assert found == expected


def decoder(kind: str) -> Any:
    return load_decoder(kinds.decode_file(kind))({"labels": ["a", "b"], "pair": False}, None)


def test_parity_names_the_worst_example_and_counts_flips():
    import numpy as np

    torch_rows = [np.array([1.0, 0.0], np.float32), np.array([0.1, 0.0], np.float32)]
    onnx_rows = [np.array([1.0, 0.0], np.float32), np.array([0.0, 0.2], np.float32)]
    parity = compare(torch_rows, onnx_rows, ["first", "second"], decoder("classification"))
    assert (parity.worst_id, parity.label_flips, parity.decisions) == ("second", 1, 2)
    assert parity.max_logit_difference == pytest.approx(0.2)
    with pytest.raises(ModelError, match=r"0\.2 at example 'second' \(1 of 2 decisions flip\); export\.max_logit_difference allows 0\.001"):
        require_parity(parity, limit=1e-3, what="export of toy")


def test_logits_that_are_not_finite_are_refused():
    import numpy as np

    rows = [np.array([np.nan], np.float32)]
    with pytest.raises(ModelError, match="example 'a': a logit is not finite"):
        compare(rows, rows, ["a"], decoder("regression"))


def test_latency_is_measured_on_one_core_that_is_given_back():
    import os

    import torch

    before = os.sched_getaffinity(0), torch.get_num_threads()
    with one_core() as core:
        assert os.sched_getaffinity(0) == {core}
        assert torch.get_num_threads() == 1
        times = median_latency_ms({"fast": lambda _: None, "slow": lambda _: sum(range(20000))}, full_length_inputs(1, 4), rounds=5)
    assert (os.sched_getaffinity(0), torch.get_num_threads()) == before
    assert times["fast"] < times["slow"]
