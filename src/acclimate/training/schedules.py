"""Learning-rate schedules: step to factor, pure functions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from acclimate.training.options import CycleShape, DecayShape, Schedule


def learning_rate_factor(
    step: int,
    *,
    steps: int,
    warmup_steps: int,
    schedule: Schedule,
    min_factor: float = 0.0,
    power: float = 1.0,
    cycles: int = 1,
    cycle_shape: CycleShape = "cosine",
    decay_share: float = 0.1,
    decay_shape: DecayShape = "1-sqrt",
) -> float:
    """Factor of the peak rate at `step`, counted from 0: up linearly over the warm-up, then by `schedule`.

    - `linear`, `cosine`: down to `min_factor`.
    - `polynomial`: down as (1 - progress) ** `power`.
    - `constant`: the peak; reads no option.
    - `cyclical`: `cycles` times. `cosine` falls and starts again at the peak (SGDR, Loshchilov and Hutter 2017,
      https://arxiv.org/abs/1608.03983); `triangular` falls and rises at one speed (Smith 2017, https://arxiv.org/abs/1506.01186),
      the warm-up being the first rise, so that the last step is at the bottom.
    - `wsd`: the peak, and over the last `decay_share` of all steps down (MiniCPM, Hu et al. 2024,
      https://arxiv.org/abs/2404.06395), `linear` or as 1 - sqrt(progress) (Haegele et al. 2024, https://arxiv.org/abs/2405.18392).

    What falls reaches `min_factor` one step after the last, so that no last step is without effect.
    """
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    progress = (step - warmup_steps) / max(1, steps - warmup_steps)
    if schedule == "constant":
        return 1.0
    if schedule == "linear":
        curve = 1.0 - progress
    elif schedule == "cosine":
        curve = _cosine(progress)
    elif schedule == "polynomial":
        curve = (1.0 - progress) ** power
    elif schedule == "cyclical":
        curve = _cosine(cycles * progress % 1.0) if cycle_shape == "cosine" else _triangles(progress, cycles)
    else:
        curve = _stable_then_down(step, steps, max(warmup_steps, steps - max(1, round(decay_share * steps))), decay_shape)
    return min_factor + (1.0 - min_factor) * curve


def _cosine(progress: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * progress))


def _triangles(progress: float, cycles: int) -> float:
    """`cycles` falls and the rises between them, of equal length."""
    return abs(1.0 - (2 * cycles - 1) * progress % 2.0)


def _stable_then_down(step: int, steps: int, first_of_decay: int, shape: DecayShape) -> float:
    progress = max(0, step - first_of_decay) / max(1, steps - first_of_decay)
    return 1.0 - (math.sqrt(progress) if shape == "1-sqrt" else progress)
