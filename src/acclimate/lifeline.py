"""End with the processes that started this one, also where those are killed with -9.

Linux could send a signal at a parent's death (PR_SET_PDEATHSIG), but it does so when the parent's *thread* ends, and Prefect starts
stages from threads; and between DVC and a stage there may be a shell, which would outlive DVC and pass nothing on. So a process
watches by number those that it was told of. A file descriptor of the watched process tells its end at once; where there are none
(macOS) it is looked for once a second.
"""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import Sequence

ENDS_WITH = "ACCLIMATE_ENDS_WITH"
"""The numbers of the processes that this one ends with, separated by commas."""
GRACE_S = 120
"""To save and leave; then the kernel ends the process."""


def child_environment() -> dict[str, str]:
    """What a child that calls `end_with_starters` finds in its environment to end with this process."""
    return {ENDS_WITH: str(os.getpid())}


def starters() -> list[int]:
    """The processes that this one was told to end with."""
    return [int(number) for number in os.environ.get(ENDS_WITH, "").split(",") if number]


def _dvc_above() -> list[int]:
    """The `dvc` typed by hand that runs this stage, and the shells between; DVC names the stage to what it starts."""
    import psutil

    found = []
    for process in psutil.Process().parents() if "DVC_STAGE" in os.environ else []:
        found.append(process.pid)
        try:
            if "DVC_STAGE" not in process.environ():
                break
        except psutil.Error:
            break
    return found


def run_above() -> int | None:
    """The process that this pipeline run ends with: what started DVC, or the `dvc` typed by hand; None of a stage by itself."""
    return next(iter(starters() or reversed(_dvc_above())), None)


def end_with_starters(signal_number: int = signal.SIGTERM) -> None:
    """Send this process a signal once one of its starters ends, or has ended already; nothing where there are none to end with."""
    end_with(starters() or _dvc_above(), signal_number)


def end_with(pids: Sequence[int], signal_number: int = signal.SIGTERM) -> None:
    """Send this process a signal once one of these processes, from which it descends, ends or has ended already."""
    watched = [pid for pid in pids if pid]  # the first process of a container finds 0 as its parent's
    if watched:
        threading.Thread(target=_watch, args=(watched, signal_number), name="lifeline", daemon=True).start()


def _watch(pids: Sequence[int], signal_number: int) -> None:
    wait_for_one(pids)
    signal.alarm(GRACE_S)  # the kernel's own: it ends a process that hangs, too
    main = threading.main_thread().ident
    assert main is not None
    signal.pthread_kill(main, signal_number)


def wait_for_one(pids: Sequence[int]) -> None:
    """Return when one has ended."""
    descriptors: list[int] = []
    try:
        descriptors = [os.pidfd_open(pid) for pid in pids]
    except ProcessLookupError:
        return
    except (AttributeError, OSError):  # macOS, or a container that forbids the call
        while _all_above(pids):
            time.sleep(1.0)
        return
    if _all_above(pids):  # asked after the opening: a number may have been given to another process before
        poll = select.poll()
        for descriptor in descriptors:
            poll.register(descriptor, select.POLLIN)
        poll.poll()


def _all_above(pids: Sequence[int]) -> bool:
    """Whether all of these are among the processes that this one descends from."""
    import psutil

    return {process.pid for process in psutil.Process().parents()}.issuperset(pids)
