"""Our learning-rate schedules against those of transformers and torch.

Theirs warm up as step / warmup_steps, from 0; ours as (step + 1) / (warmup_steps + 1), so that the first step counts. The warm-ups
are alike with theirs one step longer and one step later; after it the steps are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import optimization

from acclimate.training.options import Schedule
from acclimate.training.schedules import learning_rate_factor

STEPS, WARMUP = 90, 10
ROUNDING = 1e-12  # double precision, other order of operations


def reference(make: Callable[..., Any], **options: Any) -> list[float]:
    """Factors of the first STEPS + 1 steps; the rate is 1."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = make(optimizer, **options)
    found = []
    for _ in range(STEPS + 1):
        found.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return found


WARMED = {"num_warmup_steps": WARMUP, "num_training_steps": STEPS}
WSD = {"num_warmup_steps": WARMUP, "num_decay_steps": 18, "num_stable_steps": STEPS - WARMUP - 18, "min_lr_ratio": 0.1}
CASES: list[tuple[Schedule, dict[str, Any], Callable[..., Any], dict[str, Any]]] = [
    ("linear", {}, optimization.get_linear_schedule_with_warmup, WARMED),
    ("cosine", {}, optimization.get_cosine_schedule_with_warmup, WARMED),
    ("cosine", {"min_factor": 0.2}, optimization.get_cosine_with_min_lr_schedule_with_warmup, {**WARMED, "min_lr_rate": 0.2}),
    ("constant", {}, optimization.get_constant_schedule_with_warmup, {"num_warmup_steps": WARMUP}),
    (
        "polynomial",
        {"power": 2.5, "min_factor": 0.05},
        optimization.get_polynomial_decay_schedule_with_warmup,
        {**WARMED, "power": 2.5, "lr_end": 0.05},
    ),
    ("cyclical", {"cycles": 3}, optimization.get_cosine_with_hard_restarts_schedule_with_warmup, {**WARMED, "num_cycles": 3}),
    ("wsd", {"decay_share": 0.2, "min_factor": 0.1}, optimization.get_wsd_schedule, {**WSD, "decay_type": "1-sqrt"}),
    (
        "wsd",
        {"decay_share": 0.2, "min_factor": 0.1, "decay_shape": "linear"},
        optimization.get_wsd_schedule,
        {**WSD, "decay_type": "linear"},
    ),
]


@pytest.mark.parametrize(("schedule", "options", "make", "theirs"), CASES, ids=[f"{case[0]}-{len(case[1])}" for case in CASES])
def test_after_the_warmup_the_factors_are_those_of_transformers(
    schedule: Schedule, options: dict[str, Any], make: Callable[..., Any], theirs: dict[str, Any]
) -> None:
    ours = [learning_rate_factor(step, steps=STEPS, warmup_steps=WARMUP, schedule=schedule, **options) for step in range(STEPS)]
    assert ours[WARMUP:] == pytest.approx(reference(make, **theirs)[WARMUP:STEPS], abs=ROUNDING)


def test_the_warmup_is_that_of_transformers_one_step_later_and_longer() -> None:
    theirs = reference(optimization.get_linear_schedule_with_warmup, num_warmup_steps=WARMUP + 1, num_training_steps=STEPS)
    ours = [learning_rate_factor(step, steps=STEPS, warmup_steps=WARMUP, schedule="linear") for step in range(WARMUP)]
    assert ours == pytest.approx(theirs[1 : WARMUP + 1], abs=ROUNDING)


def test_triangles_are_those_of_torch_from_its_first_peak_on() -> None:
    rise = (STEPS - WARMUP) // 5  # three falls and two rises
    options = {"base_lr": 0.1, "max_lr": 1.0, "step_size_up": rise, "cycle_momentum": False}
    theirs = reference(torch.optim.lr_scheduler.CyclicLR, **options)
    ours = [
        learning_rate_factor(
            step, steps=STEPS, warmup_steps=WARMUP, schedule="cyclical", cycles=3, cycle_shape="triangular", min_factor=0.1
        )
        for step in range(WARMUP, STEPS)
    ]
    shared = STEPS + 1 - rise
    assert ours[:shared] == pytest.approx(theirs[rise:], abs=1e-9)  # torch divides by a rounded cycle length
