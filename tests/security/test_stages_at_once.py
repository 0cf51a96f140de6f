"""Two processes run the same stage, or two runs share a checkout: one result with the same bytes, and one clear line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from acclimate import artifacts, locks
from acclimate.errors import EnvironmentUnfitError
from tests.security.stages import COMMAND, NUM_FILES, ROOT, checkout, contents, environment, start

IN_CONTAINER = ("unshare", "--pid", "--fork", "--mount-proc")
"""Its processes have numbers of their own, and it does not see those outside."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What the stage makes alone."""
    directory = checkout(tmp_path_factory.mktemp("alone"))
    assert finish(start(directory, *COMMAND)) == (0, [])
    return contents(directory / "artifacts/own")


def finish(process: subprocess.Popen[str]) -> tuple[int, list[str]]:
    """Exit status, and what was said on standard error but for warnings that MLflow is away."""
    _, stderr = process.communicate(timeout=120)
    return process.returncode, [line for line in stderr.splitlines() if " WARNING acclimate.adapters.tracking " not in line]


def wait_until_begun(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"


def skip_without_namespaces() -> None:
    if shutil.which("unshare") is None or subprocess.run([*IN_CONTAINER, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no right to make a PID namespace here")


@pytest.mark.parametrize("second", ["here", "in a container"])
def test_two_stages_at_once_give_one_result_and_one_line(second: str, tmp_path: Path, made: dict[str, bytes]) -> None:
    if second == "in a container":
        skip_without_namespaces()
    directory = checkout(tmp_path)
    killed = directory / "artifacts" / ".own.0123abcd.partial"
    killed.mkdir(parents=True)
    (directory / "hold").touch()
    winner = start(directory, *COMMAND)
    wait_until_begun(winner)
    status, said = finish(start(directory, *(IN_CONTAINER if second == "in a container" else ()), *COMMAND))
    assert status == 1
    (line,) = said
    assert line.startswith(f"own_stage: artifacts/own is in use by process {winner.pid} on ")
    assert line.endswith("two at once would ruin each other's files. Run this again when that one has ended")
    (directory / "hold").unlink()
    assert finish(winner) == (0, [])
    assert contents(directory / "artifacts/own") == made
    assert len(made) == NUM_FILES + 1  # and the manifest
    assert list((directory / "artifacts").glob(".*")) == list((directory / ".acclimate/locks").iterdir()) == []


def test_two_checkouts_on_one_store_give_the_same_bytes(tmp_path: Path, made: dict[str, bytes]) -> None:
    directories = [checkout(tmp_path / name) for name in "ab"]
    processes = [start(directory, *COMMAND, store=tmp_path / "mlflow.db") for directory in directories]
    assert [finish(process)[0] for process in processes] == [0, 0]
    assert [contents(directory / "artifacts/own") for directory in directories] == [made, made]


def test_a_lock_has_one_owner_and_is_dropped_at_any_death(tmp_path: Path) -> None:
    lock = tmp_path / "a.lock"
    program = f"from acclimate import locks; from pathlib import Path\nwith locks.held(Path({str(lock)!r}), 'it'): print('has', input())"
    owner = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment(tmp_path))
    while not lock.exists() or not lock.read_text():
        time.sleep(0.01)
    with pytest.raises(EnvironmentUnfitError, match=f"it is in use by process {owner.pid} on"), locks.held(lock, "it"):
        pass
    owner.kill()
    owner.communicate()
    with locks.held(lock, "it"), pytest.raises(EnvironmentUnfitError), locks.held(lock, "it"):
        pass
    assert not lock.exists()


def test_a_hundred_takers_own_a_lock_in_turn(tmp_path: Path) -> None:
    """A lock file is removed by its owner: nobody may own a file that is no longer there while another owns its successor."""
    program = """
import sys
from pathlib import Path
from acclimate import locks
from acclimate.errors import EnvironmentUnfitError
lock, count, owned = Path("a.lock"), Path("count"), 0
while owned < 100:
    try:
        with locks.held(lock, "it"):
            count.write_text(str(int(count.read_text()) + 1))
        owned += 1
    except EnvironmentUnfitError:
        pass
"""
    (tmp_path / "count").write_text("0")
    command = [sys.executable, "-c", program]
    processes = [subprocess.Popen(command, cwd=tmp_path, env=environment(tmp_path)) for _ in range(4)]
    assert [process.wait(timeout=60) for process in processes] == [0] * 4
    assert (tmp_path / "count").read_text() == "400"


def test_leftovers_of_a_neighbour_stay(tmp_path: Path) -> None:
    mine, neighbour = tmp_path / "report", tmp_path / "report.html"
    for out in (mine, neighbour):
        artifacts.partial(out).write_text("")
    artifacts.remove_partials(mine)
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".report.html.")


def test_a_directory_that_no_stage_wrote_is_not_replaced(tmp_path: Path) -> None:
    directory = checkout(tmp_path)
    (directory / "artifacts" / "own").mkdir(parents=True)
    (directory / "artifacts" / "own" / "thesis.tex").write_text("")
    status, said = finish(start(directory, *COMMAND))
    assert status == 1
    assert said == ["own_stage: artifacts/own: would be replaced, and no stage wrote it (it holds no manifest.json); move it away"]


def test_a_second_run_of_a_checkout_is_refused_before_dvc_deletes_an_out(tmp_path: Path) -> None:
    """The first run is in a container: DVC's own lock, which goes by process number, takes it for dead."""
    skip_without_namespaces()
    assert "exec python -m flows.dvc_process --alone repro\n" in (ROOT / "Makefile").read_text()
    directory = checkout(tmp_path)
    subprocess.run(["git", "init", "-q"], cwd=directory, check=True)
    (directory / ".dvc").mkdir()
    (directory / ".dvc" / "config").write_text("[core]\n    analytics = false\n")
    stage = " ".join(["python", *COMMAND[1:]])
    waits = "touch published; while [ ! -e go ]; do sleep 0.1; done"  # DVC is yet to take the outs in
    outs = ["artifacts/own", "records/own.json"]
    (directory / "dvc.yaml").write_text(json.dumps({"stages": {"own": {"cmd": f"{stage} && {waits}", "outs": outs}}}))
    run = (sys.executable, "-m", "flows.dvc_process", "--alone", "repro")
    winner = start(directory, *IN_CONTAINER, *run)
    while not (directory / "published").exists():
        assert winner.poll() is None
        time.sleep(0.05)
    status, said = finish(start(directory, *run))
    (directory / "go").touch()
    assert status == 1
    (line,) = said
    assert line.startswith("run: this checkout is in use by process ")
    output, errors = winner.communicate(timeout=60)
    assert winner.returncode == 0, output + errors
    assert len(contents(directory / "artifacts/own")) == NUM_FILES + 1
    assert "artifacts/own" in (directory / "dvc.lock").read_text()


def test_the_name_of_a_stage_is_no_path(tmp_path: Path) -> None:
    directory = checkout(tmp_path / "checkout")
    before = {path.name for path in directory.iterdir()}
    status, said = finish(start(directory, *COMMAND, DVC_STAGE="own_stage/../../../../victim"))
    assert (status, said) == (0, [])
    assert {path.name for path in tmp_path.iterdir()} == {"checkout"}
    assert {path.name for path in directory.iterdir()} - before <= {"artifacts", "records", ".acclimate", "__pycache__"}
    assert not list(tmp_path.rglob("*victim*"))


def test_a_profile_is_not_laid_under_a_run(tmp_path: Path) -> None:
    directory = checkout(tmp_path)
    (directory / "params.tiny.yaml").write_text("seed: 7\n")
    (directory / ".acclimate").mkdir()
    command = (sys.executable, "-m", "acclimate", "profile", "tiny")
    with locks.held(directory / locks.RUN_LOCK, "this checkout"):
        status, (line,) = finish(start(directory, *command))
    assert status == 1
    assert line.startswith("acclimate profile: params.yaml is in use by process ")
    assert "seed: 20" in (directory / "params.yaml").read_text()
    assert finish(start(directory, *command)) == (0, [])
    assert "seed: 7" in (directory / "params.yaml").read_text()
