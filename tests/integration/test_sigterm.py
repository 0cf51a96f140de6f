"""SIGTERM outside the loop: before it begins and while a stage is still being imported."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from acclimate.launch import CONTINUE_EXIT_CODE

ROOT = Path(__file__).resolve().parents[2]
STAGE = """
import sys, time
from pathlib import Path
from acclimate.settings import Options
from stages.command import Out, StageContext, main

class Params(Options):
    seed: int

def run(params: Params, *, out: Out, context: StageContext) -> None:
    (out / "half").write_text("")
    print("begun", flush=True)
    time.sleep(60)

if __name__ == "__main__":
    main(run, Params, trains={trains})
"""


def test_a_stage_that_is_told_to_end_during_its_imports_asks_to_be_run_again() -> None:
    command = [sys.executable, "-v", "-m", "stages.pretrain", "--help"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:  # -v tells of each import
            if line.startswith("import 'acclimate.artifacts'"):
                break
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=60)
    assert process.returncode == CONTINUE_EXIT_CODE
    assert "stopped before the stage began; the next run does it" in told


@pytest.mark.parametrize(("trains", "status"), [(True, CONTINUE_EXIT_CODE), (False, -signal.SIGTERM)])
def test_sigterm_outside_the_loop_leaves_nothing_half_written(trains: bool, status: int, tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    (tmp_path / "own_stage.py").write_text(STAGE.format(trains=trains))
    path = os.pathsep.join([str(tmp_path), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"}
    command = [sys.executable, "-m", "own_stage", "--out", "made", "--record", "record.json"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        begun = process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=60)
    assert begun == "begun\n", told
    assert process.returncode == status, told
    assert not (tmp_path / "made").exists() and not (tmp_path / "record.json").exists()
    if trains:
        assert told.strip().splitlines()[-1] == "own_stage: stopped; nothing half-written is left, the next run goes on from what is saved"
        assert list(tmp_path.glob("*made*")) == []
