"""Kernel locks: one owner of a path at a time, also where processes are numbered apart, as in a container.

The kernel drops a lock when its owner ends, however it ends. DVC's own lock asks whether a process of some number is alive, and a
container that shares the checkout does not see the host's processes.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from acclimate.errors import EnvironmentUnfitError
from acclimate.runtime import STATE_DIRECTORY

RUN_LOCK = STATE_DIRECTORY / "run.lock"
"""Held by `make run` and by the flow: DVC deletes a stage's outs before the stage starts, so no lock of a stage could save them."""
REFUSED = "two at once would ruin each other's files"
"""Stands in every refusal, so that the flow knows that trying again may help."""


def lock_of(path: Path, state: Path = STATE_DIRECTORY) -> Path:
    """The lock file of a path; the same one wherever the checkout is mounted, and from each of its work trees."""
    relative = os.path.relpath(path, state.parent)
    return state / "locks" / f"{path.name}-{hashlib.sha256(relative.encode()).hexdigest()[:16]}.lock"


@contextmanager
def held(lock: Path, what: str) -> Iterator[int]:
    """Own a lock file; gives its descriptor, which a child may inherit to keep the lock.

    Refuses and does not wait: what would run after the wait is whatever the files hold by then, not what was asked for.

    Raises:
        EnvironmentUnfitError: another process owns it; the message names that process.
    """
    file = _take(lock, what)
    try:
        yield file.fileno()
    finally:
        if _is_at(lock, file):
            lock.unlink()
        file.close()


def _take(lock: Path, what: str) -> IO[str]:
    lock.parent.mkdir(parents=True, exist_ok=True)
    while True:
        file = lock.open("a+", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            owner = file.read().strip() or "another process"
            file.close()
            raise EnvironmentUnfitError(f"{what} is in use by {owner}; {REFUSED}. Run this again when that one has ended") from None
        if _is_at(lock, file):
            break
        file.close()  # its last owner has removed it since it was opened
    file.truncate(0)
    command = shlex.join(["python", *sys.orig_argv[1:]])[:200]
    file.write(f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%H:%M:%S')} ({command})\n")
    file.flush()
    return file


def _is_at(lock: Path, file: IO[str]) -> bool:
    try:
        found = lock.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(found, os.fstat(file.fileno()))
