"""Learning-rate schedules: their shapes, their ends, and that the first three did not change."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any, get_args

import pytest

from acclimate.training.options import SCHEDULE_OPTIONS, Schedule
from acclimate.training.schedules import learning_rate_factor

STEPS, WARMUP = 200, 20
ALL: tuple[Schedule, ...] = get_args(Schedule)


def factors(schedule: Schedule, *, steps: int = STEPS, warmup_steps: int = WARMUP, **options: Any) -> list[float]:
    return [learning_rate_factor(step, steps=steps, warmup_steps=warmup_steps, schedule=schedule, **options) for step in range(steps)]


@pytest.mark.parametrize("warmup", [0, 1, 7, 37])
def test_linear_cosine_and_constant_give_the_bits_they_always_gave(warmup: int) -> None:
    steps = 37

    def first_version(step: int, schedule: str) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        progress = (step - warmup) / max(1, steps - warmup)
        if schedule == "linear":
            return 1.0 - progress
        return 0.5 * (1.0 + math.cos(math.pi * progress)) if schedule == "cosine" else 1.0

    for schedule in ("linear", "cosine", "constant"):
        assert factors(schedule, steps=steps, warmup_steps=warmup) == [first_version(step, schedule) for step in range(steps)]


@pytest.mark.parametrize("schedule", ALL)
@pytest.mark.parametrize("warmup", [0, WARMUP, STEPS])
def test_every_schedule_stays_between_its_floor_and_the_peak(schedule: Schedule, warmup: int) -> None:
    options = {"min_factor": 0.1} if "min_factor" in SCHEDULE_OPTIONS[schedule] else {}
    found = factors(schedule, warmup_steps=warmup, **options)
    assert max(found) <= 1.0
    assert min(found[warmup:], default=0.1) >= 0.1
    assert warmup == STEPS or found[warmup] == 1.0


@pytest.mark.parametrize("schedule", [name for name in ALL if name != "constant"])
@pytest.mark.parametrize("min_factor", [0.0, 0.25])
def test_what_falls_reaches_its_floor_one_step_after_the_last(schedule: Schedule, min_factor: float) -> None:
    for options in ({}, {"cycle_shape": "triangular"}, {"decay_shape": "linear"}):
        last = factors(schedule, min_factor=min_factor, **options)[-1]
        beyond = learning_rate_factor(STEPS, steps=STEPS, warmup_steps=WARMUP, schedule=schedule, min_factor=min_factor, **options)
        assert last > min_factor
        # a cosine restarts there instead; the others are at the floor but for rounding
        if schedule != "cyclical" or options.get("cycle_shape") == "triangular":
            assert beyond == pytest.approx(min_factor, abs=1e-12)
        assert last < min_factor + 0.06


def test_cosine_restarts_as_often_as_there_are_cycles() -> None:
    found = factors("cyclical", cycles=3)
    restarts = [step for step in range(WARMUP + 1, STEPS) if found[step] > found[step - 1]]
    assert restarts == [80, 140] and found[80] == found[140] == 1.0


def test_triangles_begin_at_the_peak_and_end_at_the_bottom() -> None:
    found = factors("cyclical", cycles=3, cycle_shape="triangular")
    assert [found[step] for step in (20, 56, 92, 128, 164)] == pytest.approx([1, 0, 1, 0, 1], abs=1e-12)
    assert {round(abs(b - a), 9) for a, b in pairwise(found[WARMUP:])} == {round(1 / 36, 9)}


def test_one_triangle_is_linear() -> None:
    assert factors("cyclical", cycle_shape="triangular") == pytest.approx(factors("linear"), abs=1e-12)


def test_a_decay_that_meets_the_warmup_begins_after_it() -> None:
    found = factors("wsd", decay_share=0.99, decay_shape="linear")
    assert found == pytest.approx(factors("linear"), abs=1e-12)


@pytest.mark.parametrize("schedule", ALL)
def test_a_run_of_one_step_has_an_effect(schedule: Schedule) -> None:
    assert factors(schedule, steps=1, warmup_steps=0) == [1.0]
