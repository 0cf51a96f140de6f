"""`acclimate plan` on the tiny profile, before anything has run, and the stages that are run by it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow
FINETUNED = [f"finetune@section-{encoder}-full-0" for encoder in ("base", "adapted")]
FINETUNED += [f"finetune-once@entities-{encoder}-full-0" for encoder in ("base", "adapted")]


def run(project: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command of this environment in the project."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DVC", "ACCLIMATE", "MLFLOW_TRACKING"))}
    paths = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(project / "src")}
    return subprocess.run(
        command, cwd=project, env={**kept, **paths, **environment}, capture_output=True, text=True, timeout=900, check=False
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project, and nothing made of it."""
    directory = tmp_path_factory.mktemp("project")
    for name in (
        "src",
        "stages",
        "flows",
        "data",
        ".dvc/config",
        ".dvcignore",
        ".gitignore",
        "dvc.yaml",
        "params.yaml",
        "params.tiny.yaml",
    ):
        (directory / name).parent.mkdir(exist_ok=True)
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
        copy(ROOT / name, directory / name)
    params = (directory / "params.yaml").read_text()
    (directory / "params.yaml").write_text(
        params.replace("\n  micro_batch_size: auto", "\n  price_per_hour: 2.5\n  micro_batch_size: auto")
    )
    assert run(directory, "git", "init", "-q").returncode == 0
    return directory


@pytest.fixture(scope="module")
def planned(project: Path) -> str:
    """What the command printed."""
    done = run(project, "acclimate", "plan", "--profile", "tiny")
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_every_training_stage_has_a_line_and_a_prediction_and_leaves_nothing(project: Path, planned: str) -> None:
    for name in ("pretrain adapted ", "pretrain other ", "finetune section full ", "finetune entities full ", "all training "):
        assert any(line.startswith(name) for line in planned.splitlines()), planned
    assert next(line for line in planned.splitlines() if line.startswith("stage")).endswith("cost")
    stages = json.loads((project / ".acclimate/plan.json").read_text())["stages"]
    assert set(stages) == {"pretrain@adapted", "pretrain@other", *FINETUNED}
    for found in stages.values():
        assert found["wall_s"] == pytest.approx(sum(found["parts_s"].values()))
        assert found["peak_rss_mb"] > 200
    assert stages["pretrain@adapted"]["steps"] == 8
    assert {path.stem for path in (project / "records").iterdir() if path.suffix == ".json"} == {
        "backbone",
        "ingest",
        "tokenize",
        "validate",
    }
    assert not {"pretrain", "finetune"} & {path.name for path in (project / "artifacts").iterdir()}
    assert not [path for path in (project / ".acclimate").iterdir() if path.name.startswith(("plan-", "acclimate-"))]
    assert not [path for path in project.glob(".acclimate/checkpoints/*") if path.name.startswith(("pretrain", "finetune"))]


def test_a_stage_that_was_planned_has_its_prediction_in_its_record(project: Path, planned: str) -> None:
    done = run(project, "dvc", "repro", "-s", FINETUNED[0])
    assert done.returncode == 0, done.stderr[-3000:]
    record = json.loads((project / "records/finetune/section/base-full-0.json").read_text())
    assert record["forecast_wall_s"] > 0
    assert record["forecast_peak_rss_mb"] == pytest.approx(record["peak_rss_mb"], rel=0.15)


def test_what_cannot_fit_is_refused_in_a_line_a_stage_and_the_plan_stays(project: Path, planned: str) -> None:
    before = (project / ".acclimate/plan.json").read_bytes()
    done = run(project, "acclimate", "plan", "--memory-mb", "300")
    assert done.returncode == 1
    assert "acclimate plan: 4 of 4 training stages do not fit" in done.stderr.splitlines()
    refused = [line for line in done.stderr.splitlines() if "needs" in line]
    assert [line.split(":")[0].strip() for line in refused] == [
        "pretrain adapted",
        "pretrain other",
        "finetune entities full",
        "finetune section full",
    ]
    assert all("has 300 MB; would fit: no setting" in line for line in refused)
    assert (project / ".acclimate/plan.json").read_bytes() == before


def test_a_trial_that_is_killed_says_why(project: Path, planned: str) -> None:
    (project / "kill").mkdir()
    (project / "kill/sitecustomize.py").write_text("import os, sys\nif '--try' in sys.orig_argv: os.kill(os.getpid(), 9)")
    done = run(project, "acclimate", "plan", PYTHONPATH=f"{project / 'src'}:{project / 'kill'}")
    assert done.returncode == 1
    assert "acclimate plan: pretrain adapted: the system killed the trial, most likely because memory ran out" in done.stderr
