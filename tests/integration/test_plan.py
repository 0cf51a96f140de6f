"""`acclimate plan` on the tiny profile, before anything has run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from acclimate.artifacts import write_json

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


def plan(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in the project."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-m", "acclimate", "plan", *arguments]
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, timeout=600, check=False)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Params and data, and nothing made of them."""
    directory = tmp_path_factory.mktemp("project")
    for file in ROOT.glob("params*.yaml"):
        shutil.copy(file, directory)
    params = (directory / "params.yaml").read_text()
    priced = params.replace("\n  micro_rows: auto", "\n  price_per_hour: 2.5\n  micro_rows: auto")
    assert priced != params
    (directory / "params.yaml").write_text(priced)
    (directory / "data").symlink_to(ROOT / "data")
    return directory


@pytest.fixture(scope="module")
def planned(project: Path) -> str:
    """What the command printed."""
    done = plan(project, "--profile", "tiny")
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_every_training_stage_has_a_line_and_a_prediction(project: Path, planned: str) -> None:
    lines = planned.splitlines()
    for name in ("pretrain ", "finetune section ", "finetune entities ", "all training "):
        assert any(line.startswith(name) for line in lines), planned
    assert next(line for line in lines if line.startswith("stage")).endswith("cost")
    assert "tried token ids at random" in planned
    stages = json.loads((project / ".acclimate/plan.json").read_text())["stages"]
    finetuned = [f"finetune@{task}-{encoder}-0" for task in ("section", "entities") for encoder in ("base", "adapted")]
    assert set(stages) == {"pretrain", *finetuned}
    for found in stages.values():
        assert found["wall_s"] == pytest.approx(sum(found["parts_s"].values()), abs=0.05)
        assert found["peak_rss_mb"] > 200
        assert min(found["parts_s"].values()) > 0
    assert stages["pretrain"]["steps"] == 8


def test_nothing_but_the_plan_is_left(project: Path, planned: str) -> None:
    assert [path.name for path in (project / ".acclimate").iterdir()] == ["plan.json"]
    assert not (project / "artifacts").exists()


def test_stages_find_their_predictions(project: Path, planned: str) -> None:
    from acclimate.config import load_config
    from acclimate.planning.predictions import predicted

    config, path = load_config(project / "params.yaml"), project / ".acclimate/plan.json"
    threads = json.loads(path.read_text())["stages"]["pretrain"]["threads"]
    record = {"device": "cpu", "threads": threads, "processes": 1}
    assert set(predicted(config, "pretrain", record, task=None, plan=path)) == {"predicted_wall_s", "predicted_peak_rss_mb"}
    assert predicted(config, "finetune-once@entities-adapted-0", record, task="entities", plan=path)


def test_what_cannot_fit_is_refused_in_a_line_a_stage_and_writes_no_plan(project: Path, planned: str) -> None:
    write_json(project / ".acclimate/plan.json", {"stages": {}})
    done = plan(project, "--memory-mb", "300")
    assert done.returncode == 1
    said = done.stderr.splitlines()
    assert "acclimate plan: 3 of 3 training stages do not fit" in said
    refused = [line for line in said if "needs" in line]
    assert [line.split(":")[0].strip() for line in refused] == ["pretrain", "finetune section", "finetune entities"]
    assert all("300 MB are given; would fit: no setting" in line for line in refused)
    assert json.loads((project / ".acclimate/plan.json").read_text()) == {"stages": {}}
