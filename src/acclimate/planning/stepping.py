"""Real steps of the one training loop on a throw-away model: the most rows that memory holds, and the time of a step."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from acclimate import artifacts
from acclimate.errors import EnvironmentUnfitError
from acclimate.planning.estimate import Memory, ascending_rows, num_timed_steps, peak_at
from acclimate.runtime import peak_rss_mb
from acclimate.training.checkpoints import CheckpointStore
from acclimate.training.distributed import World
from acclimate.training.loop import FitResult, LoopConfig, LossFunction, fit
from acclimate.training.meter import memory_mb
from acclimate.training.precision import Precision


class _NextDoesNotFitError(Exception):
    """The loop is left before it asks for more memory than there is."""


@dataclass(frozen=True)
class Peaks:
    """Highest memory so far: of the device that trains, and resident on the host."""

    used_mb: float
    rss_mb: float


@dataclass(frozen=True)
class _Windows:
    """A BatchSource of windows that are already made."""

    made: Sequence[Sequence[Any]]

    @property
    def steps(self) -> int:
        return len(self.made)

    def window(self, step: int) -> Sequence[Any]:
        return self.made[step]

    def rows(self, step: int) -> list[int]:
        return []


class _Clock:
    """A Sink that notes when each step was logged; with a line a step that is when it was done, on a GPU too."""

    def __init__(self, after_step: Callable[[int], None] | None = None) -> None:
        self.times: list[float] = []
        self._after_step = after_step

    def log(self, step: int, metrics: Mapping[str, float], *, timing: Mapping[str, float] | None = None) -> None:
        self.times.append(time.perf_counter())
        if self._after_step:
            self._after_step(step)


@dataclass
class Bench:
    """One model, its loss and optimizer, in the loop that trains them.

    Args:
        limit_mb: memory that there is for this process, in the unit of `used_mb`.
    """

    model: nn.Module
    loss_fn: LossFunction
    optimizer: torch.optim.Optimizer
    precision: Precision
    world: World
    config: LoopConfig
    scratch: Path
    limit_mb: float

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    def used_mb(self) -> float:
        """Highest memory so far: of the GPU's allocator, else resident."""
        return memory_mb(self.device) if self.device.type == "cuda" else peak_rss_mb()

    def peaks(self) -> Peaks:
        """Highest memory so far."""
        return Peaks(self.used_mb(), peak_rss_mb())

    def find_memory(self, window: Sequence[Any]) -> tuple[Memory, float]:
        """Take steps of ever more rows of one batch, and stop before one that would not fit; gives also the seconds that it took.

        Args:
            window: the step that needs most.
        """
        batch = max(window, key=lambda each: each.num_rows * each.num_tokens)
        rows = min(batch.num_rows, (self.config.micro_rows or batch.num_rows) * self.world.size)
        tried = ascending_rows(rows, first=self.world.size)
        weights_mb = self._weights_mb()
        if weights_mb > self.limit_mb:
            return Memory(weights_mb, self.limit_mb, weights_mb, rows // self.world.size, 0), 0.0
        peaks: list[tuple[int, float]] = []

        def look(step: int) -> None:
            now = tried[step - 1]
            peaks[:] = [peak for peak in peaks if peak[0] != now] + [(now, self.used_mb())]
            coming = tried[step] if step < len(tried) else now
            if self.world.max(int(peak_at(coming, peaks) > self.limit_mb))[0]:
                raise _NextDoesNotFitError

        windows = [[batch.part(0, count)] for count in tried]
        started = time.perf_counter()
        try:
            self._fit(windows, _Clock(look), replace(self.config, micro_rows=None))
        except _NextDoesNotFitError:
            pass
        except (torch.OutOfMemoryError, EnvironmentUnfitError):  # on a GPU before the line through the peaks told
            peaks.append((tried[len(peaks)], max(self.limit_mb * 1.01, self.used_mb())))
        fitting = max((count for count, peak in peaks if peak <= self.limit_mb), default=0)
        memory = Memory(peak_at(rows, peaks), self.limit_mb, weights_mb, rows // self.world.size, fitting // self.world.size)
        return memory, time.perf_counter() - started

    def _weights_mb(self) -> float:
        """What is used now, and a gradient and two moments for each trained weight."""
        trained: list[nn.Parameter] = [each for group in self.optimizer.param_groups for each in group["params"]]
        trained_bytes = sum(each.numel() * each.element_size() for each in trained)
        return self.used_mb() + 3 * trained_bytes / (1e6 if self.device.type == "cuda" else 1 << 20)

    def time_steps(self, choose: Callable[[int], Sequence[Sequence[Any]]]) -> tuple[list[float], float]:
        """Seconds of each step, and of saving a checkpoint after them; the first step warms up and is not counted.

        Args:
            choose: so many windows, the first for warming up.
        """
        (rough_s,), _ = self._timed(choose(2))
        mean_s = float(self.world.sum(torch.tensor(rough_s, device=self.device))) / self.world.size  # each process takes as many steps
        return self._timed(choose(1 + num_timed_steps(mean_s)))

    def _timed(self, windows: Sequence[Sequence[Any]]) -> tuple[list[float], float]:
        clock = _Clock()
        result = self._fit(windows, clock, self.config)
        return [after - before for before, after in zip(clock.times, clock.times[1:], strict=False)], result.saving_s

    def _fit(self, windows: Sequence[Sequence[Any]], clock: _Clock, config: LoopConfig) -> FitResult:
        with scratch_directory(self.scratch) as directory:
            return fit(
                self.model,
                _Windows(windows),
                self.loss_fn,
                optimizer=self.optimizer,
                precision=self.precision,
                config=replace(config, log_every=1, evaluate_every=0),
                sink=clock,
                checkpoints=CheckpointStore(directory),
                world=self.world,
            )


@contextmanager
def scratch_directory(parent: Path) -> Iterator[Path]:
    """A directory for what is written to time the writing; it goes at once."""
    with tempfile.TemporaryDirectory(dir=parent) as directory:
        yield Path(directory)


def seconds_of(work: Callable[[], object], *, times: int = 1) -> float:
    """Wall time of a call, the median of so many."""
    took = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        took.append(time.perf_counter() - started)
    return statistics.median(took)


def seconds_of_writing(write: Callable[[Path], None], scratch: Path) -> float:
    """Time of writing an out and of digesting it twice, for its manifest and for DVC."""

    def write_and_digest(directory: Path) -> None:
        write(directory)
        artifacts.write_manifest(directory, stage="plan", params={}, inputs={})
        artifacts.dvc_md5(directory)

    with scratch_directory(scratch) as directory:
        return seconds_of(lambda: write_and_digest(directory))
