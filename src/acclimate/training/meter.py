"""What a run achieves: tokens, share of the hardware's rate, memory, waiting and energy. Nothing here waits for the device."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from acclimate.training.distributed import World

FlopsPerToken = Callable[[Sequence[Any]], float]
"""(micro-batches of a step, on the host) -> floating-point operations that each of their real tokens needs."""


@dataclass(frozen=True)
class EncoderShape:
    """What the operations of a training step follow from."""

    num_layers: int
    width: int
    vocabulary_size: int

    def flops_per_token(self, *, squared_lengths_per_token: float, target_share: float) -> float:
        """Forward and backward: 6 * 12 L h^2 + 12 L h * (sum s_i^2 / sum s_i) + 6 (V h + h^2) * r.

        Padding, the vocabulary head at positions without a target, and recomputation count for nothing.

        Args:
            squared_lengths_per_token: sum of squared document lengths over the sum of lengths.
            target_share: r, targets of the vocabulary head for each token.
        """
        layers, width = self.num_layers, self.width
        head = 6 * (self.vocabulary_size * width + width * width) * target_share
        return 72 * layers * width * width + 12 * layers * width * squared_lengths_per_token + head


def shape_of(config: Any) -> EncoderShape:
    """The shape of an encoder of transformers."""
    return EncoderShape(config.num_hidden_layers, config.hidden_size, config.vocab_size)


def squared_lengths(segments_BT: Tensor) -> float:
    """Sum of the squared lengths of the documents' pieces in packed rows."""
    starts = torch.ones_like(segments_BT, dtype=torch.bool)
    starts[:, 1:] = segments_BT[:, 1:] != segments_BT[:, :-1]
    bounds = starts.flatten().nonzero().squeeze(1)
    lengths = torch.diff(bounds, append=bounds.new_tensor([segments_BT.numel()]))
    return float((lengths.double() ** 2).sum())


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
    _norms: list[Tensor] = field(default_factory=list)
    _tokens: int = 0
    _wait_s: float = 0.0
    _started: float = field(default_factory=time.monotonic)
    _joules: float | None = None

    def __post_init__(self) -> None:
        self.energy = self.energy or EnergyCounter(self.device)
        self._joules = self.energy.joules()

    def add(self, loss: Tensor, norm: Tensor, *, tokens: int, wait_s: float) -> None:
        """Count one step."""
        self._losses.append(loss)
        self._norms.append(norm)
        self._tokens += tokens
        self._wait_s += wait_s

    def losses(self) -> Tensor:
        """Of the steps since the last line, (steps,)."""
        return torch.stack(self._losses)

    def metrics(self, losses: Tensor) -> dict[str, float]:
        """Values that equal runs share.

        Args:
            losses: of `losses()`, summed over the processes.
        """
        return {"train/loss": float(losses.double().mean()), "grad_norm": float(torch.stack(self._norms).double().mean())}

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

    def state(self, world: World) -> dict[str, Tensor]:
        """The steps since the last line, for a checkpoint; every process must ask for it."""
        if not self._losses:
            return {"losses": torch.zeros(0), "norms": torch.zeros(0)}
        return {"losses": world.sum(self.losses()).cpu(), "norms": torch.stack(self._norms).cpu()}

    def load(self, state: dict[str, Tensor], world: World) -> None:
        """Go on from `state()`; of several processes the first holds what all have summed."""
        losses = state["losses"] if world.is_main else torch.zeros_like(state["losses"])
        self._losses, self._norms = list(losses.to(self.device)), list(state["norms"].to(self.device))

    def restart_clock(self) -> None:
        """Leave out the time since the last line, such as that of an evaluation."""
        if not self._losses:
            self._started = time.monotonic()

    def restart(self) -> None:
        """Begin the next line."""
        self._losses, self._norms, self._tokens, self._wait_s = [], [], 0, 0.0
        self._started, self._joules = time.monotonic(), self.energy.joules() if self.energy else None


def memory_mb(device: torch.device) -> float:
    """Highest memory so far: of the GPU's allocator, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
