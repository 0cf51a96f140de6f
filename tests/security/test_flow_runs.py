"""Attacks on flow runs: a name that is a path, links in the way, `kill -9`, and a retry of other values."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import psutil
import pytest
from prefect.settings import PREFECT_API_URL
from prefect.testing.utilities import prefect_test_harness

from acclimate import locks
from acclimate.errors import EnvironmentUnfitError
from flows import pipeline as flow_module
from flows import worktree
from flows.overrides import Overrides
from flows.pipeline import pipeline
from tests.integration.test_launch import STEPS, is_alive, wait_for
from tests.security.stages import ROOT, environment, without_mlflow

pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value will soon:DeprecationWarning")  # pygtrie's, met by DVC

FAILS_ONCE = """\
from pathlib import Path
from typing import Any
from acclimate.settings import Options
from acclimate.errors import DataError
from stages.command import Out, StageContext, main

class Params(Options):
    finetune: dict[str, Any]

def run(params: Params, *, out: Out, context: StageContext) -> None:
    checkpoint = context.checkpoint_directory / "step"
    if not checkpoint.exists():
        checkpoint.parent.mkdir(parents=True)
        checkpoint.write_text(str(params.finetune["learning_rate"]))
        raise DataError("ended after its first checkpoint")
    (out / "summary.txt").write_text("of this run")
    with open(Path({project!r}) / "resumed", "a") as file:
        file.write(checkpoint.read_text() + "\\n")

if __name__ == "__main__":
    main(run, Params)
"""
SMALL = f"python -m tests.integration.small_stage --rows 7 --steps {STEPS}"


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git and DVC repository with one stage."""
    root = tmp_path / "project"
    root.mkdir()
    monkeypatch.chdir(root)
    shutil.copyfile(ROOT / "params.yaml", root / "params.yaml")
    for code in ("src", "stages"):  # a work tree's stages see the work tree alone
        (root / code).symlink_to(ROOT / code)
    (root / "fails_once.py").write_text(FAILS_ONCE.format(project=str(root)))
    without_mlflow(root)
    for name, value in environment(root).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(flow_module, "_RETRY_DELAYS_S", [0.0, 0.0])
    write_stage(root, "python -m fails_once", "artifacts/report")
    (root / ".dvc").mkdir()
    (root / ".dvc" / "config").write_text("[core]\n    analytics = false\n")
    (root / ".dvc" / ".gitignore").write_text("/config.local\n/tmp\n/cache\n")
    (root / ".gitignore").write_text(".acclimate/\n/no-mlflow/\n/out*\n/artifacts/\n")
    for command in ("git init -q", "git add .", "git -c user.name=t -c user.email=t@example.org commit -q -m start"):
        subprocess.run(command.split(), check=True)
    return root


def write_stage(root: Path, command: str, out: str) -> None:
    stages = {"stage": {"cmd": f"{command} --out {out} --record out.json", "params": ["finetune.learning_rate"], "outs": [out, "out.json"]}}
    (root / "dvc.yaml").write_text(json.dumps({"stages": stages}))


def test_the_name_of_a_flow_run_is_no_path_and_its_retry_keeps_the_checkpoints(project: Path) -> None:
    victim = project.parent / "victim"
    victim.mkdir()
    (victim / "summary.txt").write_text("mine")
    # The second try is the same run: its work tree, in which the first left its state, is made anew.
    named = pipeline.with_options(flow_run_name=str(victim), retries=1)
    assert named(Overrides(finetune_learning_rate=0.5), return_state=True).is_completed()
    assert (project / "resumed").read_text() == "0.5\n"
    (kept,) = (project / ".acclimate" / "runs").iterdir()
    assert (kept / "summary.txt").read_text() == "of this run"
    assert str(UUID(kept.name)) == kept.name
    assert {path.name: path.read_text() for path in victim.iterdir()} == {"summary.txt": "mine"}


def test_a_link_in_the_way_leads_nowhere(project: Path) -> None:
    victim = project.parent / "victim"
    run = uuid4()
    for link in (f".acclimate/worktrees/{run}", ".acclimate/worktrees", ".acclimate"):
        (victim / "worktrees" / str(run)).mkdir(parents=True, exist_ok=True)
        (victim / str(run)).mkdir(exist_ok=True)
        (project / link).parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(project / link, ignore_errors=True)
        (project / link).symlink_to(victim)
        for deletes in (worktree.add, worktree.remove):
            with pytest.raises(EnvironmentUnfitError, match="a link leads to"):
                deletes(project, run)
        assert (victim / "worktrees" / str(run)).is_dir() and (victim / str(run)).is_dir()
        (project / link).unlink()
    for name in ("/home", "../..", "..", ""):
        with pytest.raises(ValueError, match="badly formed"):
            worktree.add(project, name)  # type: ignore[arg-type]


def test_a_killed_flow_leaves_no_process_and_the_next_run_resumes(project: Path) -> None:
    whole = subprocess.run(f"{SMALL} --out out-whole --record out-whole.json".split(), capture_output=True, text=True, check=False)
    assert whole.returncode == 0, whole.stderr
    (project / "pid-0").unlink()
    write_stage(project, SMALL, "out")
    given = {**os.environ, "PREFECT_API_URL": str(PREFECT_API_URL.value())}
    flow = subprocess.Popen([sys.executable, "-m", "flows.pipeline"], env=given, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: any(project.glob(".acclimate/checkpoints/*/step-*.pt")) or flow.poll() is not None)
    family = psutil.Process(flow.pid).children(recursive=True)
    assert int((project / "pid-0").read_text()) in {process.pid for process in family}
    flow.kill()
    flow.wait()
    wait_for(lambda: not any(is_alive(process.pid) for process in family))
    with locks.held(locks.RUN_LOCK, "it"):
        pass
    again = [sys.executable, "-m", "flows.dvc_process", "--alone", "repro"]
    done = subprocess.run(again, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((project / "out.json").read_text())["resumed_from"] > 0
    assert (project / "out/curve.json").read_bytes() == (project / "out-whole/curve.json").read_bytes()
    assert list((project / ".acclimate/locks").iterdir()) == []
