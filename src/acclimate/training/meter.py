"""What a run achieves: tokens, share of the hardware's rate, memory, waiting and energy. Nothing here waits for the device."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from acclimate.protocols import Losses
from acclimate.training.distributed import World
from acclimate.training.step import StepResult


@lru_cache(maxsize=4)
def best_gemm_rate(device_type: str, dtype: torch.dtype) -> float:
    """Operations a second of the best matrix product found in half a second: what MFU is a share of."""
    device, best = torch.device(device_type), 0.0
    size = 1024 if device_type == "cpu" else 8192
    shapes = ((size, size, size), (4 * size, size // 2, 2 * size))
    for rows, inner, columns in shapes:
        left, right = torch.randn(rows, inner, dtype=dtype, device=device), torch.randn(columns, inner, dtype=dtype, device=device)
        for _ in range(4):
            started = time.perf_counter()
            torch.nn.functional.linear(left, right)
            if device_type == "cuda":
                torch.cuda.synchronize()
            best = max(best, 2.0 * rows * inner * columns / (time.perf_counter() - started))
    return best


class EnergyCounter:
    """Joules that the GPU has used, where NVML tells; else nothing."""

    def __init__(self, device: torch.device) -> None:
        self._read: Callable[[], float] | None = None
        if device.type != "cuda":
            return
        try:
            import pynvml
        except ImportError:
            return
        try:
            pynvml.nvmlInit()
            handle = pynvml.nvmlDeviceGetHandleByIndex(device.index or 0)
            pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
        except pynvml.NVMLError:
            return
        self._read = lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000.0

    def joules(self) -> float | None:
        """Since the driver was loaded; None where it is not told."""
        return self._read() if self._read else None


@dataclass
class Meter:
    """Sums between two log lines. Losses and norms stay on the device until they are logged."""

    device: torch.device
    peak_flops: float | None = None
    """Operations a second that MFU is a share of; None leaves MFU out."""
    energy: EnergyCounter | None = None
    _losses: list[Tensor] = field(default_factory=list)
    _parts: list[Losses] = field(default_factory=list)
    """Each step's losses by name."""
    _norms: list[Tensor] = field(default_factory=list)
    _tokens: int = 0
    _wait_s: float = 0.0
    _started: float = field(default_factory=time.monotonic)
    _joules: float | None = None

    def __post_init__(self) -> None:
        self.energy = self.energy or EnergyCounter(self.device)
        self._joules = self.energy.joules()

    def add(self, found: StepResult, *, tokens: int, wait_s: float) -> None:
        """Count one step."""
        self._losses.append(found.loss)
        self._parts.append(found.parts if len(found.parts) > 1 else {})
        self._norms.append(found.norm)
        self._tokens += tokens
        self._wait_s += wait_s

    def losses(self, world: World) -> Losses:
        """Of the steps since the last line, (steps,) each, summed over the processes: `loss`, and of several each by its name."""
        found = {"loss": torch.stack(self._losses)}
        names = list(dict.fromkeys(name for parts in self._parts for name in parts))
        zero = torch.zeros((), device=self.device)
        found |= {name: torch.stack([parts.get(name, zero) for parts in self._parts]) for name in names}
        return {name: world.sum(values) for name, values in found.items()}

    def metrics(self, losses: Losses) -> dict[str, float]:
        """Values that equal runs share.

        Args:
            losses: as `losses()` gives them.
        """
        means = {f"train/{name}": float(values.double().mean()) for name, values in losses.items()}
        return {**means, "grad_norm": float(torch.stack(self._norms).double().mean())}

    def timing(self, flops_per_token: float | None) -> dict[str, float]:
        """Values that differ between equal runs."""
        seconds = max(1e-9, time.monotonic() - self._started)
        found = {"tokens_per_s": self._tokens / seconds, "data_wait_share": self._wait_s / seconds, "memory_mb": memory_mb(self.device)}
        if self.peak_flops and flops_per_token:
            found["mfu"] = self._tokens / seconds * flops_per_token / self.peak_flops
        joules = self.energy.joules() if self.energy else None
        if joules is not None and self._joules is not None:
            found["joules_per_token"] = (joules - self._joules) / max(1, self._tokens)
        return found

    def state(self, world: World) -> dict[str, Any]:
        """The steps since the last line, for a checkpoint; every process must ask for it."""
        if not self._losses:
            return {"losses": {}, "norms": torch.zeros(0)}
        return {"losses": {name: values.cpu() for name, values in self.losses(world).items()}, "norms": torch.stack(self._norms).cpu()}

    def load(self, state: dict[str, Any], world: World) -> None:
        """Go on from `state()`; of several processes the first holds what all have summed."""
        held = {name: (values if world.is_main else torch.zeros_like(values)).to(self.device) for name, values in state["losses"].items()}
        self._losses = list(held.pop("loss", torch.zeros(0)))
        self._parts = [{name: values[step] for name, values in held.items()} for step in range(len(self._losses))]
        self._norms = list(state["norms"].to(self.device))

    def restart_clock(self) -> None:
        """Leave out the time since the last line, such as that of an evaluation."""
        if not self._losses:
            self._started = time.monotonic()

    def restart(self) -> None:
        """Begin the next line."""
        self._losses, self._parts, self._norms, self._tokens, self._wait_s = [], [], [], 0, 0.0
        self._started, self._joules = time.monotonic(), self.energy.joules() if self.energy else None


def memory_mb(device: torch.device) -> float:
    """Highest memory so far: of the GPU's allocator, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
