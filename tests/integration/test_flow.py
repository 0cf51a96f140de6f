"""The flow on a small DVC project: same order and same skipping as `dvc repro`, other params in a checkout of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.testing.utilities import prefect_test_harness

from acclimate.errors import ConfigError
from flows import pipeline as flow_module
from flows.graph import changed_stages, read_graph, select
from flows.overrides import Overrides, write_params
from flows.pipeline import PipelineError, main, pipeline

# pygtrie's, met by DVC on a graph without nested outs.
pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value will soon:DeprecationWarning")

ROOT = Path(__file__).parents[2]
DVC_YAML = """\
stages:
  last:
    cmd: python stage.py artifacts/report
    deps: [artifacts/middle, stage.py]
    params: [finetune.learning_rate]
    outs: [artifacts/report]
  middle:
    matrix:
      seed: [0, 1]
    cmd: python stage.py artifacts/middle/${item.seed}
    deps: [artifacts/first, stage.py]
    params: [finetune.learning_rate]
    outs:
      - artifacts/middle/${item.seed}
  first:
    cmd: python stage.py artifacts/first
    deps: [stage.py]
    outs: [artifacts/first]
"""
STAGE = """\
import os, signal, sys
from pathlib import Path
from acclimate.params_file import read_yaml
out = Path(sys.argv[1])
attempts = Path(os.environ["ATTEMPTS"])
with attempts.open("a") as file:
    file.write(f"{out}\\n")
attempts.with_suffix(".trial").write_text(os.environ.get("ACCLIMATE_TRIAL", ""))
behaviour = os.environ.get("BEHAVIOUR", "")
if behaviour == "invalid" and out.name == "first":
    sys.exit("first: the data is wrong")
if behaviour == "killed once" and attempts.read_text().count("artifacts/first") == 1:
    os.kill(os.getpid(), signal.SIGKILL)
out.mkdir(parents=True)
(out / "summary.txt").write_text(f"{out.name} {read_yaml(Path('params.yaml'))['finetune']['learning_rate']}")
"""


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git and DVC repository with four stage instances, none run yet. Each attempt of a stage leaves a line."""
    root = tmp_path / "project"
    root.mkdir()
    monkeypatch.chdir(root)
    monkeypatch.setenv("ATTEMPTS", str(tmp_path / "attempts"))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(flow_module, "_RETRY_DELAYS_S", [0.0, 0.0])
    shutil.copyfile(ROOT / "params.yaml", root / "params.yaml")
    (root / "dvc.yaml").write_text(DVC_YAML)
    (root / "stage.py").write_text(STAGE)
    (root / ".gitignore").write_text(".acclimate/\n/artifacts/\n")
    for command in ("git init -q", "dvc init -q", "git add .", "git -c user.name=t -c user.email=t@example.org commit -q -m start"):
        subprocess.run(command.split(), check=True, capture_output=True)
    return root


def attempts(project: Path) -> list[str]:
    """The outs of the stages that ran since the last call, in order."""
    path = project.parent / "attempts"
    lines = path.read_text().split() if path.exists() else []
    path.unlink(missing_ok=True)
    return lines


def dvc(*arguments: str) -> str:
    return subprocess.run(["dvc", *arguments], check=True, capture_output=True, text=True).stdout


def test_the_order_is_that_of_dvc(project: Path) -> None:
    nodes = read_graph(project)
    assert [node.name for node in nodes] == ["first", "middle@0", "middle@1", "last"]
    assert nodes[-1].upstream == ("middle@0", "middle@1")
    assert changed_stages(project) == {"first", "middle@0", "middle@1", "last"}
    assert [node.name for node in select(nodes, ["middle"])] == ["first", "middle@0", "middle@1"]
    with pytest.raises(ConfigError, match="no stage called 'midle@0'; did you mean 'middle@0'"):
        select(nodes, ["midle@0"])


def test_flow_and_repro_leave_each_other_nothing_to_do(project: Path) -> None:
    state = pipeline(return_state=True)
    assert state.message == "4 of 4 stages ran or were restored"
    assert attempts(project) == ["artifacts/first", "artifacts/middle/0", "artifacts/middle/1", "artifacts/report"]
    assert "up to date" in dvc("status")
    assert "Running stage" not in dvc("repro")
    assert pipeline(return_state=True).message == "nothing to do: all 4 stages are up to date"
    write_params(project / "params.yaml", {"finetune.learning_rate": 0.25})
    dvc("repro")
    attempts(project)
    assert pipeline(return_state=True).message == "nothing to do: all 4 stages are up to date"
    assert attempts(project) == []


def test_overrides_run_in_a_checkout_of_their_own(project: Path) -> None:
    pipeline()
    attempts(project)
    before = {path: path.read_bytes() for path in (project / "params.yaml", project / "dvc.lock", project / "artifacts/report/summary.txt")}
    state = pipeline(Overrides(finetune_learning_rate=0.5, params={"runs.seeds": [7]}), return_state=True)
    assert state.message == "3 of 4 stages ran or were restored"
    assert attempts(project) == ["artifacts/middle/0", "artifacts/middle/1", "artifacts/report"]
    assert (project.parent / "attempts.trial").read_text() in [path.name for path in project.glob(".acclimate/runs/*")]
    assert {path: path.read_bytes() for path in before} == before
    assert [path.read_text() for path in project.glob(".acclimate/runs/*/summary.txt")] == ["report 0.5"]
    assert list((project / ".acclimate" / "worktrees").iterdir()) == []
    # The shared cache holds what the other checkout made: the same values here run nothing.
    write_params(project / "params.yaml", {"finetune.learning_rate": 0.5})
    assert "3 of 4" in pipeline(return_state=True).message
    assert attempts(project) == []


def test_a_stage_that_was_killed_is_tried_again(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BEHAVIOUR", "killed once")
    assert pipeline(targets=["first"], return_state=True).message == "1 of 1 stages ran or were restored"
    assert attempts(project) == ["artifacts/first", "artifacts/first"]


def test_a_stage_that_found_its_input_wrong_is_not(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BEHAVIOUR", "invalid")
    with pytest.raises(PipelineError, match="4 of 4 stages did not succeed: first, middle@0, middle@1, last"):
        pipeline()
    assert attempts(project) == ["artifacts/first"]


def test_a_mistyped_override_starts_no_stage_and_leaves_no_checkout(project: Path) -> None:
    with pytest.raises(ConfigError, match=r"finetune\.epocs: unknown key; did you mean `epochs`"):
        pipeline(Overrides(params={"finetune.epocs": 1}))
    assert attempts(project) == []
    assert list((project / ".acclimate" / "worktrees").iterdir()) == []


def test_the_form_changes_no_gate_and_the_terminal_may(project: Path) -> None:
    with pytest.raises(ConfigError, match=r"^'register.gates': not open to the form, which changes seed, .*; edit params.yaml instead$"):
        pipeline(Overrides(params={"register.gates": {}}))
    assert attempts(project) == []
    assert not (project / ".acclimate" / "worktrees").exists()
    assert main(["first", "--set", "register.gates.min_metric=0.5"]) == 0
    assert attempts(project) == ["artifacts/first"]
    assert (project.parent / "attempts.trial").read_text() != ""
