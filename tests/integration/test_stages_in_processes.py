"""pretrain and finetune in two processes against one: the same metrics and curves, every out and record once."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from acclimate.params_file import read_yaml
from tests.integration.test_launch import ROOT, WAIT_S, Project

PRETRAIN = ("--encoder-name", "adapted", "--tokens", "tokens", "--start-from", "encoder", "--out", "{}", "--record", "{}.json")
FINETUNE = (
    *(
        "--task",
        "section",
        "--encoder-name",
        "base",
        "--recipe",
        "full",
        "--seed",
        "0",
        "--encoder",
        "encoder",
        "--table",
        "table",
        "--verdict",
        "verdict.json",
    ),
    *("--out", "{}", "--record", "{}.json"),
)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, tiny_encoder_dir: Path) -> Project:
    """Tokens, an encoder and a table, with params for runs of some steps of 2 x 5 rows."""
    directory = tmp_path_factory.mktemp("stages")
    shutil.copytree(tiny_encoder_dir, directory / "encoder")
    write_tokens(directory / "tokens")
    write_table(directory / "table")
    (directory / "verdict.json").write_text("{}")
    params = read_yaml(ROOT / "params.yaml")
    params["pretrain"] |= {"tokens": 10 * 320, "head_warmup_tokens": 4 * 320, "batch_size": 5, "accumulation": 2, "heldout_rows": 8}
    params["pretrain"] |= {"objectives": {"mlm": {"rate": 0.2}}, "evaluations": 1, "precision": "fp32"}
    params["pretrain"] |= {"retain_by": "loss", "retention": {"weight_average": {"shares": [0.5, 1.0]}}}
    params["finetune"] |= {"epochs": 2, "batch_size": 5, "dropout": 0.0, "precision": "fp32"}
    return Project(directory, directory / "mlflow.db", params)


def write_tokens(directory: Path) -> None:
    """Documents of 20 to 60 random tokens, as the stage `tokenize` leaves them, for rows of 32."""
    directory.mkdir()
    generator = np.random.default_rng(0)
    for split, documents in (("corpus", 200), ("heldout", 20), ("general", 20)):
        offsets = np.concatenate([[0], np.cumsum(generator.integers(20, 60, documents))])
        ids = generator.integers(1000, 1400, offsets[-1]).astype(np.uint16)
        np.save(directory / f"{split}.ids.npy", ids)
        np.save(directory / f"{split}.document_offsets.npy", offsets)
        np.save(directory / f"{split}.word_starts.npy", np.full(-(-len(ids) // 8), 255, np.uint8))
        if split == "corpus":
            np.save(directory / "unigram.npy", np.bincount(ids, minlength=30522))
    (directory / "index.json").write_text('{"sequence_length": 32}')


def write_table(directory: Path) -> None:
    """21 rows of three labels to train on: an epoch's last batch of 5 has a single row."""
    directory.mkdir()
    words = {"games": "arcade racing level", "editors": "text buffer syntax", "math": "matrix solver algebra"}
    for split, count in (("train", 21), ("dev", 12), ("test", 12)):
        labels = [list(words)[row % 3] for row in range(count)]
        texts = [" ".join([words[label].split()[row % 3]] * (1 + row % 4)) for row, label in enumerate(labels)]
        pq.write_table(
            pa.table({"id": [f"{split}{row}" for row in range(count)], "text": texts, "label": labels}), directory / f"{split}.parquet"
        )
    schema = {"name": "section", "kind": "classification", "labels": sorted(words), "pair": False, "metric": "macro_f1"}
    (directory / "schema.json").write_text(json.dumps(schema))


def run(project: Project, name: str, stage: str, *, command: tuple[str, ...] = (sys.executable,), **launch: Any) -> Path:
    """Run a stage to its end; its out."""
    arguments = (argument.format(name) for argument in (PRETRAIN if stage == "pretrain" else FINETUNE))
    process = project.start(*command, "-m", f"stages.{stage}", *arguments, launch=launch)
    _, stderr = process.communicate(timeout=2 * WAIT_S)
    assert process.returncode == 0, stderr
    assert "Traceback" not in stderr
    return project.directory / name


def assert_same_results(found: Path, expected: Path) -> None:
    """float32 sums in another order: 2e-7 measured for losses."""
    with (found / "history.csv").open() as ours, (expected / "history.csv").open() as theirs:
        for row, wanted in zip(csv.DictReader(ours), csv.DictReader(theirs), strict=True):
            for column, value in wanted.items():
                assert (row[column] == "") == (value == ""), column
                if value:
                    assert float(row[column]) == pytest.approx(float(value), rel=5e-5 if column == "grad_norm" else 1e-5), column
    assert_same_numbers(json.loads((found / "metrics.json").read_text()), json.loads((expected / "metrics.json").read_text()))


def assert_same_numbers(found: Any, expected: Any) -> None:
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert_same_numbers(found[name], value)
    else:
        assert found == (pytest.approx(expected, rel=1e-5) if isinstance(expected, float) else expected)


@pytest.fixture(scope="module")
def pretrained_by_one(project: Project) -> Path:
    return run(project, "one", "pretrain")


def test_pretrain_in_two_processes_gives_what_one_gives_once(project: Project, pretrained_by_one: Path) -> None:
    from mlflow import MlflowClient

    found = run(project, "two", "pretrain", processes=2)
    assert_same_results(found, pretrained_by_one)
    record = json.loads((project.directory / "two.json").read_text())
    assert record["processes"] == 2
    client = MlflowClient(f"sqlite:///{project.directory / 'mlflow.db'}")
    (experiment,) = (experiment for experiment in client.search_experiments() if experiment.name != "Default")
    stages = [stored for stored in client.search_runs([experiment.experiment_id]) if stored.info.run_name == "pretrain@adapted"]
    assert len(stages) == 2  # one of each command
    assert {stored.info.status for stored in stages} == {"FINISHED"}
    assert record["run_id"] in {stored.info.run_id for stored in stages}


@pytest.mark.slow
def test_pretrain_under_torchrun_with_split_state_gives_what_one_gives(project: Project, pretrained_by_one: Path) -> None:
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2")
    assert_same_results(run(project, "torchrun", "pretrain", command=torchrun, sharding="fsdp"), pretrained_by_one)
    assert json.loads((project.directory / "torchrun.json").read_text())["processes"] == 2


@pytest.mark.slow
def test_pretrain_under_accelerate_gives_what_one_gives(project: Project, pretrained_by_one: Path) -> None:
    accelerate = (sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2")
    assert_same_results(run(project, "accelerate", "pretrain", command=accelerate), pretrained_by_one)
    assert json.loads((project.directory / "accelerate.json").read_text())["processes"] == 2


@pytest.mark.slow
def test_finetune_in_two_processes_with_split_state_gives_what_one_gives(project: Project) -> None:
    assert_same_results(run(project, "split", "finetune", processes=2, sharding="fsdp"), run(project, "plain", "finetune"))


@pytest.mark.parametrize(("stage", "launch", "steps"), [("pretrain", {"processes": 2}, 10), ("finetune", {}, 10)])
def test_a_trial_measures_and_publishes_nothing(project: Project, stage: str, launch: dict[str, Any], steps: int) -> None:
    before = sorted(project.directory.rglob("*"))
    arguments = (argument.format("tried") for argument in (PRETRAIN if stage == "pretrain" else FINETUNE))
    process = project.start(sys.executable, "-m", f"stages.{stage}", *arguments, "--try", "3", launch=launch)
    stdout, stderr = process.communicate(timeout=2 * WAIT_S)
    assert process.returncode == 0, stderr
    found = json.loads(stdout)
    assert found["fits"] and found["steps"] == steps and found["processes"] == launch.get("processes", 1)
    assert min(found["parts_s"][part] for part in ("start and end", "steps", "checkpoints")) > 0
    assert [
        path for path in sorted(project.directory.rglob("*")) if path not in before and path.name not in (".acclimate", "params.yaml")
    ] == []
