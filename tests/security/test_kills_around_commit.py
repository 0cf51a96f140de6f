"""`kill -9` of a stage, and of `dvc repro`, while outs are put in place: each out is whole, and `dvc repro` ends in the right bytes.

By default three kills; ACCLIMATE_WHOLE (`make test-security WHOLE=1`) makes twelve.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from acclimate.artifacts import file_sha256, read_json
from tests.security.commit_stage import FILES

ROOT = Path(__file__).parents[2]
KILLS = 12 if "ACCLIMATE_WHOLE" in os.environ else 3
SEED = int(os.environ.get("ACCLIMATE_KILL_SEED", "11"))
OUTS = ("artifacts/out", "artifacts/second")
COMMAND = (
    "python -m tests.security.commit_stage --source source.txt --out artifacts/out --second artifacts/second --record records/commit.json"
)
_STAGE_S, _DVC_S = 0.1, 0.4
"""Some time from the last byte written until the outs are in place, and until DVC has them in its cache."""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    shutil.copyfile(ROOT / "params.yaml", tmp_path / "params.yaml")
    (tmp_path / "source.txt").write_text("version 0")
    stage = {"cmd": COMMAND, "deps": ["source.txt"], "outs": [*OUTS, "records/commit.json"]}
    (tmp_path / "dvc.yaml").write_text(json.dumps({"stages": {"commit": stage}}))
    for command in ("git init -q", "dvc init -q"):
        assert start(tmp_path, command).wait(60) == 0
    return tmp_path


def start(project: Path, command: str = "dvc repro -q") -> subprocess.Popen[bytes]:
    """In a process group of its own, as a shell would start it."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    environment["MLFLOW_TRACKING_URI"] = "http://127.0.0.1:9"  # nobody answers: records stay in the spool
    return subprocess.Popen(command.split(), cwd=project, env=environment, stderr=subprocess.DEVNULL, start_new_session=True)


def assert_whole(project: Path, versions: set[str]) -> None:
    """Each out that is there holds every file that its manifest names, all of one version."""
    for out in (project / name for name in OUTS):
        if out.exists():
            files = read_json(out / "manifest.json")["files"]
            assert len(files) == FILES
            assert {name: file_sha256(out / name) for name in files} == {name: about["sha256"] for name, about in files.items()}
            assert {(out / name).read_text().partition(" ")[2] for name in files} <= versions


def test_killed_while_it_commits_a_stage_leaves_whole_outs_and_ends_right(project: Path) -> None:
    generator, killed = random.Random(SEED), 0
    assert start(project).wait(120) == 0
    for version in range(1, KILLS + 1):
        (project / "source.txt").write_text(f"version {version}")
        (project / "committing").unlink()
        by_dvc = version % 3 == 0  # which removes the outs of before; alone, the stage replaces them
        process = start(project, "dvc repro -q" if by_dvc else COMMAND)
        while process.poll() is None and not (project / "committing").exists():
            time.sleep(0.001)
        time.sleep(generator.uniform(0.0, _DVC_S if by_dvc else _STAGE_S))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        killed += process.wait(60) == -signal.SIGKILL
        assert_whole(project, {f"version {number}" for number in range(version + 1)})
    print(f"{killed} of {KILLS} were killed before they had ended, seed {SEED}")
    assert killed >= 2 * KILLS // 3
    assert start(project).wait(120) == 0
    assert_whole(project, {f"version {KILLS}"})
    assert all((project / out).is_dir() for out in OUTS)
    status = subprocess.run(["dvc", "status"], cwd=project, capture_output=True, text=True, check=True)
    assert "up to date" in status.stdout
