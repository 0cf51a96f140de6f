"""Where a trial runs, and what of its outcome is the same for every stage: whether it goes on, and the estimate at the end."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from acclimate import artifacts
from acclimate.config import Config
from acclimate.planning.estimate import Memory, StageEstimate, ascending_rows, num_saves
from acclimate.planning.stepping import Bench, Peaks
from acclimate.planning.trial import TrialRequest
from acclimate.training.distributed import World
from acclimate.training.loop import SAVING_SHARE, LoopConfig


@dataclass(frozen=True)
class Place:
    """The device, its threads, and the processes that share the work."""

    device: torch.device
    threads: int
    world: World

    def limit_mb(self, request: TrialRequest) -> float:
        """Memory that this process may use."""
        if self.device.type != "cuda":
            return request.limit_mb / self.world.size
        return request.gpu_limit_mb or torch.cuda.mem_get_info(self.device)[0] / 1e6

    def estimate(self, memory: Memory) -> StageEstimate:
        """Of which nothing but the memory is known yet."""
        return StageEstimate(memory, str(self.device), self.threads, self.world.size)


def digest_inputs(*directories: Path) -> None:
    """As a stage's command does before the stage."""
    for directory in directories:
        artifacts.dvc_md5(directory)


def goes_on(memory: Memory, config: Config, bench: Bench) -> bool:
    """Whether the stage would run: as it is, or on one GPU with fewer rows at once, which the loop finds by itself.

    On a CPU the kernel ends a process that has no memory left before the loop can halve anything.
    """
    if memory.fits:
        return True
    if bench.device.type != "cuda" or config.train.micro_rows != "auto" or bench.world.size > 1 or not memory.fitting_rows:
        return False
    bench.config = replace(bench.config, micro_rows=memory.fitting_rows)
    return True


def saves_s(run_s: float, loop: LoopConfig, save_s: float) -> float:
    """Seconds of all checkpoints of a run."""
    return save_s * num_saves(run_s, every_s=loop.checkpoint_every_s, save_s=save_s, share=SAVING_SHARE)


def finished(
    estimate: StageEstimate, config: Config, peaks: Peaks, memory_s: float, *, steps: int, step_s: float, parts: dict[str, float]
) -> StageEstimate:
    """The estimate with what was timed.

    Args:
        peaks: of everything that was tried.
        memory_s: what finding the memory took; with train.compile, compiling is what it took beyond its rows.
    """
    memory = estimate.memory
    if config.train.compile:
        parts = {**parts, "compile": max(0.0, memory_s - step_s * sum(ascending_rows(memory.rows)) / memory.rows)}
    micro_rows = None if memory.fits else memory.fitting_rows
    if memory.fits:
        memory = replace(memory, needed_mb=max(memory.needed_mb, peaks.used_mb))
    return replace(estimate, memory=memory, steps=steps, step_s=step_s, parts=parts, peak_rss_mb=peaks.rss_mb, micro_rows=micro_rows)
