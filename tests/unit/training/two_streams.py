"""A method that does all that a method may: two streams, several losses, a queue, a slow copy, a gate, a penalty, dropout."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor, nn

from acclimate.protocols import Batch, Gate, Group, Losses, Rates, Trained, keyed_generator
from acclimate.training.streams import Work

NEAR_ROWS, FAR_ROWS = 12, 6
PULL = 0.1


@dataclass(frozen=True)
class Pairs(Batch):
    inputs: Tensor
    targets: Tensor
    terms: Tensor
    """How many terms the second loss of `far` has in each row."""
    stream: str

    @property
    def num_tokens(self) -> int:
        return len(self.inputs)

    def counts(self) -> dict[str, int]:
        return {"near": len(self.inputs)} if self.stream == "near" else {"far": len(self.inputs), "far_size": int(self.terms.sum())}


@dataclass(frozen=True)
class TwoStreams:
    """Twelve rows a step of one stream and twice six of the other."""

    steps: int
    names: tuple[str, ...] = ("near", "far")
    far_batches: int = 2
    far_divisible: bool = True

    def window(self, step: int) -> list[Work]:
        found = []
        for name in self.names:
            count, rows = (1, NEAR_ROWS) if name == "near" else (self.far_batches, FAR_ROWS)
            for index in range(step * count, (step + 1) * count):
                generator = keyed_generator(len(name), index)
                inputs, targets = torch.randn(rows, 4, generator=generator), torch.randn(rows, 1, generator=generator)
                terms = torch.randint(0, 4, (rows,), generator=generator)
                found.append(Work(name, index, Pairs(inputs, targets, terms, name), name == "near" or self.far_divisible))
        return found

    def rows(self, step: int) -> dict[str, list[int]]:
        return {name: [step] for name in self.names}


@dataclass
class Seen:
    """What a run did, in order."""

    events: list[tuple[object, ...]] = field(default_factory=list)
    outputs: dict[tuple[str, int], list[Tensor]] = field(default_factory=dict)
    """Of each forward, by stream and step."""


class Method(Trained[Pairs]):
    """Args:
    gate: of the body; None leaves it open.
    before_forward: called with the rows of each.
    """

    queue: Tensor

    def __init__(self, *, dropout: float = 0.0, gate: Gate | None = None, before_forward: Callable[[int], None] | None = None) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.weights = {"near": 1.0, "far": 0.5, "far_size": 0.25, "pull": PULL}
        self.body = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Dropout(dropout))
        self.near, self.far = nn.Linear(6, 1), nn.Linear(6, 1)
        self.slow = nn.Linear(4, 6).requires_grad_(False)
        self.register_buffer("queue", torch.zeros(24, 1))
        self.start = nn.Parameter(torch.full((6, 4), 0.2), requires_grad=False)  # a buffer would stay whole where weights are split
        self.seen, self._gate, self._before_forward = Seen(), gate, before_forward
        self._answers: list[Tensor] = []
        self._step = 0

    def forward(self, batch: Pairs, stream: str) -> Losses:
        self.seen.events.append((stream, batch.num_rows))
        if self._before_forward:
            self._before_forward(batch.num_rows)
        hidden = self.body(batch.inputs) + 0.1 * self.slow(batch.inputs)
        answers = (self.near if stream == "near" else self.far)(hidden)
        self.seen.outputs.setdefault((stream, self._step), []).append(answers.detach().clone())
        errors = (answers - batch.targets) ** 2
        if stream == "far":
            return {"far": errors.sum(), "far_size": (batch.terms[:, None] * answers**2).sum()}
        self._answers.append(answers.detach().clone())
        return {"near": errors.sum() + 0.01 * (errors * self.queue.mean()).sum()}

    def groups(self, rates: Rates) -> list[Group]:
        return [
            Group(list(self.body.parameters()), rates.learning_rate, 0.01, self._gate),
            Group([*self.near.parameters(), *self.far.parameters()], rates.head_learning_rate),
        ]

    def penalty(self) -> Losses:
        self.seen.events.append(("penalty",))
        return {"pull": ((self.body[0].weight - self.start) ** 2).sum()}

    def before_step(self, step: int) -> None:
        self.seen.events.append(("before_step", step))
        self._answers, self._step = [], step
        self.seen.outputs = {key: outputs for key, outputs in self.seen.outputs.items() if key[1] != step}

    def after_update(self, step: int) -> None:
        self.seen.events.append(("after_update", step))
        with torch.no_grad():
            self.queue.copy_(torch.cat([self.queue, of_all_processes(torch.cat(self._answers))])[-len(self.queue) :])
            self.slow.weight.lerp_(self.body[0].weight, 0.1)

    def kept(self) -> nn.Module:
        return self.body


def of_all_processes(rows: Tensor) -> Tensor:
    """Rows of every process, in the order of the batch, so that each keeps the same."""
    if not dist.is_initialized():
        return rows
    found = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
    dist.all_gather(found, rows)
    return torch.cat(found)


class PassByPass(Method):
    """Goes backward from a ready number besides its losses."""

    def passes(self, batch: Pairs, stream: str, call: Callable[[Pairs, str], Losses]) -> Iterator[Losses | Tensor]:
        yield call(batch, stream)
        yield (self.near.weight**2).sum() * len(batch.inputs)


def half_frozen(step: int, steps: int) -> float:
    """Closed, then open at half the rate, then closed again."""
    return 0.5 if 3 <= step < 6 else 0.0
