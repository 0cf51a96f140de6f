"""What small_stage.py computes."""

from __future__ import annotations

import json
import time
from functools import partial
from pathlib import Path

import torch
from torch import nn

from acclimate.protocols import Group, Losses
from acclimate.sinks import MemorySink
from acclimate.training.checkpoints import CheckpointStore
from acclimate.training.distributed import join_world, leave_world
from acclimate.training.loop import LoopConfig, fit
from acclimate.training.optimizers import make_optimizer
from acclimate.training.precision import Precision
from acclimate.training.streams import Work
from stages.command import StageContext
from tests.unit.training.toy_run import Points, Toy, keyed_generator, summed_error


class Slow(Toy):
    """Takes 10 ms a batch at least."""

    def forward(self, batch: Points, stream: str) -> Losses:
        time.sleep(0.01)
        return super().forward(batch, stream)


class PointBatches:
    """So many rows a step."""

    def __init__(self, rows: int, steps: int) -> None:
        self.num_rows, self.steps = rows, steps

    def window(self, step: int) -> list[Work]:
        generator = keyed_generator(3, step)
        points = Points(torch.randn(self.num_rows, 8, generator=generator), torch.randn(self.num_rows, 1, generator=generator))
        return [Work("toy", step, points)]

    def rows(self, step: int) -> dict[str, list[int]]:
        return {"toy": [step]}


def train(rows: int, steps: int, out: Path, context: StageContext) -> None:
    launch = context.train.launch
    world = join_world(torch.device("cpu"), sharding=launch.sharding, timeout_s=launch.timeout_s)
    torch.manual_seed(0)
    model = Slow(nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1)), summed_error)
    history = MemorySink()
    result = fit(
        model,
        PointBatches(rows, steps),
        groups=lambda trained: [Group(list(trained.parameters()), 0.01)],
        optimizer=partial(make_optimizer, "adamw", betas=(0.9, 0.99), epsilon=1e-8),
        precision=Precision("fp32", "cpu"),
        config=LoopConfig(clip_norm=1.0, schedule="linear", warmup_share=0.1, seed=5, log_every=1, checkpoint_every_s=0.2),
        sink=history,
        checkpoints=CheckpointStore(context.checkpoint_directory),
        world=world,
        identity=context.identity,
    )
    leave_world()
    if not world.is_main:
        return
    context.record.update(processes=world.size, resumed_from=result.resumed_from)
    (out / "curve.json").write_text(json.dumps([row["train/loss"] for row in history.rows]))
