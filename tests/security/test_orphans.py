"""Whoever started a process is killed with -9: the process ends, also through a shell, and no lock stays."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from acclimate import lifeline, locks
from tests.integration.test_launch import is_alive, wait_for
from tests.security.stages import COMMAND, checkout, start

CHILD = "import os, time; from acclimate import lifeline; lifeline.end_with_starters(); print(os.getpid(), flush=True); time.sleep(600)"
FROM_A_THREAD = """
import os, subprocess, sys, threading, time
from acclimate.lifeline import child_environment
start = lambda: subprocess.Popen([sys.executable, "-c", sys.argv[1]], env={**os.environ, **child_environment()})
thread = threading.Thread(target=start)
thread.start()
thread.join()
time.sleep(600)
"""


def test_a_child_of_a_thread_that_ends_lives_until_the_process_ends(tmp_path: Path) -> None:
    parent = start(tmp_path, sys.executable, "-c", FROM_A_THREAD, CHILD)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    time.sleep(0.5)
    assert is_alive(child)
    parent.kill()
    wait_for(lambda: not is_alive(child))
    parent.communicate()


def test_a_process_whose_starter_has_ended_before_it_looks_ends_at_once(tmp_path: Path) -> None:
    late = start(tmp_path, sys.executable, "-c", CHILD, **{lifeline.ENDS_WITH: ended()})
    late.communicate(timeout=60)
    assert late.returncode == -signal.SIGTERM


def test_a_process_that_does_not_leave_is_ended_after_its_grace(tmp_path: Path) -> None:
    deaf = "import signal; from acclimate import lifeline; lifeline.GRACE_S = 1; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    late = start(tmp_path, sys.executable, "-c", deaf + CHILD, **{lifeline.ENDS_WITH: ended()})
    late.communicate(timeout=60)
    assert late.returncode == -signal.SIGALRM


def test_a_trial_of_a_plan_ends_with_it(tmp_path: Path) -> None:
    directory = checkout(tmp_path)
    (directory / "child.py").write_text(
        CHILD.replace("print(os.getpid(), flush=True)", f"open({str(directory / 'pid')!r}, 'w').write(str(os.getpid()))")
    )
    program = "from pathlib import Path; from flows import plan; plan._try('a trial', 'python -m child', Path.cwd(), None)"
    parent = start(directory, sys.executable, "-c", program)
    wait_for(lambda: (directory / "pid").exists() and bool((directory / "pid").read_text()))
    child = int((directory / "pid").read_text())
    assert is_alive(child)
    parent.kill()
    wait_for(lambda: not is_alive(child))
    parent.communicate()


def ended() -> str:
    """The number of a process that was and is no more."""
    process = subprocess.Popen(["true"])
    process.wait()
    return str(process.pid)


@pytest.mark.parametrize("killed", ["make", "dvc by hand"])
def test_a_killed_run_leaves_no_process_and_no_lock(killed: str, tmp_path: Path) -> None:
    """Between `make` and the stage stand DVC and a shell."""
    directory = checkout(tmp_path)
    subprocess.run(["git", "init", "-q"], cwd=directory, check=True)
    (directory / ".dvc").mkdir()
    (directory / ".dvc" / "config").write_text("[core]\n    analytics = false\n")
    stage = " ".join(["python", *COMMAND[1:]])
    (directory / "dvc.yaml").write_text(json.dumps({"stages": {"own": {"cmd": f"{stage} && true", "outs": ["artifacts/own"]}}}))
    (directory / "hold").touch()
    make = ("sh", "-c", f"{sys.executable} -m flows.dvc_process --alone repro; true")
    run = start(directory, *(make if killed == "make" else ("dvc", "repro")))
    wait_for(lambda: (directory / ".acclimate/locks").exists() and any((directory / ".acclimate/locks").iterdir()))
    family = psutil.Process(run.pid).children(recursive=True)
    assert any("own_stage" in " ".join(process.cmdline()) for process in family)
    run.kill()
    began = time.monotonic()
    wait_for(lambda: not any(is_alive(process.pid) for process in family))
    assert time.monotonic() - began < 30
    run.communicate()
    (directory / "hold").unlink()
    again = start(directory, sys.executable, "-m", "flows.dvc_process", "--alone", "repro")
    output, errors = again.communicate(timeout=60)
    assert again.returncode == 0, output + errors
    assert list((directory / ".acclimate/locks").iterdir()) == []
    assert not (directory / locks.RUN_LOCK).exists()
    assert list((directory / "artifacts").glob(".*.partial")) == []
