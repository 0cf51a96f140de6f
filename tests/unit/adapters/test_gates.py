"""Each gate of params.yaml holds where it says, and says why where it does not apply."""

from __future__ import annotations

import dataclasses
import json

import pytest

from acclimate.adapters.gates import Candidate, judge, read_candidate
from acclimate.adapters.options import GatesConfig
from acclimate.errors import DataError

CANDIDATE = Candidate("toy", "classification", "macro_f1", 0.6, 0.5, 0.1, 4.0, 1, "mlm", "full", 0, "fp32", "model.onnx", "rows")


def holds(gates: GatesConfig, champion=None, **changes) -> list[bool]:
    return [gate.holds for gate in judge(dataclasses.replace(CANDIDATE, **changes), gates, champion)]


@pytest.mark.parametrize(
    ("gates", "expected"),
    [
        (GatesConfig(), []),
        (GatesConfig(min_metric=0.6), [True]),
        (GatesConfig(min_metric=0.61), [False]),
        (GatesConfig(min_over_baseline=0.05, max_latency_ms=4.0), [True, True]),
        (GatesConfig(min_over_baseline=0.15, max_latency_ms=3.9), [False, False]),
        (GatesConfig(max_calibration_error=0.1), [True]),
        (GatesConfig(max_calibration_error=0.05), [False]),
    ],
)
def test_limits_are_inclusive(gates, expected):
    assert holds(gates) == expected


def test_an_error_metric_is_better_below():
    assert holds(GatesConfig(min_metric=0.7, min_over_baseline=0.1), kind="regression", metric="rmse", value=0.6, baseline=0.8) == [
        True,
        True,
    ]
    assert holds(GatesConfig(min_metric=0.5, min_over_baseline=0.1), kind="regression", metric="rmse", value=0.6, baseline=0.6) == [
        False,
        False,
    ]


def test_the_champion_is_compared_only_by_the_same_metric():
    gates = GatesConfig(min_over_champion=0.0)
    assert holds(gates) == [True]
    assert holds(gates, {"metric_name": "macro_f1", "metric": "0.6", "test_rows": "rows"}) == [True]
    assert holds(gates, {"metric_name": "macro_f1", "metric": "0.61", "test_rows": "rows"}) == [False]
    gate = judge(CANDIDATE, gates, {"metric_name": "accuracy", "metric": "0.1"})[0]
    assert not gate.holds
    assert gate.note == "the champion was measured by accuracy, this version by macro_f1"


@pytest.mark.parametrize(("candidate", "champion"), [("rows", "others"), ("rows", None), ("", ""), ("", None)])
def test_the_champion_is_compared_only_on_the_same_test_rows(candidate, champion):
    """However good it was on others; what was registered before digests were kept is of unknown rows."""
    tags = {"metric_name": "macro_f1", "metric": "0.1"} | ({} if champion is None else {"test_rows": champion})
    for why in ({}, {"why_not_measured_again": "it is gone"}):
        gate = judge(dataclasses.replace(CANDIDATE, test_rows=candidate), GatesConfig(min_over_champion=0.0), tags | why)[0]
        assert (gate.value, gate.holds) == (None, False)
        assert gate.note == "the champion was measured on other test rows" + (": it is gone" if why else "")


def test_calibration_is_passed_over_where_the_kind_has_none():
    gate = judge(
        dataclasses.replace(CANDIDATE, kind="tagging", metric="entity_f1", calibration_error=None),
        GatesConfig(max_calibration_error=0.1),
        None,
    )[0]
    assert (gate.value, gate.holds, gate.note) == (None, True, "not defined for tagging")


def test_a_missing_key_is_named_with_its_file_and_what_is_there(tmp_path):
    files = {
        "task.json": {"kind": "classification"},
        "chosen.json": {"encoder": "base", "seed": 0, "variant": "fp16", "file": "model.onnx"},
        "metrics.json": {"variants": {"fp32": {}}},
    }
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    (tmp_path / "judged").mkdir()
    (tmp_path / "judged" / "metrics.json").write_text(json.dumps({"toy": {"metric": "macro_f1"}}))
    with pytest.raises(DataError, match=r"metrics.json: no 'variants.fp16'; at that place there is: fp32"):
        read_candidate("toy", tmp_path, tmp_path / "judged")
