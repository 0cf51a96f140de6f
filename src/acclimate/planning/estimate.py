"""From what a trial measured to what a whole stage takes: the arithmetic, without a model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Cost:
    """Seconds of one batch: some whatever its size, and some for each of its tokens, padding included."""

    batch_s: float
    token_s: float

    def total(self, tokens: Sequence[int] | NDArray[np.int64]) -> float:
        """Seconds of batches of so many tokens."""
        return self.batch_s * len(tokens) + self.token_s * float(np.sum(tokens))


def fit_cost(tokens: Sequence[int], seconds: Sequence[float]) -> Cost:
    """The line through measured batches by the median of their slopes (Theil 1950, Sen 1968), so that one disturbed step moves nothing.

    Batches of one size give no slope: their median is taken to grow with the tokens.
    """
    slopes = [(s2 - s1) / (t2 - t1) for (t1, s1), (t2, s2) in combinations(zip(tokens, seconds, strict=True), 2) if t1 != t2]
    slope = max(0.0, float(np.median(slopes))) if slopes else 0.0
    rest = float(np.median(np.asarray(seconds) - slope * np.asarray(tokens)))
    if not slopes or rest < 0.0:
        return Cost(0.0, float(np.median(np.asarray(seconds) / np.asarray(tokens))))
    return Cost(rest, slope)


def num_timed_steps(step_s: float, *, enough_s: float = 6.0, fewest: int = 8, most_s: float = 30.0) -> int:
    """How many steps to time: `fewest` and as many as last `enough_s`, but where steps are long, three at least within `most_s`."""
    return max(3, min(max(fewest, math.ceil(enough_s / step_s)), math.floor(most_s / step_s)))


def num_evaluations(steps: int, every: int, *, with_last: bool) -> int:
    """How often the loop scores the model on its way.

    Args:
        with_last: early stopping scores after the last step too.
    """
    if not every:
        return 0
    return math.ceil(steps / every) if with_last else math.ceil(steps / every) - 1


def num_saves(run_s: float, *, every_s: float, save_s: float, share: float) -> int:
    """How many checkpoints the loop makes: one at the end, others so that they cost no more than `share` of the time."""
    return 1 + int(run_s // max(every_s, save_s / share))


def peak_at(rows: int, peaks: Sequence[tuple[int, float]]) -> float:
    """Memory that so many rows at once need, by the line through the two largest numbers of rows tried.

    Args:
        peaks: (rows, highest memory so far), ascending, at least one.
    """
    (last_rows, last), (before_rows, before) = peaks[-1], peaks[-2] if len(peaks) > 1 else peaks[-1]
    slope = (last - before) / (last_rows - before_rows) if last_rows > before_rows else 0.0
    return last + max(0.0, slope) * max(0, rows - last_rows)


def ascending_rows(rows: int, *, first: int = 1) -> list[int]:
    """Rows to try at once, doubling; the first twice, since the optimizer's state comes with the first step."""
    first = min(first, rows)
    doubled = [first]
    while doubled[-1] * 2 < rows:
        doubled.append(doubled[-1] * 2)
    return [first, *doubled, *([rows] if doubled[-1] < rows else [])]


@dataclass(frozen=True)
class Memory:
    """What a stage needs of what there is, in MB: of the GPU where it trains on one, else resident on the host."""

    needed_mb: float
    limit_mb: float
    weights_mb: float
    """With gradients, the optimizer's state and the program itself: what is needed before any row."""
    rows: int
    """Rows computed at once."""
    fitting_rows: int
    """The most rows at once, of those tried, that fit; 0 when none do."""

    @property
    def fits(self) -> bool:
        """Whether the stage runs as params.yaml has it."""
        return self.needed_mb <= self.limit_mb


@dataclass(frozen=True)
class StageEstimate:
    """What one instance of a training stage takes."""

    memory: Memory
    device: str
    threads: int
    processes: int
    steps: int = 0
    step_s: float = 0.0
    """Mean over the steps of the run."""
    parts: dict[str, float] = field(default_factory=dict)
    """Seconds by what they are spent on."""
    peak_rss_mb: float = 0.0
    micro_rows: int | None = None
    """Rows at once, where fewer than params.yaml asks for fit and the loop finds that by itself."""

    @property
    def wall_s(self) -> float:
        """From the start of the process to its end."""
        return sum(self.parts.values())
