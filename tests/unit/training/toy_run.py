"""A network of some dozen weights and a run of it, which the tests of the loop disturb."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from acclimate.sinks import MemorySink
from acclimate.training.batches import step_generator
from acclimate.training.checkpoints import CheckpointStore
from acclimate.training.loop import FitResult, LoopConfig, fit
from acclimate.training.optimizers import adamw
from acclimate.training.precision import Precision

FP32 = Precision("fp32", "cpu")
ROWS = 12


@dataclass(frozen=True)
class Points:
    inputs: Tensor
    targets: Tensor
    num_targets: int
    num_tokens: int = 1

    @property
    def num_rows(self) -> int:
        return len(self.inputs)

    def part(self, start: int, stop: int) -> Points:
        return Points(self.inputs[start:stop], self.targets[start:stop], stop - start)

    def to(self, device: torch.device) -> Points:
        return self


@dataclass(frozen=True)
class PointBatches:
    """Twelve rows a step, whole or in three unequal batches; `outliers` are steps whose targets are a hundred times as large."""

    steps: int
    parts: int = 1
    outliers: tuple[int, ...] = ()

    def window(self, step: int) -> list[Points]:
        generator = step_generator(3, step)
        inputs, targets = torch.randn(ROWS, 4, generator=generator), torch.randn(ROWS, 1, generator=generator)
        targets = targets * 100 if step in self.outliers else targets
        bounds = [0, ROWS] if self.parts == 1 else [0, 1, 4, ROWS]
        return [Points(inputs[a:b], targets[a:b], b - a) for a, b in pairwise(bounds)]

    def rows(self, step: int) -> list[int]:
        return list(range(ROWS * step, ROWS * step + ROWS))


class Killed(BaseException):
    """Stands for the power cut: nothing may catch it."""


def summed_error(model: nn.Module, batch: Any) -> Tensor:
    return ((model(batch.inputs) - batch.targets) ** 2).sum()


def dies_at(call: int, loss: Callable[..., Tensor] = summed_error) -> Callable[..., Tensor]:
    """A loss that can be computed `call` times."""
    calls = 0

    def dying(model: nn.Module, batch: Any) -> Tensor:
        nonlocal calls
        calls += 1
        if calls > call:
            raise Killed
        return loss(model, batch)

    return dying


def network(dropout: float = 0.3) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 8), nn.Dropout(dropout), nn.Linear(8, 1))


@dataclass
class Trained:
    model: nn.Module
    result: FitResult
    rows: list[dict[str, float]]
    """What was logged."""

    @property
    def weights(self) -> Tensor:
        return weights(self.model)


def weights(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def train(
    directory: Path,
    *,
    batches: PointBatches | None = None,
    model: nn.Module | None = None,
    loss: Callable[..., Tensor] = summed_error,
    evaluate: Callable[[nn.Module], dict[str, float]] | None = None,
    identity: dict[str, str] | None = None,
    precision: Precision = FP32,
    every_s: float = 1e9,
    **settings: Any,
) -> Trained:
    """Train for 20 steps with dropout.

    Args:
        every_s: seconds between checkpoints; by default there is but the one at the end. 0 saves after every step.
        settings: of LoopConfig.
    """
    model = model or network()
    usual = {"clip_norm": 1.0, "schedule": "linear", "warmup_share": 0.1, "seed": 5, "log_every": 1, "checkpoint_every_s": every_s}
    config = LoopConfig(**{**usual, **settings})
    optimizer = adamw([{"params": list(model.parameters()), "lr": 0.01, "weight_decay": 0.0}], betas=(0.9, 0.99), epsilon=1e-8)
    sink = MemorySink()
    result = fit(
        model,
        batches or PointBatches(20),
        loss,
        optimizer=optimizer,
        precision=precision,
        config=config,
        sink=sink,
        checkpoints=CheckpointStore(directory),
        evaluate=None if evaluate is None else lambda: evaluate(model),
        identity=identity,
    )
    return Trained(model, result, sink.rows)
