"""The one training loop, used by pretraining and fine-tuning."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from tqdm import tqdm

from acclimate.errors import TrainingError
from acclimate.runtime import StoppedError, StopRequest
from acclimate.sinks import Sink
from acclimate.training.batches import BatchSource
from acclimate.training.checkpoints import CheckpointStore
from acclimate.training.precision import Precision
from acclimate.training.schedules import learning_rate_factor

LossFunction = Callable[[nn.Module, Any], Tensor]
"""(model, micro-batch) -> the SUM of the loss over the micro-batch's targets."""

_TELL_EVERY_S = 15.0
"""How often a line is logged where there is no terminal to draw a bar in."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoopConfig:
    """What the loop itself needs to know."""

    clip_norm: float
    schedule: Literal["linear", "cosine", "constant"]
    warmup_share: float
    seed: int
    log_every: int = 10
    evaluate_every: int = 0
    checkpoint_every_s: float = 30.0
    label: str = "train"


@dataclass
class FitResult:
    """How a fit went. `tokens` and `seconds` cover the part run by this process."""

    steps: int
    resumed_from: int
    tokens: int = 0
    seconds: float = 0.0
    data_wait_s: float = 0.0
    losses: list[float] = field(default_factory=list)


def fit(
    model: nn.Module,
    batches: BatchSource,
    loss_fn: LossFunction,
    *,
    optimizer: torch.optim.Optimizer,
    precision: Precision,
    config: LoopConfig,
    sink: Sink,
    checkpoints: CheckpointStore,
    evaluate: Callable[[], dict[str, float]] | None = None,
) -> FitResult:
    """Train for `batches.steps` optimizer steps, going on from the newest checkpoint if there is one.

    Batches, masks and dropout depend on (seed, step) alone, so a resumed run repeats the undisturbed one exactly.

    Raises:
        TrainingError: the loss or a gradient is not finite (before the optimizer step), or the checkpoint does not fit.
        StoppedError: SIGINT or SIGTERM arrived; a checkpoint has been saved.
    """
    scaler = precision.grad_scaler()
    history: list[tuple[int, dict[str, float]]] = []
    first = _resume(checkpoints.load_newest(), model, optimizer, scaler, history, batches.steps)
    for step, metrics in history:
        sink.log(step, metrics)
    result = FitResult(steps=batches.steps, resumed_from=first)
    window = _LogWindow()
    started = saved_at = told_at = time.monotonic()
    model.train()
    with (
        StopRequest() as stop,
        tqdm(total=batches.steps, initial=first, desc=config.label, unit="step", mininterval=1.0, disable=None) as bar,
    ):
        for step in range(first, batches.steps):
            fetched = time.monotonic()
            micro_batches = [batch.to(_device(model)) for batch in batches.window(step)]
            result.data_wait_s += time.monotonic() - fetched
            rate = _set_learning_rate(optimizer, step, batches.steps, config)
            loss, norm = train_step(model, micro_batches, loss_fn, optimizer, scaler, precision, config, step)
            tokens = sum(batch.num_tokens for batch in micro_batches)
            result.tokens += tokens
            window.add(loss, norm, tokens)
            bar.update()
            done = step + 1
            if done % config.log_every == 0 or done == batches.steps:
                metrics = {**window.averages(), "lr": rate}
                sink.log(done, metrics, timing={"tokens_per_s": window.tokens_per_second()})
                history.append((done, metrics))
                bar.set_postfix(loss=f"{metrics['train/loss']:.3f}")
                if bar.disable and time.monotonic() - told_at > _TELL_EVERY_S:
                    logger.info(
                        "%s: step %d of %d, loss %.3f, %.0f tokens/s",
                        config.label,
                        done,
                        batches.steps,
                        metrics["train/loss"],
                        window.tokens_per_second(),
                    )
                    told_at = time.monotonic()
                window = _LogWindow()
            if evaluate and config.evaluate_every and done % config.evaluate_every == 0 and done < batches.steps:
                scores = _evaluate(model, evaluate)
                sink.log(done, scores)
                history.append((done, scores))
            if stop or time.monotonic() - saved_at > config.checkpoint_every_s or done == batches.steps:
                checkpoints.save(done, _state(done, batches.steps, model, optimizer, scaler, history))
                saved_at = time.monotonic()
            if stop:
                raise StoppedError(stop.signal_number or 0, f"step {done} of {batches.steps} is saved")
    result.seconds = time.monotonic() - started
    result.losses = [metrics["train/loss"] for _, metrics in history if "train/loss" in metrics]
    model.eval()
    return result


def train_step(
    model: nn.Module,
    micro_batches: Sequence[Any],
    loss_fn: LossFunction,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    precision: Precision,
    config: LoopConfig,
    step: int,
) -> tuple[float, float]:
    """One optimizer step over a window of micro-batches; gives the mean loss and the gradient norm before clipping.

    Each micro-batch's loss sum is divided by the target count of the whole window, so 4 x 8 rows equal 1 x 32 also when
    rows hold unequal numbers of targets.

    Raises:
        TrainingError: nothing to predict in the window, or a loss or gradient that is not finite.
    """
    num_targets = sum(batch.num_targets for batch in micro_batches)
    if num_targets == 0:
        raise TrainingError(f"{config.label}: step {step}: no target in the whole batch")
    torch.manual_seed((config.seed * 1_000_003 + step) % 2**63)
    total = 0.0
    for batch in micro_batches:
        with precision.autocast():
            loss = loss_fn(model, batch) / num_targets
        scaler.scale(loss).backward()
        total += float(loss.detach())
    scaler.unscale_(optimizer)
    norm = float(nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], config.clip_norm))
    if not math.isfinite(total) or (not math.isfinite(norm) and not scaler.is_enabled()):
        raise TrainingError(
            f"{config.label}: step {step}: loss {total:g}, gradient norm {norm:g}; nothing was updated. "
            "Lower the learning rate or check the data"
        )
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad(set_to_none=True)
    return total, norm


class _LogWindow:
    """Sums between two log lines."""

    def __init__(self) -> None:
        self._losses: list[float] = []
        self._norms: list[float] = []
        self._tokens = 0
        self._started = time.monotonic()

    def add(self, loss: float, norm: float, tokens: int) -> None:
        self._losses.append(loss)
        self._norms.append(norm)
        self._tokens += tokens

    def averages(self) -> dict[str, float]:
        return {"train/loss": sum(self._losses) / len(self._losses), "grad_norm": sum(self._norms) / len(self._norms)}

    def tokens_per_second(self) -> float:
        return self._tokens / max(1e-9, time.monotonic() - self._started)


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def _evaluate(model: nn.Module, evaluate: Callable[[], dict[str, float]]) -> dict[str, float]:
    model.eval()
    with torch.no_grad():
        scores = evaluate()
    model.train()
    return scores


def _set_learning_rate(optimizer: torch.optim.Optimizer, step: int, steps: int, config: LoopConfig) -> float:
    factor = learning_rate_factor(step, steps=steps, warmup_steps=round(config.warmup_share * steps), schedule=config.schedule)
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor
    return float(optimizer.param_groups[0]["lr"])


def _state(
    step: int,
    steps: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    history: list[tuple[int, dict[str, float]]],
) -> dict[str, Any]:
    return {
        "step": step,
        "steps": steps,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scaler": scaler.state_dict(),
        "history": [[done, dict(metrics)] for done, metrics in history],
    }


def _resume(
    state: dict[str, Any] | None,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    history: list[tuple[int, dict[str, float]]],
    steps: int,
) -> int:
    """Load a checkpoint; gives the number of steps already done."""
    if state is None:
        return 0
    if state["steps"] != steps:
        raise TrainingError(f"checkpoint of a run of {state['steps']} steps cannot go on as one of {steps}")
    try:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    except (RuntimeError, ValueError) as error:
        raise TrainingError(f"checkpoint is of another model: {error}") from None
    scaler.load_state_dict(state["scaler"])
    history.extend((done, metrics) for done, metrics in state["history"])
    logger.info("going on from step %d of %d", state["step"], steps)
    return int(state["step"])
