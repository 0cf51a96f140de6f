"""From measured steps to a stage: the arithmetic."""

from __future__ import annotations

import numpy as np
import pytest

from acclimate.planning.estimate import (
    Cost,
    Memory,
    StageEstimate,
    ascending_rows,
    fit_cost,
    num_evaluations,
    num_saves,
    num_timed_steps,
    peak_at,
)


def test_the_line_through_batches_of_many_lengths_gives_the_sum_over_all():
    tokens = [512, 1024, 768, 2048, 1536]
    cost = fit_cost(tokens, [0.1 + 0.0004 * count for count in tokens])
    assert cost.batch_s == pytest.approx(0.1)
    assert cost.token_s == pytest.approx(0.0004)
    assert cost.total([256] * 10) == pytest.approx(10 * (0.1 + 0.0004 * 256))


def test_one_disturbed_step_moves_nothing():
    tokens = [500, 1000, 1500, 2000, 2500, 3000, 3500]
    seconds = [count / 1000 for count in tokens]
    seconds[3] = 60.0
    assert fit_cost(tokens, seconds).total(tokens) == pytest.approx(sum(tokens) / 1000, rel=0.01)


def test_batches_of_one_size_cost_their_median():
    assert fit_cost([4096] * 5, [1.0, 1.2, 1.1, 9.0, 1.1]).total([4096] * 100) == pytest.approx(110.0)


def test_no_part_of_a_cost_is_negative():
    cost = fit_cost([100, 200, 300], [0.1, 0.3, 0.5])  # the line crosses zero at 50 tokens
    assert cost.batch_s == 0.0
    assert cost.token_s > 0
    falling = fit_cost([100, 200, 300], [0.3, 0.2, 0.1])
    assert falling == Cost(pytest.approx(0.2), 0.0)


@pytest.mark.parametrize("steps", [1, 7, 8, 9, 32])
@pytest.mark.parametrize("every", [0, 1, 3, 8])
@pytest.mark.parametrize("with_last", [False, True])
def test_evaluations_are_those_that_the_loop_makes(steps, every, with_last):
    made = 0
    for done in range(1, steps + 1):  # as training/loop.py: _evaluate_now
        is_last = done == steps
        due = every and (done % every == 0 or (is_last and with_last))
        made += bool(due and (not is_last or with_last))
    assert num_evaluations(steps, every, with_last=with_last) == made


def test_a_short_run_saves_once_and_slow_saves_are_rarer():
    assert num_saves(10.0, every_s=30.0, save_s=0.1, share=0.02) == 1
    assert num_saves(100.0, every_s=30.0, save_s=0.1, share=0.02) == 4
    assert num_saves(100.0, every_s=30.0, save_s=1.0, share=0.02) == 3


def test_long_steps_are_timed_less_often_and_three_times_at_least():
    assert num_timed_steps(0.01) == 600
    assert num_timed_steps(1.0) == 8
    assert num_timed_steps(5.0) == 6
    assert num_timed_steps(60.0) == 3


@pytest.mark.parametrize(
    ("rows", "first", "tried"), [(1, 1, [1, 1]), (8, 1, [1, 1, 2, 4, 8]), (12, 1, [1, 1, 2, 4, 8, 12]), (8, 2, [2, 2, 4, 8])]
)
def test_rows_are_doubled_up_to_the_whole_batch(rows, first, tried):
    assert [*dict.fromkeys(ascending_rows(rows, first=first))] == [*dict.fromkeys(tried)]
    assert ascending_rows(rows, first=first)[:2] == [first, first]


def test_memory_of_more_rows_follows_the_last_two_that_were_tried():
    assert peak_at(32, [(1, 500.0), (2, 510.0), (4, 550.0)]) == pytest.approx(550 + 28 * 20)
    assert peak_at(32, [(1, 500.0)]) == 500.0
    assert peak_at(2, [(2, 510.0)]) == 510.0


def test_a_stage_is_the_sum_of_its_parts():
    estimate = StageEstimate(Memory(900, 1000, 500, 32, 32), "cpu", 1, 1, parts={"start": 4.0, "steps": 100.0})
    assert estimate.wall_s == 104.0
    assert estimate.memory.fits
    assert not Memory(1001, 1000, 500, 32, 16).fits


def test_the_total_takes_lengths_as_an_array():
    assert Cost(1.0, 0.5).total(np.array([2, 4])) == 5.0
