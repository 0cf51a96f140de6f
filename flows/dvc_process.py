"""DVC as this project starts it: `python -m flows.dvc_process [--alone] repro ...`.

Its site directory is private, it ends with the process that started it, and so do its stages. With `--alone` it owns the checkout:
a second run is refused before DVC deletes an out of the first.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import time
from pathlib import Path

from acclimate import lifeline, locks
from acclimate.adapters.tracking import SESSION_VARIABLE
from acclimate.errors import EnvironmentUnfitError


def command(*arguments: str) -> list[str]:
    """A command line for DVC, for any directory: this very code starts it, also in a work tree that holds another state of it."""
    program = "import sys; sys.path[:0] = sys.argv[1:3]; from flows.dvc_process import main; main(sys.argv[3:])"
    root = Path(__file__).parents[1]
    return [sys.executable, "-c", program, str(root), str(root / "src"), *arguments]


def main(argv: list[str]) -> None:
    """Run DVC's command line in this process, and exit."""
    above = lifeline.starters() or [os.getppid()]
    # DVC ignores SIGINT while a stage runs: the stage, which ends with the same processes, saves and leaves, and DVC after it.
    lifeline.end_with(above, signal.SIGINT)
    os.environ[lifeline.ENDS_WITH] = ",".join(map(str, [*above, os.getpid()]))
    os.environ.setdefault(SESSION_VARIABLE, f"dvc-{os.getpid()}-{time.time():.0f}")
    if argv[:1] == ["--alone"]:
        try:
            with locks.held(locks.RUN_LOCK, "this checkout"):
                _run_dvc(argv[1:])
        except EnvironmentUnfitError as error:
            sys.exit(f"run: {error}")
    _run_dvc(argv)


def _run_dvc(arguments: list[str]) -> None:
    sys.argv = ["dvc", *arguments]
    runpy.run_module("dvc", run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
