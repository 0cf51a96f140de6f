"""One optimizer step: micro-batches of every stream, the step's target counts, penalties, clipping, and nothing that is not finite."""

from __future__ import annotations

import logging
import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from acclimate.errors import EnvironmentUnfitError, TrainingError
from acclimate.protocols import Group, Losses, Trained, keyed_seed
from acclimate.training.distributed import World, gradient_scale, is_split, sum_gradients, whole
from acclimate.training.precision import Precision
from acclimate.training.streams import Work

_DROPOUT = zlib.crc32(b"dropout")
"""Keeps its random numbers from being those that a batch was drawn with."""

logger = logging.getLogger(__name__)


class NonFinite(Exception):  # noqa: N818  it is caught by the loop, which names the rows
    """A loss or gradient that is not finite; nothing was updated since."""

    def __init__(self, step: int, loss: float, norm: float) -> None:
        super().__init__(step, loss, norm)
        self.step, self.loss, self.norm = step, loss, norm


class StepConfig(Protocol):
    """What a step needs to know."""

    @property
    def seed(self) -> int:
        """Of dropout."""

    @property
    def clip_norm(self) -> float:
        """Longest gradient."""

    @property
    def label(self) -> str:
        """For messages."""


@dataclass(frozen=True)
class StepResult:
    """What a step found, on the device."""

    loss: Tensor
    """This process's part of the weighted sum of mean losses."""
    parts: Losses
    """This process's part of each mean loss, not weighted."""
    norm: Tensor
    """The gradient norm before clipping."""


class StepRunner:
    """Runs steps.

    On a CPU every step is checked before its update; on a GPU nothing is waited for: the first step that is not finite sets a
    flag on the device that turns it and all that follow into steps without effect, and the next log line finds the flag.
    """

    def __init__(
        self,
        trained: Trained[Any],
        groups: Sequence[Group],
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
        precision: Precision,
        world: World,
        config: StepConfig,
        *,
        steps: int,
        micro_batch_size: int | None = None,
    ) -> None:
        self._trained, self._groups, self._optimizer, self._scaler, self._precision = trained, groups, optimizer, scaler, precision
        self._world, self._steps, self._seed, self._clip_norm, self._label = world, steps, config.seed, config.clip_norm, config.label
        self.micro_batch_size = micro_batch_size
        """Rows computed at once; None is a whole batch."""
        self._parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        self._device = self._parameters[0].device
        self._latch: Tensor | None = None
        """(step + 1, loss, norm) of the first step that was not finite, else zeros."""
        if self._device.type == "cuda" and not scaler.is_enabled():
            self._latch = torch.zeros(3, dtype=torch.float64, device=self._device)

    def run(self, step: int, window: Sequence[Work], *, before_update: Callable[[int, Callable[[], float]], bool]) -> StepResult:
        """Compute one step and update the weights.

        Each loss's sum over a micro-batch is divided by its count over the whole window, so 4 x 8 rows equal 1 x 32 also when
        rows hold unequal numbers of targets.

        Args:
            window: whole batches on the host; this process computes its share of each.
            before_update: asked with the step and its loss; False leaves the weights as they are.

        Raises:
            TrainingError: nothing to predict in the window.
            NonFinite: the loss or a gradient is not.
            EnvironmentUnfitError: a single row does not fit into memory.
        """
        counts = _counts(window)
        if not any(counts.values()):
            raise TrainingError(f"{self._label}: step {step}: no target in the whole batch")
        frozen = self._open_gates(step)
        total, parts = self._gradients_in_memory(step, window, counts)
        sum_gradients(self._parameters, self._world)
        for parameter in frozen:
            parameter.grad = None
        self._scaler.unscale_(self._optimizer)
        penalties = self._add_penalties()
        for parameter in frozen:  # split ones, which gradients reach
            parameter.grad = None
        norm = gradient_norm(self._parameters)
        self._clip(norm)
        if self._is_fit_to_update(step, total, norm) and before_update(step, lambda: float(self._world.sum(total.clone()))):
            self._scaler.step(self._optimizer)
            self._trained.after_update(step)
        self._scaler.update()  # also where there was no update: it refuses to unscale twice without
        self._optimizer.zero_grad(set_to_none=True)
        return StepResult(total, {**parts, **penalties}, norm)

    def _open_gates(self, step: int) -> list[nn.Parameter]:
        """Freeze and thaw groups; gives the parameters that are frozen in this step."""
        frozen: list[nn.Parameter] = []
        for group in self._groups:
            if group.gate is None:
                continue
            is_open = group.gate(step, self._steps) > 0
            frozen += [] if is_open else group.parameters
            for parameter in group.parameters:
                if not is_split(parameter):  # a split one fixes that when it is gathered first
                    parameter.requires_grad_(is_open)
        return frozen

    def _gradients_in_memory(self, step: int, window: Sequence[Work], counts: dict[str, int]) -> tuple[Tensor, Losses]:
        """The window's gradients; where memory runs out, again with micro-batches of half the rows."""
        while True:
            self._trained.before_step(step)
            try:
                return self._gradients(window, counts)
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
            self._optimizer.zero_grad(set_to_none=True)
            rows = max((self._rows_at_once(work) for work in window if work.divisible), default=0)
            if not rows:
                shown = max(self._rows_here(work) for work in window)
                raise EnvironmentUnfitError(
                    f"{self._label}: step {step}: out of memory with {shown} rows, which need each other and cannot be parted; "
                    "lower batch_size"
                )
            if self._world.size > 1:  # the others wait for this one's gradients
                raise EnvironmentUnfitError(
                    f"{self._label}: step {step}: out of memory with {rows} rows at once; "
                    f"set train.micro_batch_size to {max(1, rows // 2)} (it is found by itself with one process only)"
                )
            if rows <= 1:
                raise EnvironmentUnfitError(f"{self._label}: step {step}: one row does not fit into memory; lower the tokens of a row")
            self.micro_batch_size = -(-rows // 2)
            logger.warning("%s: step %d: out of memory; from here on %d rows at once", self._label, step, self.micro_batch_size)
            if self._device.type == "cuda":
                torch.cuda.empty_cache()

    def _gradients(self, window: Sequence[Work], counts: dict[str, int]) -> tuple[Tensor, Losses]:
        total, parts = torch.zeros((), device=self._device), dict[str, Tensor]()
        scale = gradient_scale(self._world)
        for work, first_row, is_counted in self._micro_batches(window):
            torch.manual_seed(keyed_seed(self._seed, zlib.crc32(work.stream.encode()), work.index, first_row, _DROPOUT))
            passes = self._trained.passes(work.batch.to(self._device), work.stream, self._call)
            for found in passes:
                loss = found if isinstance(found, Tensor) else self._weighed(found, counts, parts, is_counted)
                if not loss.requires_grad:  # an objective without heads, while heads train alone
                    total += loss.detach() if is_counted else 0.0
                    continue
                factor = scale if is_counted else 0.0
                self._scaler.scale(loss if factor == 1.0 else loss * factor).backward()  # type: ignore[no-untyped-call]
                if is_counted:
                    total += loss.detach()
        return total, parts

    def _call(self, batch: Any, stream: str) -> Losses:
        with self._precision.autocast():
            losses: Losses = self._trained(batch, stream)
        return losses

    def _weighed(self, losses: Losses, counts: dict[str, int], parts: Losses, is_counted: bool) -> Tensor:
        """The weighted sum of the losses, each divided by its count over the step."""
        means = {name: loss / max(1, counts[name]) for name, loss in losses.items()}
        if is_counted:
            for name, mean in means.items():
                parts[name] = parts[name] + mean.detach() if name in parts else mean.detach()
        weights = self._trained.weights
        weighed = [mean * weights[name] if weights.get(name, 1.0) != 1.0 else mean for name, mean in means.items()]
        return weighed[0] if len(weighed) == 1 else torch.stack(weighed).sum()

    def _add_penalties(self) -> Losses:
        """Add the gradients of what the weights themselves cost, once a step."""
        penalties = self._trained.penalty()
        for name, penalty in penalties.items():
            if not penalty.requires_grad:  # all that it is of is frozen
                continue
            (self._trained.weights.get(name, 1.0) * penalty).backward()  # type: ignore[no-untyped-call]
        return {name: whole(penalty.detach()) / self._world.size for name, penalty in penalties.items()}

    def _clip(self, norm: Tensor) -> None:
        """Shorten the gradient to the norm allowed; where the optimizer can divide by a factor as it reads, in no pass of its own."""
        if self._scaler.is_enabled() or is_split(self._parameters[0]):  # the scaler sets the factor itself, and it would have to be split
            nn.utils.clip_grads_with_norm_(self._parameters, self._clip_norm, norm)
            return
        factor = (norm / self._clip_norm).clamp_min(1.0)
        is_long = self._device.type != "cpu" or not float(factor) <= 1.0
        self._optimizer.grad_scale = factor if is_long else None  # type: ignore[attr-defined]

    def _rows_here(self, work: Work) -> int:
        """Rows of a batch that a process computes, at most."""
        return -(-work.batch.num_rows // self._world.size)

    def _rows_at_once(self, work: Work) -> int:
        """Rows of a batch that a process computes at once."""
        rows = self._rows_here(work)
        return min(self.micro_batch_size or rows, rows) if work.divisible else rows

    def _micro_batches(self, window: Sequence[Work]) -> Iterator[tuple[Work, int, bool]]:
        """This process's rows of each batch, at most `micro_batch_size` at once, the number of the first, and whether they count.

        Every process has equally many, since split parameters are gathered for each; one that has no row of its own left
        computes another's, which does not count.
        """
        for work in window:
            start, stop = self._world.share(work.batch.num_rows)
            rows = self._rows_at_once(work)
            for number in range(-(-self._rows_here(work) // rows)):
                at = start + number * rows
                end = min(stop, at + rows)
                if at >= end:
                    yield work.part(0, 1), 0, False
                else:
                    yield (work if (at, end) == (0, work.batch.num_rows) else work.part(at, end)), at, True

    def _is_fit_to_update(self, step: int, total: Tensor, norm: Tensor) -> bool:
        if self._latch is not None:
            bad = ~torch.isfinite(norm + (total if self._world.size == 1 else 0.0))
            now = torch.stack([norm.new_tensor(step + 1.0, dtype=torch.float64), total.double(), norm.double()])
            self._latch = torch.where(bad & (self._latch[0] == 0), now, self._latch)
            self._optimizer.found_inf = (self._latch[0] > 0).float()  # type: ignore[attr-defined]
            return True
        norm_value = float(norm)
        if math.isfinite(norm_value) and (self._world.size > 1 or math.isfinite(float(total))):
            return True
        loss_value = float(self._world.sum(total.clone()))  # the norm is that of all processes, so all come here
        if self._scaler.is_enabled() and math.isfinite(loss_value):
            return True  # the scaler passes over the step and lowers its factor
        self._optimizer.zero_grad(set_to_none=True)
        raise NonFinite(step, loss_value, norm_value)

    def raise_if_latched(self) -> None:
        """Wait for the device and tell of the first step that was not finite.

        Raises:
            NonFinite: there was one; neither it nor a later one changed a weight.
        """
        if self._latch is not None:
            number, _, norm = self._latch.tolist()
            if number:  # in every process, as the norm is that of all
                raise NonFinite(int(number) - 1, float(self._world.sum(self._latch[1].clone())), norm)


def _counts(window: Sequence[Work]) -> dict[str, int]:
    """How many terms each loss sums over the window."""
    counts: dict[str, int] = {}
    for work in window:
        for name, count in work.batch.counts().items():
            counts[name] = counts.get(name, 0) + count
    return counts


def gradient_norm(parameters: Sequence[Tensor]) -> Tensor:
    """The norm of all gradients together, over every process's part.

    On a CPU rows come first: summed in one go, the squares of an embedding's 11.7 M float32 gradients gave a norm that was wrong
    by 4e-4, and another one for each number of processes.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if gradients and gradients[0].device.type == "cpu":
        gradients = [torch.linalg.vector_norm(gradient, dim=-1) if gradient.ndim > 1 else gradient for gradient in gradients]
    return whole(nn.utils.get_total_norm(gradients)).detach()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on a GPU or on the host."""
    return isinstance(error, torch.OutOfMemoryError) or "not enough memory" in str(error) or "can't allocate memory" in str(error)
