"""The process: quiet dependencies, threads, seeds, free disk, and stopping in order."""

from __future__ import annotations

import logging
import os
import resource
import shutil
import signal
import stat
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from acclimate.errors import EnvironmentUnfitError
from acclimate.launch import process_rank
from acclimate.redaction import redact

STATE_DIRECTORY = Path(".acclimate")
SITE_VARIABLE = "DVC_SITE_CACHE_DIR"
_IMPORTED_AT = time.monotonic()

QUIET_ENVIRONMENT = {
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "true",
    "GX_ANALYTICS_ENABLED": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "ORT_DISABLE_TELEMETRY": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
}


def prepare_environment() -> None:
    """Switch telemetry off, where the user has not set it, and keep for this user what this process and its children make.

    Rows with personal data, records and checkpoints are nobody else's to read: files are made with mode 0600, directories with 0700.
    A umask that lets the group write, such as 002, says that a group shares the checkout; then the group keeps its access.
    """
    if not os.umask(0o077) & stat.S_IWGRP:
        os.umask(0o007)
    for name, value in QUIET_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("PREFECT_HOME", str((STATE_DIRECTORY / "prefect").absolute()))
    os.environ.setdefault(SITE_VARIABLE, str((STATE_DIRECTORY / "dvc").absolute()))


def make_site_directory() -> None:
    """Make DVC's site directory, where it unpickles what it finds, before DVC makes it writable for everyone.

    Raises:
        EnvironmentUnfitError: it belongs to another user, who could plant code in it.
    """
    directory = Path(os.environ[SITE_VARIABLE])
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if directory.stat().st_uid != os.getuid():
        raise EnvironmentUnfitError(f"{directory}: belongs to another user; set {SITE_VARIABLE} to a directory of your own")
    directory.chmod(0o700)


class RedactingFormatter(logging.Formatter):
    """Hides secrets in what any library logs, tracebacks included."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as text."""
        return redact(super().format(record))


def keep_private() -> None:
    """Close the directories that only this user needs: `.acclimate`, and DVC's cache, whose files DVC makes readable to all (0444).

    A cache that DVC shares with a group (`cache.shared`) has the setgid bit and stays open, as does one behind a link.
    """
    cache = Path(".dvc/cache")
    with suppress(OSError):  # read-only, or another user's
        if cache.parent.is_dir():
            cache.mkdir(mode=0o700, exist_ok=True)
        for directory in (STATE_DIRECTORY, cache):
            if directory.is_dir() and not directory.is_symlink() and not directory.stat().st_mode & stat.S_ISGID:
                directory.chmod(0o700)


def configure_logging(level: int = logging.INFO) -> None:
    """One line a record on standard error, without secrets; the dependencies' own chatter from warnings up."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(RedactingFormatter("%(asctime)s %(levelname)-7s %(name)s  %(message)s", datefmt="%H:%M:%S"))
    logging.basicConfig(level=max(level, logging.WARNING), handlers=[handler])
    for name in ("acclimate", "stages", "flows"):
        logging.getLogger(name).setLevel(level)


def process_age_s() -> float:
    """Seconds since this process was started, imports among them; where the system does not tell, since this module was imported."""
    since_import = time.monotonic() - _IMPORTED_AT
    try:
        fields = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        uptime_s = float(Path("/proc/uptime").read_text(encoding="utf-8").split()[0])
    except OSError:
        return since_import
    # In a container whose uptime is its own, the difference would be negative.
    return max(since_import, uptime_s - int(fields[19]) / os.sysconf("SC_CLK_TCK"))


def peak_rss_mb() -> float:
    """Highest resident memory of this process so far, in MiB.

    Not `ru_maxrss` where the kernel tells more: that one begins with the memory of the process which started this one.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def free_memory_mb(cgroup: Path = Path("/sys/fs/cgroup")) -> float:
    """What this process may use in all, in MiB: what is free on the machine, or left by its control group, and what it has already."""
    import psutil

    free: list[float] = [psutil.virtual_memory().available]
    for directory, limit, usage, cache in (
        (cgroup, "memory.max", "memory.current", "inactive_file"),
        (cgroup / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        with suppress(OSError, ValueError):  # no such version of groups; "max" is no number
            counted = dict(line.split() for line in (directory / "memory.stat").read_text(encoding="utf-8").splitlines())
            used = int((directory / usage).read_text(encoding="utf-8")) - int(counted.get(cache, 0))  # the kernel drops cached files
            free.append(int((directory / limit).read_text(encoding="utf-8")) - used)
    return (min(free) + float(psutil.Process().memory_info().rss)) / (1 << 20)


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch, and make torch choose deterministic kernels where it has them."""
    import random

    import numpy
    import torch

    random.seed(seed)
    numpy.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True, warn_only=True)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def set_threads() -> int:
    """Give torch as many threads as this process may use cores, or OMP_NUM_THREADS when that is set."""
    import torch

    count = int(os.environ.get("OMP_NUM_THREADS", 0)) or len(os.sched_getaffinity(0))
    torch.set_num_threads(count)
    return count


def require_disk(directory: Path, needed_bytes: int) -> None:
    """Refuse to start what cannot be written.

    Raises:
        EnvironmentUnfitError: with the bytes needed and free.
    """
    existing = next(parent for parent in (directory.absolute(), *directory.absolute().parents) if parent.exists())
    free_bytes = shutil.disk_usage(existing).free
    if free_bytes < needed_bytes:
        raise EnvironmentUnfitError(
            f"{existing}: {needed_bytes / 1e6:,.0f} MB needed, {free_bytes / 1e6:,.0f} MB free; make room or move the project"
        )


class StoppedError(Exception):
    """SIGINT or SIGTERM arrived and the work so far is saved; the same command goes on from there."""

    def __init__(self, signal_number: int, saved: str) -> None:
        super().__init__(saved)
        self.signal_number = signal_number


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived where no loop looks for it; raised there, so that what is half-written is removed."""


def leave_on_sigterm(in_order: bool) -> None:
    """Raise `Terminated` at SIGTERM, or end as the system does: processes that wait for others would not hear it."""
    signal.signal(signal.SIGTERM, _terminate if in_order else signal.SIG_DFL)


def _terminate(_number: int, _frame: FrameType | None) -> None:
    raise Terminated


class StopRequest:
    """Set by SIGINT or SIGTERM; the loop looks at it between steps, saves and leaves."""

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.signal_number is not None:
            raise KeyboardInterrupt
        self.signal_number = number
        if process_rank() == 0:
            os.write(2, b"stopping after this step, saving it; once more to stop without\n")

    def __bool__(self) -> bool:
        return self.signal_number is not None
