"""A trial: a stage that takes a few of its steps, to tell what all of them take (`python -m stages.pretrain ... --try 12`).

Only the steps are fewer. Set-up, the scores after training, a checkpoint and the outs are the stage's own.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from acclimate.errors import DoesNotFitError
from acclimate.runtime import free_memory_mb, peak_rss_mb, process_age_s
from acclimate.training.distributed import World
from acclimate.training.host_memory import return_freed_memory
from acclimate.training.loop import SAVING_SHARE, FitResult, LoopConfig
from acclimate.training.meter import memory_mb
from acclimate.training.streams import Windows, Work

_SAMPLED_STEPS = 256
"""Steps of the run, spread evenly over it, whose tokens are counted."""


class Trial:
    """Takes the place of batches and sink in each fit of a stage: chooses some steps, times them, and adds up what all would take.

    First come steps of ever more rows of the batch with the most tokens. On a CPU, where the kernel would end the process, the trial
    ends before one that does not fit; on a GPU the loop halves its rows by itself. Then come the steps that are timed.

    Args:
        num_steps: how many steps are timed, of few tokens to many.
        memory_mb: memory of a GPU, or that all processes may use on a CPU; None is what is free.
    """

    def __init__(self, num_steps: int, memory_mb: float | None = None) -> None:
        self._num_timed, self._given_mb, self._free_mb = num_steps, memory_mb, free_memory_mb()
        self._parts_s = dict.fromkeys(("steps", "evaluations", "checkpoints"), 0.0)
        self._fits_s = self._needed_mb = self._earlier_mb = 0.0
        """Seconds of this process that `_parts_s` stands for, and the memory of the largest step, known or foreseen."""
        self._found: dict[str, float] = {"limit_mb": memory_mb or self._free_mb}

    def begin(self, batches: Windows, config: LoopConfig, world: World, device: torch.device) -> LoopConfig:
        """Choose the steps of a fit; gives the settings that its loop takes them with."""
        self._run, self._run_steps, self._world, self._device = config, batches.steps, world, device
        limit_mb = (self._given_mb or self._free_mb) / world.size
        if device.type == "cuda":
            free_bytes, total_bytes = torch.cuda.mem_get_info(device)
            limit_mb = self._given_mb or free_bytes / 1e6
            torch.cuda.set_per_process_memory_fraction(min(1.0, limit_mb * 1e6 / total_bytes), device)
        sampled = np.unique(np.linspace(0, batches.steps - 1, min(batches.steps, _SAMPLED_STEPS)).round().astype(int)).tolist()
        tokens = [_tokens(batches.window(step)) for step in sampled]
        self._mean_tokens, order = statistics.fmean(tokens), np.argsort(tokens, kind="stable")
        largest = max(batches.window(sampled[order[-1]]), key=lambda work: work.batch.num_tokens)
        rows = largest.batch.num_rows
        if largest.divisible:
            rows = min(rows, (config.micro_batch_size or rows) * world.size)
        doubled = [world.size << power for power in range(rows.bit_length()) if world.size << power < rows]
        self._rows = [min(world.size, rows), *doubled, rows]  # the first twice, since the optimizer's state comes with a first step
        ranks = (np.arange(self._num_timed) + 0.5) * len(sampled) / self._num_timed
        timed = np.random.default_rng(0).permutation(order[ranks.astype(int)])  # so that a disturbance hits no one length
        self._windows = [[largest.part(0, count)] for count in self._rows] + [batches.window(sampled[number]) for number in timed]
        self._found |= {"limit_mb": limit_mb, "processes": world.size, "rows": rows // world.size}
        self._peaks_mb: dict[int, float] = {}
        return_freed_memory()  # what an earlier fit left would hide what steps of few rows take, and so would its peak
        self._earlier_mb = max(self._earlier_mb, peak_rss_mb())
        with suppress(OSError):  # no Linux
            Path("/proc/self/clear_refs").write_text("5")
        self._steps_s: list[float] = []
        self._evaluations_s: list[float] = []
        self._at = time.monotonic()
        return replace(config, log_every=1, checkpoint_every_s=math.inf, evaluate_every=(self.steps - 1) * bool(config.evaluate_every))

    @property
    def steps(self) -> int:
        """Steps of the trial."""
        return len(self._windows)

    def window(self, step: int) -> list[Work]:
        """The batches of a step of the trial."""
        return self._windows[step]

    def rows(self, step: int) -> dict[str, list[int]]:
        """None: a step of the trial is another one in the run."""
        return {}

    def log(self, step: int, metrics: Mapping[str, float], *, timing: Mapping[str, float] | None = None) -> None:
        """Note when a step or, without timing, an evaluation was done.

        Raises:
            DoesNotFitError: on a CPU, the next step would need too much memory.
        """
        (self._evaluations_s if timing is None else self._steps_s).append(time.monotonic() - self._at)
        if timing is not None and step <= len(self._rows) and self._device.type == "cpu":
            self._peaks_mb[self._rows[step - 1]] = peak_rss_mb()
            fitting = [rows for rows, peak_mb in self._peaks_mb.items() if peak_mb <= self._found["limit_mb"]]
            self._found["fitting_rows"] = max(fitting, default=0) // self._world.size
            self._needed_mb = self._peak_mb(self._rows[-1])
            next_mb = self._peak_mb(self._rows[min(step, len(self._rows) - 1)])
            if self._world.max(int(next_mb > self._found["limit_mb"]))[0]:
                raise DoesNotFitError
            return_freed_memory()  # of fewer rows than a run ever has: pieces that it cannot use
        self._at = time.monotonic()

    def _peak_mb(self, rows: int) -> float:
        """Memory that so many rows need, by the steeper of the last two lines between numbers that were tried.

        A step may find room that an earlier one left, and then looks cheaper than it is.
        """
        tried = [*self._peaks_mb.items()][-3:]
        last, last_mb = tried[-1]
        slopes = [(above_mb - below_mb) / (above - below) for (below, below_mb), (above, above_mb) in pairwise(tried)]
        return last_mb + max(slopes, default=0.0) * (rows - last)

    def end(self, result: FitResult, micro_batch_size: int | None) -> None:
        """Add what all steps of the fit take.

        Args:
            result: of the trial's steps.
            micro_batch_size: rows computed at once in the end; fewer than at first where memory ran out.
        """
        every, steps, first = self._run.evaluate_every, self._run_steps, len(self._rows)
        tokens = [_tokens(window) for window in self._windows]
        timed = [*zip(tokens, self._steps_s, strict=False)][first:]
        # The median of the slopes between any two steps, so that one disturbed step moves nothing (Theil 1950, Sen 1968).
        slopes = [
            (long_s - short_s) / (long - short) for (short, short_s), (long, long_s) in combinations(sorted(timed), 2) if long > short
        ]
        token_s = statistics.median(slopes) if slopes else 0.0
        step_s = statistics.median(seconds + token_s * (self._mean_tokens - count) for count, seconds in timed)
        steps_s, save_s = steps * step_s, result.saving_s
        evaluations = math.ceil(steps / every) - (not self._run.health.patience) if every else 0
        self._parts_s["steps"] += steps_s
        self._parts_s["evaluations"] += evaluations * statistics.fmean(self._evaluations_s or [0.0])
        self._parts_s["checkpoints"] += save_s * (1 + int(steps_s // max(self._run.checkpoint_every_s, save_s / SAVING_SHARE)))
        # What the first steps took beyond their tokens, such as compiling, stays in "start and end".
        known_s = step_s / self._mean_tokens * sum(tokens[:first])
        self._fits_s += known_s + sum(self._steps_s[first:]) + sum(self._evaluations_s) + save_s
        self._found |= {"steps": steps, "step_s": step_s, "fitting_rows": min(self._found["rows"], micro_batch_size or math.inf)}

    def whole(self, device: str) -> dict[str, Any]:
        """Time and memory of the whole stage; to be asked for at the end of the process."""
        peaks_mb = {
            "peak_rss_mb": max(self._earlier_mb, peak_rss_mb()),
            **({"memory_mb": memory_mb(torch.device(device))} if device.startswith("cuda") else {}),
        }
        parts_s = {"start and end": process_age_s() - self._fits_s, **self._parts_s}
        needed_mb = max(self._needed_mb, [*peaks_mb.values()][-1])
        fits = {"fits": needed_mb <= self._found["limit_mb"], "needed_mb": needed_mb}
        return {"device": device, **self._found, **fits, **peaks_mb, "parts_s": parts_s, "wall_s": sum(parts_s.values())}


def _tokens(window: Sequence[Work]) -> int:
    return sum(work.batch.num_tokens for work in window)
