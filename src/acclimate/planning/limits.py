"""How much memory there is for a training stage."""

from __future__ import annotations

from pathlib import Path

import psutil

CGROUP = Path("/sys/fs/cgroup")
_MIB = 1 << 20


def host_limit_mb(cgroup: Path = CGROUP) -> tuple[float, str]:
    """What a new process may use, in MiB, and what sets it: the machine, or the control group that this process is in."""
    available = psutil.virtual_memory().available / _MIB
    left = [mb for mb in (_left(cgroup, *_VERSION_2), _left(cgroup / "memory", *_VERSION_1)) if mb is not None]
    if left and min(left) < available:
        return min(left), "left by the container's limit"
    return available, "free on this machine"


_VERSION_2 = ("memory.max", "memory.current", "inactive_file")
_VERSION_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def _left(directory: Path, limit: str, usage: str, cache: str) -> float | None:
    """Limit less usage, cached files that the kernel drops when it must not counted; None where there is no limit."""
    try:
        most, used = int((directory / limit).read_text()), int((directory / usage).read_text())  # "max" is no number
        counted = dict(line.split() for line in (directory / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    return (most - used + int(counted.get(cache, 0))) / _MIB
