"""Energy that this machine used: the GPUs' counters (NVML) and the processors' (RAPL), where they can be read."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

_POWERCAP = Path("/sys/class/powercap")
Counter = Callable[[], float]
"""Joules used since the last call, or since the counter was made."""


_READ_EVERY_S = 300.0
"""A package's counter wraps round after 262 kJ, which is 11 minutes at 400 W."""


class Energy:
    """Joules since it was made; shared machines count what others use, too."""

    def __init__(self, powercap: Path = _POWERCAP, *, read_every_s: float = _READ_EVERY_S) -> None:
        self._counters = [*_processors(powercap), *_gpus()]
        self._joules, self._lock, self._read_every_s = 0.0, threading.Lock(), read_every_s
        if self._counters:
            threading.Thread(target=self._read_on, name="energy", daemon=True).start()

    def joules(self) -> float | None:
        """Since it was made; None where no counter can be read."""
        if not self._counters:
            return None
        with self._lock:
            self._joules += sum(counter() for counter in self._counters)
            return self._joules

    def _read_on(self) -> None:
        """Read before a counter can wrap round twice."""
        while True:
            time.sleep(self._read_every_s)
            self.joules()


def _processors(powercap: Path) -> list[Counter]:
    """One for each package; their parts (cores, memory) are counted in them."""
    found = []
    for zone in sorted(powercap.glob("intel-rapl:*")):
        try:
            if zone.name.count(":") == 1:
                found.append(_rapl(zone))
        except (OSError, ValueError):  # readable by root alone, on most systems
            continue
    return found


def _rapl(zone: Path) -> Counter:
    limit_uj, last_uj = int((zone / "max_energy_range_uj").read_text()), int((zone / "energy_uj").read_text())

    def since_last() -> float:
        nonlocal last_uj
        now_uj = int((zone / "energy_uj").read_text())
        used, last_uj = (now_uj - last_uj) % (limit_uj + 1), now_uj
        return used / 1e6

    return since_last


def _gpus() -> list[Counter]:
    """One for each GPU whose driver counts."""
    try:
        import pynvml

        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        return [_nvml(pynvml, handle) for handle in handles]
    except ImportError:
        return []
    except pynvml.NVMLError:
        return []


def _nvml(pynvml: object, handle: object) -> Counter:
    read: Callable[[object], int] = pynvml.nvmlDeviceGetTotalEnergyConsumption  # type: ignore[attr-defined]
    last_mj = read(handle)

    def since_last() -> float:
        nonlocal last_mj
        now_mj = read(handle)
        used, last_mj = now_mj - last_mj, now_mj
        return used / 1e3

    return since_last
