"""Several processes of one command, as torchrun starts them: the same variables, so a stage cannot tell who launched it.

What is said once by one process is said once by all: our launcher hands each of them a pipe for its last words, and prints those
that differ.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from acclimate.errors import ConfigError, LostProcessError
from acclimate.lifeline import child_environment
from acclimate.redaction import redact

CONTINUE_EXIT_CODE = 75
"""EX_TEMPFAIL: a stage was stopped, its state is saved, and the same command goes on from there."""
LOST_EXIT_CODE = 76
"""EX_PROTOCOL: this process ended because another one of its run had."""
_STOPPED_EXIT_CODES = (CONTINUE_EXIT_CODE, 128 + signal.SIGINT, 128 + signal.SIGTERM)
_LAST_WORDS = "ACCLIMATE_LAST_WORDS"
"""The file descriptor of the pipe to our launcher."""
MEETING_FILE = "ACCLIMATE_MEETING_FILE"
"""Where the processes of one node meet: a file that only this user can reach, in place of a port that asks for no key."""
_LAST_WORDS_BYTES = 4096
"""A pipe takes that much at once or not at all (PIPE_BUF)."""
_TERM_AFTER_S, _KILL_AFTER_S = 3.0, 13.0
"""Once a process has failed, the others find their connections closed and end; one that waits for a GPU does not."""
_STOP_GRACE_S = 120.0
"""Once a process has stopped in order, the checkpoint is saved; the main process still closes its record."""
_NODE_VARIABLES = ("NODE_RANK", "GROUP_RANK", "SLURM_NODEID")


def is_launched() -> bool:
    """Whether a launcher started this process: ours, torchrun or accelerate."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def process_rank() -> int:
    """The number of this process among all of its run, from 0."""
    return int(os.environ["RANK"]) if is_launched() else 0


def reports_to_launcher() -> bool:
    """Whether our launcher started this process, and tells how it ends."""
    return is_launched() and _LAST_WORDS in os.environ


def say_last(line: str) -> None:
    """Tell how this process ends: to our launcher, which tells it once for all processes, else on standard error."""
    line = redact(line)
    if reports_to_launcher():
        os.write(int(os.environ[_LAST_WORDS]), line.encode()[: _LAST_WORDS_BYTES - 1] + b"\n")
    else:
        print(line, file=sys.stderr)


@contextmanager
def losses_of_processes_named() -> Iterator[None]:
    """What gloo, NCCL or their store say when another process has gone, as an error of ours.

    Raises:
        LostProcessError: that has happened.
    """
    try:
        yield
    except RuntimeError as error:
        theirs = type(error).__name__ in ("DistBackendError", "DistNetworkError", "DistStoreError") or "gloo" in str(error).lower()
        if not is_launched() or not theirs:
            raise
        raise LostProcessError(f"process {process_rank()} of {os.environ['WORLD_SIZE']} lost another one; that one says why") from None


def run_processes(command: Sequence[str], processes: int, nodes: int = 1, rendezvous: str | None = None) -> tuple[int, list[str]]:
    """Start a command once for each process of this node and wait for all.

    A signal is passed on to each. When one fails, the others are ended.

    Args:
        command: arguments of the Python interpreter.
        processes: how many on this node.
        rendezvous: host:port of the first node.

    Returns:
        The exit status, and the lines to print: the processes' last words, each once, or how one of them died.

    Raises:
        ConfigError: this node does not know its number.
    """
    children: list[subprocess.Popen[bytes]] = []
    received: list[int] = []

    def pass_on(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        for child in children:
            child.send_signal(number)  # nothing where it has ended

    with tempfile.TemporaryDirectory(prefix="acclimate-") as private:
        environments = _environments(processes, nodes, rendezvous, Path(private) / "meeting")
        words, descriptor = os.pipe()
        os.set_blocking(words, False)  # a process left over by a child may hold the other end open
        previous = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            for environment in environments:
                given = {**environment, **child_environment(), _LAST_WORDS: str(descriptor)}
                # A session of its own: Ctrl-C reaches it through the launcher alone.
                child = subprocess.Popen([sys.executable, *command], env=given, pass_fds=(descriptor,), start_new_session=True)
                children.append(child)
                for number in received:  # before this one was there to get it
                    child.send_signal(number)
            first = _wait(children)
        finally:
            for child in children:
                child.kill()
                child.wait()
            for number, handler in previous.items():
                signal.signal(number, handler)
            os.close(descriptor)
            with os.fdopen(words, "rb") as pipe:
                lines = list(dict.fromkeys((pipe.read() or b"").decode(errors="replace").splitlines()))
    return _ending([child.returncode for child in children], first, lines, environments, received)


def _environments(processes: int, nodes: int, rendezvous: str | None, meeting: Path) -> list[dict[str, str]]:
    """Variables of each process of this node."""
    node = _node(nodes)
    meets = {MEETING_FILE: str(meeting), "GLOO_SOCKET_IFNAME": "lo" if sys.platform == "linux" else "lo0"}
    if rendezvous:
        host, _, port = rendezvous.rpartition(":")
        meets = {"MASTER_ADDR": host, "MASTER_PORT": port}
    shared = {
        "OMP_NUM_THREADS": str(max(1, len(os.sched_getaffinity(0)) // processes)),
        "TORCH_CPP_LOG_LEVEL": "ERROR",  # its warnings about closed connections come from every process
        **os.environ,
        "WORLD_SIZE": str(processes * nodes),
        "LOCAL_WORLD_SIZE": str(processes),
        **meets,
    }
    return [{**shared, "RANK": str(node * processes + local), "LOCAL_RANK": str(local)} for local in range(processes)]


def _node(nodes: int) -> int:
    """The number of this node, from 0."""
    if nodes == 1:
        return 0
    name = next((name for name in _NODE_VARIABLES if name in os.environ), None)
    if name is None:
        raise ConfigError(f"train.launch.nodes is {nodes}: each node must be told its number, as NODE_RANK=0 to NODE_RANK={nodes - 1}")
    if os.environ[name] not in map(str, range(nodes)):
        raise ConfigError(f"{name} is {os.environ[name]!r}; with train.launch.nodes {nodes} it is 0 to {nodes - 1}")
    return int(os.environ[name])


def _wait(children: Sequence[subprocess.Popen[bytes]]) -> int | None:
    """Wait until all have ended, and end the rest some time after one has failed. Returns the index of the first that failed by itself."""
    first, failed_at = None, None
    while True:
        codes = [child.poll() for child in children]
        first = _culprit(codes) if first is None else first
        if None not in codes:
            return first
        if any(codes):
            failed_at = failed_at or time.monotonic()
            since_s = time.monotonic() - failed_at
            in_order = all(code in (None, 0, *_STOPPED_EXIT_CODES) for code in codes)
            for child in children:
                if since_s > (_STOP_GRACE_S if in_order else _KILL_AFTER_S):
                    child.kill()
                elif since_s > _TERM_AFTER_S and not in_order:
                    child.terminate()
        time.sleep(0.05)


def _culprit(codes: Sequence[int | None]) -> int | None:
    """The process that ended by itself, not because another one had; a stop in order is nobody's fault."""
    return next((index for index, code in enumerate(codes) if code and code not in (LOST_EXIT_CODE, *_STOPPED_EXIT_CODES)), None)


def _ending(
    codes: Sequence[int], first: int | None, lines: list[str], environments: Sequence[dict[str, str]], received: Sequence[int]
) -> tuple[int, list[str]]:
    if first is None:  # all is well, or all stopped in order, or a process of another node is lost
        status = LOST_EXIT_CODE if LOST_EXIT_CODE in codes else next((code for code in codes if code), 0)
        if status == LOST_EXIT_CODE and not lines:
            lines = ["a process on another node ended, and this node's with it"]
        return status, lines
    code = codes[first]
    if code < 0 and -code in received:  # before or after its loop, which would have ended in order
        return CONTINUE_EXIT_CODE if -code == signal.SIGTERM else 128 - code, lines
    if code < 0 or not lines:
        killer = next((each.name for each in signal.Signals if each == -code), f"signal {-code}")
        how = f"was killed by {killer}" if code < 0 else f"ended with exit code {code}"
        rank, size = environments[first]["RANK"], environments[first]["WORLD_SIZE"]
        told = f"process {rank} of {size} (counted from 0) {how}; the others were ended, the next run goes on from the last checkpoint"
        lines = [*lines, told]
    return 128 - code if code < 0 else code, lines
