"""Refusing what does not fit, and saying what would."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from acclimate.planning.estimate import Memory, StageEstimate
from acclimate.planning.planner import Plan, PlannedStage
from acclimate.planning.stepping import Bench
from acclimate.planning.table import refusals, render
from acclimate.runtime import peak_rss_mb
from acclimate.training.distributed import World
from acclimate.training.loop import LoopConfig
from acclimate.training.optimizers import adamw
from acclimate.training.precision import Precision
from tests.unit.training.toy_run import Points

_WIDTH = 2_000_000
"""Floats of activation that a row keeps for backward: 8 MB for each of the layers below."""


class Wide(nn.Module):
    """Few weights, much memory a row."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        hidden = inputs[:, :1] * torch.ones(1, _WIDTH)
        for factor in self.scale:
            hidden = torch.tanh(hidden * factor)
        return hidden.mean(1, keepdim=True)


def bench(tmp_path: Path, limit_mb: float) -> Bench:
    model = Wide()
    optimizer = adamw([{"params": list(model.parameters()), "lr": 0.01, "weight_decay": 0.0}], betas=(0.9, 0.99), epsilon=1e-8)
    loop = LoopConfig(clip_norm=1.0, schedule="linear", warmup_share=0.1, seed=5)
    return Bench(
        model, lambda m, b: ((m(b.inputs) - b.targets) ** 2).sum(), optimizer, Precision("fp32", "cpu"), World(), loop, tmp_path, limit_mb
    )


def batch(rows: int) -> list[Points]:
    return [Points(torch.ones(rows, 4), torch.ones(rows, 1), rows)]


def test_the_trial_stops_before_it_asks_for_more_than_there_is(tmp_path):
    limit_mb = peak_rss_mb() + 900  # a row takes some 70 MB, 32 of them 2.2 GB
    memory, _ = bench(tmp_path, limit_mb).find_memory(batch(32))
    assert not memory.fits
    assert 1 <= memory.fitting_rows < 32
    assert memory.needed_mb > limit_mb
    assert peak_rss_mb() < limit_mb + 200


def test_where_there_is_enough_the_whole_batch_fits(tmp_path):
    memory, _ = bench(tmp_path, peak_rss_mb() + 4000).find_memory(batch(4))
    assert memory.fits
    assert memory.fitting_rows == memory.rows == 4


def test_weights_that_do_not_fit_are_told_before_any_step(tmp_path):
    memory, _ = bench(tmp_path, 1.0).find_memory(batch(4))
    assert memory.fitting_rows == 0
    assert memory.weights_mb > memory.limit_mb


def test_steps_are_timed_without_the_first_and_leave_no_checkpoint(tmp_path):
    asked: list[int] = []

    def windows(count: int) -> list[list[Points]]:
        asked.append(count)
        return [batch(1)] * count

    seconds, save_s = bench(tmp_path, 1e9).time_steps(windows)
    assert asked[0] == 2
    assert len(seconds) == asked[1] - 1 >= 3
    assert save_s > 0
    assert list(tmp_path.iterdir()) == []


def stage(memory: Memory, *remedies: str) -> PlannedStage:
    estimate = StageEstimate(memory, "cpu", 2, 1, 96, 0.5, {"start": 12.0, "steps": 48.0})
    return PlannedStage("section", ["finetune@section-base-0", "finetune@section-adapted-0"], estimate, list(remedies))


def test_a_refusal_says_in_a_line_what_is_needed_what_is_there_and_what_would_fit():
    plan = Plan([stage(Memory(5300, 2000, 700, 32, 8), "train.micro_rows: 8")], [], "free on this machine", None, 1.0)
    assert refusals(plan) == [
        "finetune section: needs 5,300 MB with 32 rows at once, 2,000 MB are free on this machine; would fit: train.micro_rows: 8"
    ]
    assert render(plan) == []
    hopeless = Plan([stage(Memory(5300, 2000, 2100, 32, 0))], [], "given", None, 1.0)
    assert "weights, gradients and the optimizer's state alone do not" in refusals(hopeless)[0]


@pytest.mark.parametrize(("price", "cost"), [(None, None), (36.0, "1.20")])
def test_the_table_multiplies_by_runs_and_tells_the_cost_where_there_is_a_price(price, cost):
    lines = render(Plan([stage(Memory(900, 2000, 700, 32, 32))], ["on made-up rows"], "free on this machine", price, 1.0))
    assert lines[1].split()[:5] == ["finetune", "section", "2", "96", "0.5"]
    assert "1 min 00 s" in lines[1]
    assert "2 min 00 s" in lines[2]
    assert ("cost" in lines[0], lines[2].split()[-1] == cost) == (price is not None, price is not None)
    assert lines[-1] == "tried on made-up rows"
