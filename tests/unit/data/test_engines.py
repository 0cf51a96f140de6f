"""Parts in processes: results in order, a killed worker is named, and Ctrl-C ends them at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from acclimate.data.engines import run_parts
from acclimate.errors import EnvironmentUnfitError

SLEEPER = """
import time
from acclimate.data.engines import run_parts
if __name__ == "__main__":
    list(run_parts(time.sleep, [60] * 4, workers=2))
"""


def test_results_come_in_the_order_of_the_jobs() -> None:
    assert list(run_parts(abs, [-3, 2, -1], workers=1)) == [3, 2, 1]
    assert list(run_parts(abs, [-3, 2, -1], workers=2)) == [3, 2, 1]


def test_an_error_in_a_worker_arrives_as_it_was() -> None:
    with pytest.raises(ValueError, match="could not convert"):
        list(run_parts(float, ["1.5", "no number"], workers=2))


def test_a_killed_worker_is_told_in_one_line() -> None:
    with pytest.raises(EnvironmentUnfitError, match="one of 2 workers was killed"):
        list(run_parts(os._exit, [9, 9], workers=2))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_parent_takes_its_workers_along(number: signal.Signals, tmp_path: Path) -> None:
    script = tmp_path / "sleeper.py"
    script.write_text(SLEEPER, encoding="utf-8")
    process = subprocess.Popen([sys.executable, script], stderr=subprocess.PIPE, text=True, start_new_session=True)
    parent = psutil.Process(process.pid)
    deadline = time.monotonic() + 60
    while len(workers := [child for child in parent.children() if "spawn_main" in " ".join(child.cmdline())]) < 2:
        assert time.monotonic() < deadline, "no workers"
        time.sleep(0.1)
    time.sleep(2)
    process.send_signal(number)
    _, printed = process.communicate(timeout=20)
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert not alive
    assert printed.count("Traceback") <= 1, printed
