"""Parameter groups, and the optimizers: AdamW and StableAdamW."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from acclimate.errors import TrainingError
from acclimate.protocols import Gate, Group
from acclimate.training.distributed import is_split, local

if TYPE_CHECKING:
    from acclimate.training.options import OptimizerName


def optimizer_groups(groups: Iterable[Group]) -> list[tuple[dict[str, Any], Gate | None]]:
    """Groups as an optimizer takes them, each with its gate.

    Matrices and embeddings decay; norms and biases (fewer than two dimensions) do not.

    Raises:
        TrainingError: nothing is trained, or a parameter is in two groups.
    """
    found: list[tuple[dict[str, Any], Gate | None]] = []
    for group in groups:
        decayed = [parameter for parameter in group.parameters if parameter.ndim >= 2]
        plain = [parameter for parameter in group.parameters if parameter.ndim < 2]
        for members, decay in ((decayed, group.weight_decay), (plain, 0.0)):
            if members:
                found.append(({"params": members, "lr": group.learning_rate, "weight_decay": decay}, group.gate))
    parameters = [id(parameter) for options, _ in found for parameter in options["params"]]
    if not parameters or len(set(parameters)) < len(parameters):
        raise TrainingError("no parameter is trained" if not parameters else "a parameter is in two groups")
    return found


def make_optimizer(
    name: OptimizerName, groups: Sequence[dict[str, Any]], *, betas: tuple[float, float], epsilon: float
) -> torch.optim.Optimizer:
    """The optimizer called `name` over `groups`; each group holds its rate also as `peak_lr`, which the schedule scales.

    Each skips a step on the device, without waiting for it, where its attribute `found_inf` is a tensor other than 0.
    """
    if name == "adamw":
        return adamw(groups, betas=betas, epsilon=epsilon)
    optimizer = StableAdamW(groups, betas=betas, epsilon=epsilon)
    _keep_peak_rates(optimizer)
    return optimizer


def adamw(groups: Sequence[dict[str, Any]], *, betas: tuple[float, float], epsilon: float) -> torch.optim.AdamW:
    """Fused AdamW (Loshchilov and Hutter 2019, https://arxiv.org/abs/1711.05101)."""
    optimizer = torch.optim.AdamW(list(groups), betas=betas, eps=epsilon, fused=True)
    _keep_peak_rates(optimizer)
    return optimizer


def _keep_peak_rates(optimizer: torch.optim.Optimizer) -> None:
    for group in optimizer.param_groups:
        group["peak_lr"] = group["lr"]


@dataclass(frozen=True)
class _Tensors:
    """What one call works on: an entry of each list for each tensor, of split tensors the part that lies here.

    The last two hold nothing yet and are written over.
    """

    whole: list[Tensor]
    """The parameters with the shapes of the model."""
    parameters: list[Tensor]
    gradients: list[Tensor]
    means: list[Tensor]
    squares: list[Tensor]
    steps: list[Tensor]
    directions: list[Tensor]
    scratch: list[Tensor]


class StableAdamW(torch.optim.Optimizer):
    """AdamW with Adafactor's update clipping, which tames the loss spikes that a stale second moment makes.

    `theta -= lr * factor * (m_hat / (sqrt(v_hat) + epsilon) + weight_decay * theta)`. The factor of a tensor is 1 / max(1, RMS); RMS is
    the root mean square of g / max(sqrt(v_hat), epsilon) (Wortsman et al. 2023, algorithm 2, https://arxiv.org/abs/2304.13013; Shazeer
    and Stern 2018, https://arxiv.org/abs/1804.04235). Where no RMS exceeds 1 it is AdamW.

    Nothing waits for the device: step counts, norms and factors stay tensors there. `found_inf` and `grad_scale` are heeded as
    torch's fused optimizers do, which `GradScaler.step` relies on: a step whose `found_inf` is not 0 leaves parameters and state
    as they are, whatever the gradients hold. A group's parameters stand on one device.
    """

    _step_supports_amp_scaling = True  # GradScaler sets the two attributes below, where else it would read found_inf on the host
    found_inf: Tensor | None
    grad_scale: Tensor | None
    _buffer: Tensor | None = None

    def __init__(self, groups: Iterable[dict[str, Any]], *, betas: tuple[float, float], epsilon: float) -> None:
        # `capturable` makes load_state_dict put the step counts on the parameters' device.
        super().__init__(list(groups), {"lr": 1e-3, "weight_decay": 0.0, "betas": betas, "eps": epsilon, "capturable": True})

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update the parameters once; gives what `closure`, which computes the gradients anew, returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        with torch.no_grad():
            for group in self.param_groups:
                parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
                for chunk in _chunks(parameters):
                    self._update(group, chunk)
        return loss

    def _update(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        found_inf = getattr(self, "found_inf", None)
        good = None if found_inf is None else (found_inf == 0).reshape(())
        tensors = self._tensors(parameters, good)
        correction = _advance(tensors, group["betas"], group["eps"], good)
        if group["weight_decay"]:
            torch._foreach_add_(tensors.directions, tensors.parameters, alpha=group["weight_decay"])
        rates = _factors(tensors, correction, group["eps"]) * _where(good, -group["lr"], 0.0)
        torch._foreach_addcmul_(tensors.parameters, tensors.directions, rates.unbind())

    def _tensors(self, parameters: list[Tensor], good: Tensor | None) -> _Tensors:
        states = [self._state(parameter) for parameter in parameters]
        means, squares, steps = ([local(state[name]) for state in states] for name in ("exp_avg", "exp_avg_sq", "step"))
        here = [local(parameter) for parameter in parameters]
        directions, scratch = self._space(here)
        return _Tensors(parameters, here, self._gradients(parameters, good), means, squares, steps, directions, scratch)

    def _gradients(self, parameters: list[Tensor], good: Tensor | None) -> list[Tensor]:
        """The unscaled gradients; those of a step to skip become -0.0, which added to a number leaves every bit of it."""
        gradients = [local(parameter.grad) for parameter in parameters if parameter.grad is not None]
        grad_scale = getattr(self, "grad_scale", None)
        if grad_scale is not None:
            gradients = list(torch._foreach_mul(gradients, grad_scale.reshape(()).reciprocal()))
        if good is not None:
            gradients = [torch.where(good, gradient, -0.0) for gradient in gradients]
        return gradients

    def _state(self, parameter: Tensor) -> dict[str, Tensor]:
        state: dict[str, Tensor] = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
            state["exp_avg"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
            state["exp_avg_sq"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
        return state

    def _space(self, parameters: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Room for two tensors of each shape; for a single one on a CPU the same pages at each step."""
        first = parameters[0]
        if len(parameters) > 1 or first.device.type != "cpu":
            return [torch.empty_like(parameter) for parameter in parameters], [torch.empty_like(parameter) for parameter in parameters]
        size = first.numel()
        if self._buffer is None or self._buffer.dtype != first.dtype or self._buffer.shape[1] < size:
            self._buffer = torch.empty(2, size, dtype=first.dtype)
        directions, scratch = (row[:size].view(first.shape) for row in self._buffer)
        return [directions], [scratch]


def _chunks(parameters: list[Tensor]) -> Iterator[list[Tensor]]:
    """All that stand on a GPU at once; on a CPU one by one.

    There nothing is gained by more, and fresh memory for all is dear: StableAdamW took 442 ms for a step of 22.6 M parameters on
    one core, and takes 112 ms with one room for two tensors of the largest shape.
    """
    if parameters and parameters[0].device.type != "cpu":
        yield parameters
    else:
        yield from ([parameter] for parameter in parameters)


def _advance(tensors: _Tensors, betas: tuple[float, float], epsilon: float, good: Tensor | None) -> Tensor:
    """Advance the moments and write `m_hat / (sqrt(v_hat) + epsilon)` to `directions`; gives the bias correction of v.

    In a step to skip the moments decay by 1 and gain 0; the count, which stays, is still taken as one more, lest 0 / 0 arise.
    """
    beta1, beta2 = betas
    torch._foreach_mul_(tensors.means, _where(good, beta1, 1.0))
    torch._foreach_add_(tensors.means, tensors.gradients, alpha=1.0 - beta1)
    torch._foreach_mul_(tensors.squares, _where(good, beta2, 1.0))
    torch._foreach_addcmul_(tensors.squares, tensors.gradients, tensors.gradients, value=1.0 - beta2)
    counts = torch.stack(tensors.steps) + 1.0
    torch._foreach_add_(tensors.steps, 1.0 if good is None else [good.float()] * len(tensors.steps))  # one tensor alone would be read
    # 1 - beta**count; in float32 the plain form would lose four digits at beta 0.999
    correction1, correction2 = (-torch.expm1(counts * math.log(beta)) for beta in betas)
    _corrected_roots(tensors, correction2)
    torch._foreach_add_(tensors.scratch, epsilon)
    torch._foreach_copy_(tensors.directions, tensors.means)
    torch._foreach_div_(tensors.directions, tensors.scratch)
    torch._foreach_mul_(tensors.directions, correction1.reciprocal().unbind())
    return correction2


def _corrected_roots(tensors: _Tensors, correction: Tensor) -> None:
    """Write sqrt(v_hat) to `scratch`."""
    torch._foreach_copy_(tensors.scratch, tensors.squares)
    torch._foreach_sqrt_(tensors.scratch)
    torch._foreach_mul_(tensors.scratch, correction.rsqrt().unbind())


def _factors(tensors: _Tensors, correction: Tensor, epsilon: float) -> Tensor:
    """What the rate of each tensor is multiplied by, shape (tensors,); v_hat is `squares` over `correction`."""
    _corrected_roots(tensors, correction)
    torch._foreach_clamp_min_(tensors.scratch, epsilon)
    torch._foreach_reciprocal_(tensors.scratch)
    torch._foreach_mul_(tensors.scratch, tensors.gradients)
    norms = _norms(tensors.scratch, tensors.whole)
    sizes = [max(1, parameter.numel()) for parameter in tensors.whole]
    rms = torch.stack(torch._foreach_mul(norms, [size**-0.5 for size in sizes]))
    return rms.clamp(min=1.0).reciprocal()


def _norms(tensors: list[Tensor], whole: list[Tensor]) -> list[Tensor]:
    """The norm of each tensor, over all of its parts where it is split."""
    norms = list(torch._foreach_norm(tensors))
    if not is_split(whole[0]):
        return norms
    squares = torch.stack(norms).square()
    torch.distributed.all_reduce(squares, group=whole[0].device_mesh.get_group())  # type: ignore[attr-defined]
    return list(squares.sqrt().unbind())


def _where(good: Tensor | None, value: float, otherwise: float) -> Any:
    """`value`, or where the step is to be skipped `otherwise`, chosen on the device."""
    return value if good is None else torch.where(good, value, otherwise)
