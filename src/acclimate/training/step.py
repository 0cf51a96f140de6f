"""One optimizer step over a window of batches: micro-batches, the window's target count, clipping, and nothing that is not finite."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from acclimate.errors import EnvironmentUnfitError, TrainingError
from acclimate.training.batches import to_device
from acclimate.training.distributed import World, gradient_scale, is_split, whole, without_sync
from acclimate.training.precision import Precision

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


class StepRunner:
    """Runs steps.

    On a CPU every step is checked before its update; on a GPU nothing is waited for: the first step that is not finite sets a
    flag on the device that turns it and all that follow into steps without effect, and the next log line finds the flag.
    """

    def __init__(
        self,
        objective: nn.Module,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
        precision: Precision,
        world: World,
        config: StepConfig,
        *,
        micro_rows: int | None = None,
    ) -> None:
        self._objective, self._optimizer, self._scaler, self._precision, self._world = objective, optimizer, scaler, precision, world
        self._seed, self._clip_norm, self._label = config.seed, config.clip_norm, config.label
        self.micro_rows = micro_rows
        """Rows computed at once; None is a whole batch."""
        self._trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        self._device = self._trained[0].device
        self._latch: Tensor | None = None
        """(step + 1, loss, norm) of the first step that was not finite, else zeros."""
        if self._device.type == "cuda" and not scaler.is_enabled():
            self._latch = torch.zeros(3, dtype=torch.float64, device=self._device)

    def run(self, step: int, window: Sequence[Any], *, before_update: Callable[[int, Callable[[], float]], bool]) -> tuple[Tensor, Tensor]:
        """Compute one step and update the weights.

        Each micro-batch's loss sum is divided by the target count of the whole window, so 4 x 8 rows equal 1 x 32 also when
        rows hold unequal numbers of targets.

        Args:
            window: whole batches on the host; this process computes its share of each.
            before_update: asked with the step and its loss; False leaves the weights as they are.
        Returns:
            This process's part of the mean loss, and the gradient norm before clipping; both on the device.

        Raises:
            TrainingError: nothing to predict in the window.
            NonFinite: the loss or a gradient is not.
            EnvironmentUnfitError: a single row does not fit into memory.
        """
        num_targets = sum(batch.num_targets for batch in window)
        if num_targets == 0:
            raise TrainingError(f"{self._label}: step {step}: no target in the whole batch")
        total = self._gradients_in_memory(step, window, num_targets)
        self._scaler.unscale_(self._optimizer)
        norm = gradient_norm(self._trained)
        self._clip(norm)
        if self._is_fit_to_update(step, total, norm) and before_update(step, lambda: float(self._world.sum(total.clone()))):
            self._scaler.step(self._optimizer)
        self._scaler.update()  # also where there was no update: it refuses to unscale twice without
        self._optimizer.zero_grad(set_to_none=True)
        return total, norm

    def _gradients_in_memory(self, step: int, window: Sequence[Any], num_targets: int) -> Tensor:
        """The window's gradients; where memory runs out, again with micro-batches of half the rows."""
        while True:
            try:
                return self._gradients(step, window, num_targets)
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
            rows = min(self.micro_rows or 1 << 62, max(self._rows_here(batch) for batch in window))
            if self._world.size > 1:  # the others wait for this one's gradients
                raise EnvironmentUnfitError(
                    f"{self._label}: step {step}: out of memory with {rows} rows at once; "
                    f"set train.micro_rows to {max(1, rows // 2)} (it is found by itself with one process only)"
                )
            if rows <= 1:
                raise EnvironmentUnfitError(f"{self._label}: step {step}: one row does not fit into memory; lower the tokens of a row")
            self.micro_rows = -(-rows // 2)
            logger.warning("%s: step %d: out of memory; from here on %d rows at once", self._label, step, self.micro_rows)
            self._optimizer.zero_grad(set_to_none=True)
            if self._device.type == "cuda":
                torch.cuda.empty_cache()

    def _gradients(self, step: int, window: Sequence[Any], num_targets: int) -> Tensor:
        torch.manual_seed((self._seed * 1_000_003 + step * self._world.size + self._world.rank) % 2**63)
        total = torch.zeros((), device=self._device)
        parts = list(self._parts(window))
        for index, (part, counts) in enumerate(parts):
            with without_sync(self._objective, last=index == len(parts) - 1):
                with self._precision.autocast():
                    loss = self._objective(to_device(part, self._device)) / (num_targets if counts else math.inf)
                self._scaler.scale(loss * gradient_scale(self._world)).backward()
            total += loss.detach()
        return total

    def _clip(self, norm: Tensor) -> None:
        """Shorten the gradient to the norm allowed; where the optimizer can divide by a factor as it reads, in no pass of its own."""
        if self._scaler.is_enabled() or is_split(self._trained[0]):  # the scaler sets the factor itself, and it would have to be split
            nn.utils.clip_grads_with_norm_(self._trained, self._clip_norm, norm)
            return
        factor = (norm / self._clip_norm).clamp_min(1.0)
        is_long = self._device.type != "cpu" or not float(factor) <= 1.0
        self._optimizer.grad_scale = factor if is_long else None  # type: ignore[attr-defined]

    def _rows_here(self, batch: Any) -> int:
        """Rows of a batch that a process computes, at most."""
        return -(-int(batch.num_rows) // self._world.size)

    def _parts(self, window: Sequence[Any]) -> Iterator[tuple[Any, bool]]:
        """This process's rows of each batch, at most `micro_rows` at once, and whether they count.

        Every process has equally many parts, since split parameters are gathered for each; one that has no row of its own left
        computes another's, which does not count.
        """
        for batch in window:
            start, stop = self._world.share(batch.num_rows)
            rows = self.micro_rows or self._rows_here(batch)
            for number in range(-(-self._rows_here(batch) // rows)):
                at = start + number * rows
                end = min(stop, at + rows)
                if at >= end:
                    yield batch.part(0, 1), False
                else:
                    yield (batch if (at, end) == (0, batch.num_rows) else batch.part(at, end)), True

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
