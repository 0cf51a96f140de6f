"""Several processes of one command, as torchrun starts them: the same variables, so a stage cannot tell who launched it."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from types import FrameType
from typing import Protocol

_GRACE_S = 30.0
"""How long the others may take to stop once one has failed; the one who saves a checkpoint needs some."""

logger = logging.getLogger(__name__)


class Launch(Protocol):
    """How many processes, and where they meet; see config.LaunchConfig."""

    @property
    def processes(self) -> int:
        """On this node."""

    @property
    def nodes(self) -> int:
        """Nodes."""

    @property
    def rendezvous(self) -> str | None:
        """host:port of the first node."""


def is_launched() -> bool:
    """Whether a launcher started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def process_rank() -> int:
    """The number of this process among all of its run, from 0."""
    return int(os.environ.get("RANK", "0")) if is_launched() else 0


def run_processes(command: Sequence[str], launch: Launch) -> int:
    """Start a command once for each process of this node and wait for all; gives the exit status.

    A signal is passed on to each. When one fails, the others are stopped.

    Args:
        command: arguments of the Python interpreter.
    """
    children = [
        subprocess.Popen([sys.executable, *command], env=environment, start_new_session=True, preexec_fn=_end_with_parent)
        for environment in _environments(launch)
    ]

    def pass_on(number: int, _frame: FrameType | None) -> None:
        for child in children:
            if child.poll() is None:
                child.send_signal(number)

    previous = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return _wait(children)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        for child in children:
            if child.poll() is None:
                child.kill()


def _end_with_parent() -> None:
    """Have the kernel kill this process when its parent dies, also by kill -9 (Linux; elsewhere nothing)."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _environments(launch: Launch) -> list[dict[str, str]]:
    """Variables of each process of this node."""
    node = int(os.environ.get("NODE_RANK", os.environ.get("SLURM_NODEID", "0")))
    host, _, port = (launch.rendezvous or f"127.0.0.1:{_free_port()}").rpartition(":")
    threads = max(1, len(os.sched_getaffinity(0)) // launch.processes)
    shared = {
        "OMP_NUM_THREADS": str(threads),
        **os.environ,
        "WORLD_SIZE": str(launch.processes * launch.nodes),
        "LOCAL_WORLD_SIZE": str(launch.processes),
        "MASTER_ADDR": host,
        "MASTER_PORT": port,
    }
    return [{**shared, "RANK": str(node * launch.processes + local), "LOCAL_RANK": str(local)} for local in range(launch.processes)]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait(children: Sequence[subprocess.Popen[bytes]]) -> int:
    """The status of the first process that failed, or 0."""
    failed, deadline = 0, float("inf")
    while any(child.poll() is None for child in children):
        if not failed:
            failed = next((child.returncode for child in children if child.returncode), 0)
            if failed:
                deadline = time.monotonic() + _GRACE_S
        if time.monotonic() > deadline:
            for child in children:
                child.kill()
        time.sleep(0.05)
    codes = [child.returncode for child in children]
    failed = failed or next((code for code in codes if code), 0)
    return 128 - failed if failed < 0 else failed
