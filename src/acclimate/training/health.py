"""Signs that a run goes wrong, and what is done then."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

_MEDIAN_TO_SIGMA = 1.4826
"""Times the median absolute deviation: the standard deviation of a normal distribution."""
_MIN_HISTORY = 20


@dataclass(frozen=True)
class HealthConfig:
    """What is watched while training."""

    spike_sigmas: float = 8.0
    """A loss this many robust standard deviations above the median of the last `spike_window` steps is a spike."""
    spike_window: int = 100
    on_spike: Literal["mark", "rewind"] = "mark"
    """`rewind` goes back to the weights of up to `rewind_steps` ago and passes over the batches since (as Chowdhery et al. 2022,
    section 5.1, https://arxiv.org/abs/2204.02311). It looks at every step's loss, so a GPU is waited for at each."""
    rewind_steps: int = 16
    max_rewinds: int = 10
    patience: int = 0
    """Evaluations without a better `watch` until training stops and the best weights come back; 0 never stops early."""
    watch: str = "heldout_loss"
    maximize: bool = False


@dataclass
class SpikeDetector:
    """Compares each loss with those before it."""

    config: HealthConfig
    recent: list[float] = field(default_factory=list)
    spikes: list[int] = field(default_factory=list)
    """Steps, counted from 0."""

    def is_spike(self, step: int, loss: float) -> bool:
        """Judge one step's loss. A spike is noted and does not enter what the next are compared with."""
        found = False
        if len(self.recent) >= _MIN_HISTORY:
            median = statistics.median(self.recent)
            deviation = statistics.median(abs(value - median) for value in self.recent)
            found = loss - median > self.config.spike_sigmas * max(_MEDIAN_TO_SIGMA * deviation, 1e-3 * abs(median))
        if found:
            self.spikes.append(step)
        else:
            self.recent = [*self.recent, loss][-self.config.spike_window :]
        return found

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"recent": list(self.recent), "spikes": list(self.spikes)}

    def load(self, state: dict[str, Any]) -> None:
        """From a checkpoint."""
        self.recent, self.spikes = list(state["recent"]), list(state["spikes"])


@dataclass
class Best:
    """The best evaluation so far, its weights, and how long ago it was."""

    config: HealthConfig
    score: float | None = None
    step: int = 0
    weights: dict[str, Tensor] | None = None
    evaluations_since: int = 0

    def better(self, score: float) -> bool:
        """Whether a score beats the best; counts the evaluations that do not. One that is not a number beats nothing."""
        improved = not math.isnan(score) and (self.score is None or (score > self.score if self.config.maximize else score < self.score))
        self.evaluations_since = 0 if improved else self.evaluations_since + 1
        return improved

    @property
    def is_hopeless(self) -> bool:
        """Whether patience has run out."""
        return 0 < self.config.patience <= self.evaluations_since

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"score": self.score, "step": self.step, "weights": self.weights, "since": self.evaluations_since}

    def load(self, state: dict[str, Any]) -> None:
        """From a checkpoint."""
        self.score, self.step, self.weights, self.evaluations_since = state["score"], state["step"], state["weights"], state["since"]
