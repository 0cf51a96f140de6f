"""Learning-rate schedules: step to factor, pure functions."""

from __future__ import annotations

import math
from typing import Literal


def learning_rate_factor(step: int, *, steps: int, warmup_steps: int, schedule: Literal["linear", "cosine", "constant"]) -> float:
    """Factor of the peak rate at `step`, counted from 0: up linearly over the warm-up, then down by `schedule`.

    Linear and cosine reach 0 one step after the last, so that no step is without effect.
    """
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    progress = (step - warmup_steps) / max(1, steps - warmup_steps)
    if schedule == "linear":
        return 1.0 - progress
    if schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * progress))
    return 1.0
