"""Every kind with one answer for each example passes the stage `probe`, and what cannot be computed is missing with its reason."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from acclimate import kinds, plugins
from acclimate.artifacts import read_json
from acclimate.config import Config
from acclimate.params_file import read_yaml
from acclimate.sinks import MemorySink
from stages import probe
from stages.command import StageContext, select_params
from tests.contract.made import examples_of

PARAMS = Path(__file__).parents[2] / "params.yaml"
JUDGED = [kind for kind in plugins.names("tasks") if kinds.is_sentence_level(kind)]
PROBE = {"rows": [6, 90, "all"], "draws": 3, "declared": {"rows": [6, 90]}, "bootstrap_samples": 40, "controls": ["other"]}


def write_table(directory: Path, kind: str, *, pair: bool, splits: dict[str, int]) -> None:
    """The kind's examples over and over, each with a word of its own."""
    examples, directory = examples_of(kind), directory / f"{kind}_{'pair' if pair else 'single'}"
    directory.mkdir(parents=True)
    metric = kinds.table(kind).default_metric
    schema = {"name": directory.name, "kind": kind, "labels": examples.LABEL_LIST, "pair": pair, "metric": metric}
    (directory / "schema.json").write_text(json.dumps(schema), encoding="utf-8")
    for split, count in splits.items():
        rows = [{**examples.INPUTS[row % 4], "label": examples.LABELS[row % 4], "id": f"{split}-{row}"} for row in range(count)]
        given = [{**row, "text": f"{row['text']} {row['id']}", **({"text_pair": row["text"]} if pair else {})} for row in rows]
        columns = {name: [row[name] for row in given] for name in given[0]} if given else {"id": pa.array([], pa.string())}
        pq.write_table(pa.table(columns), directory / f"{split}.parquet")


@pytest.fixture(scope="module")
def encoders(tiny_encoder_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("encoders")
    for name, start in (("base", None), ("mlm", "base"), ("other", "mlm")):
        shutil.copytree(tiny_encoder_dir, directory / name)
        if start:
            (directory / name / "card.json").write_text(json.dumps({"start": start, "tokens": 500}), encoding="utf-8")
    return directory


def run(tmp_path: Path, tables: Path, encoders: Path, **changes: Any) -> Path:
    raw = read_yaml(PARAMS)
    tasks = {table.name: {"kind": read_json(table / "schema.json")["kind"], "data": "none", "max_length": 16} for table in tables.iterdir()}
    raw |= {"tasks": tasks, "probe": {**PROBE, **changes}, "encoders": {"mlm": {"start": "base"}, "other": {"start": "mlm"}}}
    raw["runs"] |= {"tasks": list(tasks), "single_seed_tasks": [], "encoders": ["base", "mlm"]}
    params, out = select_params(Config(**raw), probe.Params), tmp_path / "out"
    out.mkdir()
    context = StageContext("probe", MemorySink(), tmp_path / "checkpoints", lambda: None)
    probe.run(params, tables=tables, encoders=encoders, verdict=tmp_path, out=out, context=context)
    return out


@pytest.mark.parametrize("pair", [False, True])
@pytest.mark.parametrize("kind", JUDGED)
def test_a_kind_with_one_answer_is_judged(kind: str, pair: bool, encoders: Path, tmp_path: Path) -> None:
    write_table(tmp_path / "tables", kind, pair=pair, splits={"train": 12, "rest": 12, "dev": 8, "test": 16})
    out = run(tmp_path, tmp_path / "tables", encoders)
    (task,), curves, comparisons = read_json(out / "curves.json"), read_json(out / "curves.json"), read_json(out / "comparisons.json")
    found = curves[task]
    assert (found["pool_rows"], found["judged_rows"], found["general"]) == (24, 16, False)
    assert found["tokens"] == {"base": 0, "mlm": 500, "other": 1000}
    points = (2 * 2 + 1) * 3 * 2  # encoders of runs at two sizes, the control at the declared one; layers, probes
    assert len(found["points"]) == points
    assert [(each["rows"], each["reason"].split(" ")[:3]) for each in found["missing"]] == [(90, ["90", "of", "24"])]
    pairs = comparisons["tasks"][task]["pairs"]
    assert [(each["encoder"], each["against"]) for each in pairs] == [("mlm", "base"), ("other", "base"), ("mlm", "other")]
    assert {(each["difference"]["mean"], each["layer"], each["verdict"]) for each in pairs} == {(0.0, 2, "equivalent")}  # the same weights
    assert {each["rows"] for each in comparisons["missing"]} == {90}
    rows = [*csv.DictReader((out / "ledger.csv").read_text(encoding="utf-8").splitlines())]
    assert len(rows) == points * 3 and {row["draw"] for row in rows} == {"0", "1", "2"}
    metrics = read_json(out / "metrics.json")[task]
    assert list(metrics["encoders"]["base"]["last"]) == [metrics["metric"]]
    for name in ("by_layer.csv", "by_rows.csv", "layers.csv"):
        assert "nan" not in (out / name).read_text(encoding="utf-8")
    assert (out / "by_rows.csv").read_text(encoding="utf-8").splitlines()[0] == "rows,base,mlm,other"


@pytest.mark.parametrize(
    ("splits", "reason"),
    [
        ({"train": 12, "dev": 8}, "no test rows, so there is nothing to judge the probes on"),
        ({"train": 12, "dev": 8, "test": 0}, "no test rows, so there is nothing to judge the probes on"),
        ({"train": 1, "dev": 8, "test": 8}, "1 labelled training rows; a probe needs 2"),
    ],
)
def test_a_task_that_cannot_be_judged_is_missing_with_its_reason(
    splits: dict[str, int], reason: str, encoders: Path, tmp_path: Path
) -> None:
    write_table(tmp_path / "tables", "regression", pair=False, splits=splits)
    out = run(tmp_path, tmp_path / "tables", encoders)
    name = "regression_single"
    comparisons = read_json(out / "comparisons.json")
    assert comparisons["missing"] == [{"task": name, "reason": f"{name}: {reason}"}]
    assert (comparisons["tasks"], read_json(out / "metrics.json"), read_json(out / "curves.json")) == ({}, {}, {})
    assert (out / "by_layer.csv").read_text(encoding="utf-8") == "layer,base,mlm,other\n"
