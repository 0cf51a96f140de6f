"""What a run's checkpoint holds, and how it is gone on from."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from acclimate.errors import TrainingError
from acclimate.training.averaging import WeightAverage
from acclimate.training.distributed import World, gathered, split_as
from acclimate.training.health import Best, SpikeDetector
from acclimate.training.meter import Meter

_SHOWN_CHARS = 300
"""Of torch's list of every tensor that does not fit."""

logger = logging.getLogger(__name__)


@dataclass
class Parts:
    """Everything that the steps so far have changed."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    average: WeightAverage | None
    spikes: SpikeDetector
    best: Best
    meter: Meter
    world: World
    identity: dict[str, str]
    """Digests of what the run is made of; a checkpoint made of others is refused."""
    steps: int
    label: str = "train"
    """For log lines."""
    history: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    """What has been logged; logged again when the run goes on."""
    skipped: list[int] = field(default_factory=list)
    """Steps whose updates were taken back."""
    micro_batch_size: int | None = None
    """Rows computed at once; fewer than were asked for once memory has run out. Sums are taken in their order."""
    _snapshot: dict[str, Any] | None = None
    _num_rewinds: int = 0

    def state(self, step: int) -> dict[str, Any]:
        """A checkpoint after `step` steps, the same for any number of processes; every process must ask, the main one gets it whole."""
        state = {
            "step": step,
            "steps": self.steps,
            "identity": self.identity,
            "processes": self.world.size,
            **self._weights(),
            "scaler": self.scaler.state_dict(),
            "average": self.average.state_dict() if self.average else None,
            "spikes": self.spikes.state(),
            "best": self.best.state(),
            "meter": self.meter.state(self.world),
            "history": [[done, dict(metrics)] for done, metrics in self.history],
            "skipped": list(self.skipped),
            "micro_batch_size": self.micro_batch_size,
            "rewinds": self._num_rewinds,
            "snapshot": self._snapshot,
        }
        return {name: gathered(part, keep=self.world.is_main) for name, part in state.items()}

    def load(self, state: dict[str, Any] | None) -> int:
        """Go on from a checkpoint; gives the number of steps already done.

        Raises:
            TrainingError: it belongs to another run; the message says what differs.
        """
        if state is None:
            return 0
        found = state["identity"]
        differing = sorted(name for name in {*found, *self.identity} if found.get(name) != self.identity.get(name))
        if differing:
            shown = "; ".join(f"{name} was {found.get(name)}, is {self.identity.get(name)}" for name in differing)
            raise TrainingError(f"the checkpoint is of another run: {shown}. Remove it to begin anew")
        if state["steps"] != self.steps:
            raise TrainingError(f"checkpoint of a run of {state['steps']} steps cannot go on as one of {self.steps}")
        if state["processes"] != self.world.size:
            logger.warning(
                "the number of processes was %d at the checkpoint and is %d now: the same batches and steps, sums in another order",
                state["processes"],
                self.world.size,
            )
        try:
            self._load_weights(state)
        except (RuntimeError, ValueError, KeyError) as error:
            raise TrainingError(f"checkpoint is of another model: {' '.join(str(error).split())[:_SHOWN_CHARS]}") from None
        self.scaler.load_state_dict(state["scaler"])
        if self.average:
            if not state["average"]:
                raise TrainingError(f"checkpoint holds no average of the weights; this run wants {self.average.kind!r}")
            self.average.load_state_dict(state["average"])
        self.spikes.load(state["spikes"])
        self.best.load(state["best"])
        self.meter.load(state["meter"], self.world)
        self.history.extend((done, metrics) for done, metrics in state["history"])
        self.skipped, self._num_rewinds, self._snapshot = list(state["skipped"]), state["rewinds"], state["snapshot"]
        self.micro_batch_size = min((rows for rows in (self.micro_batch_size, state["micro_batch_size"]) if rows), default=None)
        logger.info("%s: resuming from step %d of %d", self.label, state["step"], self.steps)
        return int(state["step"])

    def snapshot_if_due(self, step: int) -> None:
        """Remember the weights before a step, where spikes are to be taken back."""
        health = self.spikes.config
        if health.on_spike == "rewind" and (self._snapshot is None or step >= self._snapshot["step"] + health.rewind_steps):
            average = self.average.state_dict() if self.average else None
            self._snapshot = {"step": step, **_copied({**self._weights(), "average": average})}

    def rewind(self, step: int) -> int:
        """Take back every update since the snapshot; gives its step.

        Raises:
            TrainingError: that happens too often.
        """
        assert self._snapshot is not None
        self._num_rewinds += 1
        if self._num_rewinds > self.spikes.config.max_rewinds:
            raise TrainingError(f"step {step}: the loss jumped {self._num_rewinds} times; lower the learning rate")
        before = _copied(self._snapshot)
        self._load_weights(before)
        if self.average:
            self.average.load_state_dict(before["average"])
        since = int(self._snapshot["step"])
        self.skipped += range(since, step + 1)
        return since

    def _weights(self) -> dict[str, Any]:
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}

    def _load_weights(self, state: dict[str, Any]) -> None:
        self.load_model(state["model"])
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        moments = {
            number: {
                name: split_as(value, parameters[number]) if isinstance(value, torch.Tensor) and value.ndim else value
                for name, value in of_parameter.items()
            }
            for number, of_parameter in state["optimizer"]["state"].items()
        }
        self.optimizer.load_state_dict({**state["optimizer"], "state": moments})

    def load_model(self, weights: dict[str, torch.Tensor]) -> None:
        """Give the model weights that every process holds whole, or its own part of."""
        own = self.model.state_dict()
        self.model.load_state_dict({name: split_as(tensor, own[name]) if name in own else tensor for name, tensor in weights.items()})


def _copied(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: _copied(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_copied(part) for part in value]
    return value
