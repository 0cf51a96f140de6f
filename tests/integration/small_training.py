"""What small_stage.py computes."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from acclimate.sinks import MemorySink
from acclimate.training.batches import step_generator
from acclimate.training.checkpoints import CheckpointStore
from acclimate.training.distributed import collect, join_world, leave_world, sharded_copy
from acclimate.training.loop import LoopConfig, fit
from acclimate.training.optimizers import make_optimizer, parameter_groups
from acclimate.training.precision import Precision
from stages.command import StageContext


@dataclass(frozen=True)
class Points:
    inputs: Tensor
    targets: Tensor

    @property
    def num_rows(self) -> int:
        return len(self.inputs)

    @property
    def num_targets(self) -> int:
        return len(self.inputs)

    num_tokens = num_targets

    def part(self, start: int, stop: int) -> Points:
        return Points(self.inputs[start:stop], self.targets[start:stop])

    def to(self, device: torch.device) -> Points:
        return self


@dataclass(frozen=True)
class PointBatches:
    rows_per_batch: int
    steps: int

    def window(self, step: int) -> list[Points]:
        generator = step_generator(3, step)
        return [Points(torch.randn(self.rows_per_batch, 8, generator=generator), torch.randn(self.rows_per_batch, 1, generator=generator))]

    def rows(self, step: int) -> list[int]:
        return [step]


def train(rows: int, steps: int, out: Path, context: StageContext) -> None:
    launch = context.train.launch
    world = join_world(torch.device("cpu"), sharding=launch.sharding, timeout_s=launch.timeout_s)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
    trained = sharded_copy(model, world, entry_points=())

    def loss(module: nn.Module, batch: Any) -> Tensor:
        time.sleep(0.01)
        return ((module(batch.inputs) - batch.targets) ** 2).sum()

    groups = parameter_groups(trained.named_parameters(), learning_rate=0.01, weight_decay=0.0)
    history = MemorySink()
    result = fit(
        trained,
        PointBatches(rows, steps),
        loss,
        optimizer=make_optimizer("adamw", groups, betas=(0.9, 0.99), epsilon=1e-8),
        precision=Precision("fp32", "cpu"),
        config=LoopConfig(clip_norm=1.0, schedule="linear", warmup_share=0.1, seed=5, log_every=1, checkpoint_every_s=0.2),
        sink=history,
        checkpoints=CheckpointStore(context.checkpoint_directory),
        world=world,
        identity=context.identity,
    )
    collect(trained, model)
    leave_world()
    if not world.is_main:
        return
    context.record.update(processes=world.size, resumed_from=result.resumed_from)
    (out / "curve.json").write_text(json.dumps([row["train/loss"] for row in history.rows]))
