"""Averages of the weights along a run: exponential, or the mean of its tail."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from acclimate.errors import TrainingError
from acclimate.training.distributed import local, split_as


class WeightAverage:
    """An average of what an optimizer trains of a model, kept in float32 beside it.

    - `ema`: average += (1 - d) (weights - average), with d = min(`ema_decay`, (1 + n) / (10 + n)) after n updates, so that the
      first weights are soon forgotten (Tarvainen and Valpola 2017, https://arxiv.org/abs/1703.01780; the warm-up of d is that of
      TensorFlow's ExponentialMovingAverage).
    - `tail`: the mean of the weights after each of the last `tail_share` of the steps (stochastic weight averaging, Izmailov et al.
      2018, https://arxiv.org/abs/1803.05407; at every step as in LAWA, Kaddour 2022, https://arxiv.org/abs/2209.14981).

    Buffers and frozen parameters are left as they are: there is nothing to average in the former for encoders with layer norm.
    Nothing waits for the device, and the average depends on the weights and the step alone, so a resumed run repeats it exactly.

    How to call it: make it when the model is on its device, of what the optimizer trains; `load_state_dict` where a checkpoint is
    gone on from; `update(model, step)` after each optimizer step, `step` counted from 0; `state_dict()` into each checkpoint;
    `with average.applied_to(model)` around an evaluation; `copy_to(model)` after the last step.
    """

    def __init__(
        self,
        model: nn.Module,
        parameters: Iterable[nn.Parameter],
        *,
        kind: Literal["ema", "tail"],
        steps: int,
        ema_decay: float = 0.999,
        tail_share: float = 0.2,
    ) -> None:
        self.kind = kind
        self._ema_decay = ema_decay
        self._first_step = steps - max(1, round(tail_share * steps)) if kind == "tail" else 0
        self._num_updates = 0
        trained = set(map(id, parameters))
        self._average = {name: each.detach().float().clone() for name, each in model.named_parameters() if id(each) in trained}

    def update(self, model: nn.Module, step: int) -> None:
        """Take in the weights as they are after optimizer step `step`, counted from 0; before a tail begins, nothing happens."""
        if step < self._first_step:
            return
        n = self._num_updates
        weight = 1.0 / (n + 1) if self.kind == "tail" else 1.0 - min(self._ema_decay, (1 + n) / (10 + n))
        torch._foreach_lerp_(self._here(), [weights.float() for weights in self._weights(model)], weight)
        self._num_updates += 1

    def copy_to(self, model: nn.Module) -> None:
        """Give the model the average; one whose tail has not begun keeps its weights."""
        if self._num_updates:
            torch._foreach_copy_(self._weights(model), self._here())

    @contextmanager
    def applied_to(self, model: nn.Module) -> Iterator[None]:
        """The model has the average inside, and the very weights that it had before afterwards."""
        weights = self._weights(model)
        before = [tensor.clone() for tensor in weights]
        self.copy_to(model)
        try:
            yield
        finally:
            torch._foreach_copy_(weights, before)

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` needs to go on to the same bits."""
        return {"kind": self.kind, "num_updates": self._num_updates, "average": dict(self._average)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict()`.

        Raises:
            TrainingError: it is of another kind of average or of another model.
        """
        if state["kind"] != self.kind:
            raise TrainingError(f"checkpoint holds an average of the kind {state['kind']!r}; this run wants {self.kind!r}")
        saved: dict[str, Tensor] = state["average"]
        shapes, wanted = ({name: tensor.shape for name, tensor in average.items()} for average in (saved, self._average))
        if shapes != wanted:
            unlike = sorted(name for name in shapes.keys() | wanted.keys() if shapes.get(name) != wanted.get(name))
            raise TrainingError(f"checkpoint holds an average of other parameters: {', '.join(unlike[:3])} ({len(unlike)} in all)")
        torch._foreach_copy_(self._here(), [local(split_as(saved[name], mine)) for name, mine in self._average.items()])
        self._num_updates = int(state["num_updates"])

    def _weights(self, model: nn.Module) -> list[Tensor]:
        """The averaged parameters in the order of the average, sharing the model's memory; of split ones the part that lies here."""
        parameters = dict(model.named_parameters())
        return [local(parameters[name].detach()) for name in self._average]

    def _here(self) -> list[Tensor]:
        return [local(average) for average in self._average.values()]
