"""One stage by `dvc repro -s` in a process of its own, its output passed on line by line."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal

from acclimate.launch import CONTINUE_EXIT_CODE
from acclimate.lifeline import child_environment
from acclimate.locks import REFUSED
from flows import dvc_process

Outcome = Literal["ran", "restored", "unchanged"]

_NEVER_AGAIN = {-signal.SIGINT, 128 + signal.SIGINT}
_LOCK_MESSAGES = ("is busy, it is being blocked by", "Unable to acquire lock", "failed to lock", REFUSED)
_TAIL_LINES = 15
_HINTS = ("To track the changes with git", "git add ", "To enable auto staging", "dvc config core.autostage", "Use `dvc push`")
"""What DVC says after each stage to someone at a terminal; noise in a task's log."""


class StageError(Exception):
    """A stage failed. `may_pass` when the same command may succeed another time."""

    def __init__(self, stage: str, message: str, *, may_pass: bool) -> None:
        super().__init__(f"{stage}: {message}")
        self.may_pass = may_pass


@dataclass
class Running:
    """The processes that stages run in at present, so that they can be stopped."""

    processes: set[subprocess.Popen[bytes]] = field(default_factory=set)

    def stop(self) -> None:
        """Ask every stage to save its state and leave."""
        for process in list(self.processes):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGINT)


def reproduce(
    stage: str,
    *,
    root: Path,
    environment: dict[str, str],
    lock: int,
    force: bool,
    log: Callable[[str], None],
    running: Running | None = None,
) -> Outcome:
    """Run a stage unless DVC finds that it need not run.

    Args:
        environment: laid over this process's own.
        lock: the descriptor of the checkout's lock, kept until DVC has ended.
        log: receives each line of output.

    Returns:
        Whether it ran, was restored from DVC's cache, or did not change.

    Raises:
        StageError: it failed.
    """
    command = dvc_process.command("repro", "--single-item", *(["--force"] if force else []), stage)
    paths = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    # A session of its own: Ctrl-C must reach the stage once, from `Running.stop`, not at random from the terminal too.
    process = subprocess.Popen(
        command,
        cwd=root,
        env={**os.environ, "PATH": paths, "PYTHONUNBUFFERED": "1", **environment, **child_environment()},
        pass_fds=(lock,),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    assert process.stdout is not None
    lines: list[str] = []
    if running is not None:
        running.processes.add(process)
    try:
        with process.stdout:
            for line in _lines(process.stdout):
                lines.append(line)
                if not line.lstrip().startswith(_HINTS):
                    log(line)
        returncode = process.wait()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
            process.wait()
        if running is not None:
            running.processes.discard(process)
    if returncode:
        raise _failure(stage, returncode, lines)
    return outcome_of(lines)


def outcome_of(lines: list[str]) -> Outcome:
    """What DVC says that it did."""
    text = "\n".join(lines)
    if "Running stage" in text:
        return "ran"
    return "restored" if re.search(r"is cached - skipping|Checking out|Updating lock file", text) else "unchanged"


def _lines(stream: IO[bytes]) -> Iterator[str]:
    """Whole lines; of a progress bar, which writes over itself, the last state."""
    for raw in stream:
        line = raw.decode("utf-8", errors="replace").rstrip("\n").split("\r")[-1].rstrip()
        if line:
            yield line


def _failure(stage: str, returncode: int, lines: list[str]) -> StageError:
    text = "\n".join(lines)
    found = re.findall(r"exited with (-?\d+)", text)
    code = int(found[-1]) if found else returncode
    locked = any(message in text for message in _LOCK_MESSAGES)
    killed = (code < 0 or 128 < code < 160) and code not in _NEVER_AGAIN
    tail = "\n".join(lines[-_TAIL_LINES:])
    return StageError(stage, f"exit code {code}\n{tail}", may_pass=locked or killed or code == CONTINUE_EXIT_CODE)
