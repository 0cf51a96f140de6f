"""A network of some dozen weights and a run of it, which the tests of the loop disturb."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from acclimate.protocols import Batch, Losses, Rates, Trained, keyed_generator
from acclimate.sinks import MemorySink
from acclimate.training.checkpoints import CheckpointStore
from acclimate.training.distributed import World
from acclimate.training.loop import FitResult, LoopConfig, MakeOptimizer, fit
from acclimate.training.optimizers import adamw
from acclimate.training.precision import Precision
from acclimate.training.streams import Windows, Work

FP32 = Precision("fp32", "cpu")
ADAMW = partial(adamw, betas=(0.9, 0.99), epsilon=1e-8)
ROWS = 12


@dataclass(frozen=True)
class Points(Batch):
    inputs: Tensor
    targets: Tensor
    num_tokens: int = 1  # type: ignore[assignment]

    def counts(self) -> dict[str, int]:
        return {"toy": len(self.inputs)}


@dataclass(frozen=True)
class PointBatches:
    """Twelve rows a step, whole or in three unequal batches; `outliers` are steps whose targets are a hundred times as large."""

    steps: int
    parts: int = 1
    outliers: tuple[int, ...] = ()
    divisible: bool = True

    def window(self, step: int) -> list[Work]:
        generator = keyed_generator(3, step)
        inputs, targets = torch.randn(ROWS, 4, generator=generator), torch.randn(ROWS, 1, generator=generator)
        targets = targets * 100 if step in self.outliers else targets
        bounds = [0, ROWS] if self.parts == 1 else [0, 1, 4, ROWS]
        return [
            Work("toy", step * self.parts + part, Points(inputs[a:b], targets[a:b]), self.divisible)
            for part, (a, b) in enumerate(pairwise(bounds))
        ]

    def rows(self, step: int) -> dict[str, list[int]]:
        return {"toy": list(range(ROWS * step, ROWS * step + ROWS))}


class Toy(Trained[Points]):
    """A network and a loss."""

    weights = {"toy": 1.0}

    def __init__(self, model: nn.Module, loss: Callable[..., Tensor]) -> None:
        super().__init__()
        self.model, self._loss = model, loss

    def forward(self, batch: Points, stream: str) -> Losses:
        return {"toy": self._loss(self.model, batch)}

    def kept(self) -> nn.Module:
        return self.model


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
class Run:
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
    **settings: Any,
) -> Run:
    """Train a network for 20 steps with dropout; `settings` are those of `run`."""
    model = model or network()
    scores = None if evaluate is None else lambda: evaluate(model)
    result, rows = run(directory, Toy(model, loss), batches or PointBatches(20), evaluate=scores, **settings)
    return Run(model, result, rows)


def run(
    directory: Path,
    trained: Trained[Any],
    batches: Windows,
    *,
    optimizer: MakeOptimizer = ADAMW,
    evaluate: Callable[[], dict[str, float]] | None = None,
    identity: dict[str, str] | None = None,
    precision: Precision = FP32,
    every_s: float = 1e9,
    world: World | None = None,
    **settings: Any,
) -> tuple[FitResult, list[dict[str, float]]]:
    """A fit, and what it logged.

    Args:
        every_s: seconds between checkpoints; by default there is but the one at the end. 0 saves after every step.
        settings: of LoopConfig.
    """
    usual = {"clip_norm": 1.0, "schedule": "linear", "warmup_share": 0.1, "seed": 5, "log_every": 1, "checkpoint_every_s": every_s}
    config = LoopConfig(**{**usual, **settings})
    sink = MemorySink()
    result = fit(
        trained,
        batches,
        groups=lambda split: split.groups(Rates(0.01, 0.01, 0.0)),
        optimizer=optimizer,
        precision=precision,
        config=config,
        sink=sink,
        checkpoints=CheckpointStore(directory),
        evaluate=evaluate,
        world=world,
        identity=identity,
    )
    return result, sink.rows
