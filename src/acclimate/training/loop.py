"""The one training loop, used by pretraining and fine-tuning."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import torch
from torch import nn
from tqdm import tqdm

from acclimate.errors import EnvironmentUnfitError, TrainingError
from acclimate.protocols import Group, Trained
from acclimate.runtime import StoppedError, StopRequest
from acclimate.sinks import Sink
from acclimate.training import resume
from acclimate.training.averaging import WeightAverage
from acclimate.training.checkpoints import CheckpointStore
from acclimate.training.distributed import World, collect, sharded_copy, whole
from acclimate.training.health import Best, HealthConfig, SpikeDetector
from acclimate.training.host_memory import keep_freed_memory
from acclimate.training.meter import Meter, best_gemm_rate
from acclimate.training.optimizers import optimizer_groups
from acclimate.training.precision import Precision
from acclimate.training.prefetch import windows
from acclimate.training.schedules import learning_rate_factor
from acclimate.training.step import NonFinite, StepRunner, is_out_of_memory
from acclimate.training.streams import Windows

_TELL_EVERY_S = 15.0
"""How often a line is logged where there is no terminal to draw a bar in."""
SAVING_SHARE = 0.02
"""Checkpoints that take long are made less often, so that they cost no more than this share of the time."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoopConfig:
    """What the loop itself needs to know."""

    clip_norm: float
    schedule: str
    warmup_share: float
    seed: int
    schedule_options: Mapping[str, Any] = field(default_factory=dict)
    average: Literal["none", "ema", "tail"] = "none"
    ema_decay: float = 0.999
    tail_share: float = 0.2
    log_every: int = 10
    evaluate_every: int = 0
    checkpoint_every_s: float = 30.0
    health: HealthConfig = field(default_factory=HealthConfig)
    micro_batch_size: int | None = None
    """Rows computed at once; None begins with a whole batch. Halved when memory runs out; the sum over a step stays the same."""
    label: str = "train"
    trial: TakesSteps | None = None
    """Take a few of the steps only, and tell it what all of them take."""


@dataclass
class FitResult:
    """How a fit went. `tokens` and `seconds` cover the part run by this process."""

    steps: int
    resumed_from: int
    stopped_early_at: int | None = None
    best_step: int | None = None
    tokens: int = 0
    seconds: float = 0.0
    data_wait_s: float = 0.0
    logging_s: float = 0.0
    saving_s: float = 0.0
    spikes: list[int] = field(default_factory=list)
    skipped: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    timing: dict[str, float] = field(default_factory=dict)
    """Of the last log line: tokens/s, memory, share of waiting, MFU."""


class TakesSteps(Windows, Sink, Protocol):
    """Stands for a fit's batches and sink, and has the loop take a few of its steps; see trial.py."""

    def begin(self, batches: Windows, config: LoopConfig, world: World, device: torch.device) -> LoopConfig:
        """Choose the steps; gives the settings to take them with."""

    def end(self, result: FitResult, micro_batch_size: int | None) -> None:
        """Learn how they went."""


MakeOptimizer = Callable[[list[dict[str, Any]]], torch.optim.Optimizer]
"""An optimizer over groups of `params`, `lr` and `weight_decay`."""


def fit(
    trained: Trained[Any],
    batches: Windows,
    *,
    groups: Callable[[Trained[Any]], list[Group]],
    optimizer: MakeOptimizer,
    precision: Precision,
    config: LoopConfig,
    sink: Sink,
    checkpoints: CheckpointStore,
    evaluate: Callable[[], dict[str, float]] | None = None,
    world: World | None = None,
    identity: Mapping[str, str] | None = None,
    counts_flops: bool = False,
) -> FitResult:
    """Train for `batches.steps` optimizer steps, resuming from the newest checkpoint if there is one.

    Batches, masks and dropout depend on the seed and the batch's number alone, so a resumed run repeats the undisturbed one exactly.

    Args:
        groups: what is trained and how fast, of the model that the loop trains: `trained`, or a copy that is split over the processes.
        evaluate: scores of `trained` as it is; called every `config.evaluate_every` steps.
        world: the other processes of this run.
        identity: digests of what the run is made of; a checkpoint with others is refused.
        counts_flops: log MFU, by the model's own count.

    Raises:
        TrainingError: the loss or a gradient is not finite (nothing was updated since), or the checkpoint does not fit.
        StoppedError: SIGINT or SIGTERM arrived; a checkpoint has been saved.
        EnvironmentUnfitError: memory is too small, also for a single row.
    """
    world = world or World()
    if trial := config.trial:
        config = trial.begin(batches, config, world, next(trained.parameters()).device)
        batches = sink = trial
    gates = _Gated(sharded_copy(trained, world), groups, optimizer)
    run = _Run(trained, gates, batches, precision, config, sink, checkpoints, evaluate, world, identity or {}, counts_flops)
    try:
        result = run.go()
    except RuntimeError as error:  # in the optimizer or an evaluation: fewer rows at once would not help
        if not is_out_of_memory(error):
            raise
        raise EnvironmentUnfitError(
            f"{config.label}: step {run.at_step}: out of memory beside the gradients; the next run resumes from the last checkpoint. "
            "Free memory, train fewer weights (lora), or split them over processes (train.launch.sharding: fsdp)"
        ) from None
    if trial:
        trial.end(result, run.steps.micro_batch_size)
    return result


class _Gated:
    """The model that the loop trains, its optimizer, and the gate of each of the optimizer's groups."""

    def __init__(self, model: Trained[Any], groups: Callable[[Trained[Any]], list[Group]], optimizer: MakeOptimizer) -> None:
        self.model, self.groups = model, groups(model)
        grouped = {id(parameter) for group in self.groups for parameter in group.parameters}
        left_out = [name for name, each in model.named_parameters() if each.requires_grad and id(each) not in grouped]
        assert not left_out, f"trainable, and in no group: {', '.join(left_out)}"
        found = optimizer_groups(self.groups)
        self.optimizer = optimizer([options for options, _ in found])
        self._gates = [gate for _, gate in found]

    @property
    def parameters(self) -> list[nn.Parameter]:
        """What the optimizer trains."""
        return [parameter for group in self.groups for parameter in group.parameters]

    def set_rates(self, step: int, steps: int, config: LoopConfig) -> float:
        """Give each group its rate of a step; gives that of the first."""
        factor = learning_rate_factor(
            step,
            steps=steps,
            warmup_steps=round(config.warmup_share * steps),
            schedule=config.schedule,  # type: ignore[arg-type]
            **config.schedule_options,
        )
        for group, gate in zip(self.optimizer.param_groups, self._gates, strict=True):
            group["lr"] = group["peak_lr"] * factor * (1.0 if gate is None else gate(step, steps))
        return float(self.optimizer.param_groups[0]["peak_lr"] * factor)


@dataclass
class _Run:
    """The state of one fit."""

    whole: Trained[Any]
    """What is evaluated and left behind; with split parameters another one than the loop trains."""
    gated: _Gated
    batches: Windows
    precision: Precision
    config: LoopConfig
    sink: Sink
    checkpoints: CheckpointStore
    evaluate: Callable[[], dict[str, float]] | None
    world: World
    identity: Mapping[str, str]
    counts_flops: bool
    save_took_s: float = 0.0
    waited_s: float = 0.0
    rate: float = 0.0
    at_step: int = 0

    def __post_init__(self) -> None:
        config, total = self.config, self.batches.steps
        self.model, self.optimizer = self.gated.model, self.gated.optimizer
        self.device = next(self.model.parameters()).device
        self._refuse_idle_processes()
        keep_freed_memory()
        scaler = self.precision.grad_scaler()
        self.average = None
        if config.average != "none":
            options = {"ema_decay": config.ema_decay, "tail_share": config.tail_share}
            self.average = WeightAverage(self.model, self.gated.parameters, kind=config.average, steps=total, **options)
        self.spikes, self.best = SpikeDetector(config.health), Best(config.health)
        peak = best_gemm_rate(self.device.type, self.precision.dtype) * self.world.size if self.counts_flops else None
        self.meter = Meter(self.device, peak)
        watched = (self.spikes, self.best, self.meter)
        self.parts = resume.Parts(self.model, self.optimizer, scaler, self.average, *watched, self.world, dict(self.identity), total)
        self.parts.micro_batch_size, self.parts.label = config.micro_batch_size, config.label
        self.first = self._resume()
        self.result = FitResult(steps=total, resumed_from=self.first)
        at_once = self.parts.micro_batch_size
        made = (self.model, self.gated.groups, self.optimizer, scaler, self.precision, self.world, config)
        self.steps = StepRunner(*made, steps=total, micro_batch_size=at_once)
        self.saved_at = self.told_at = time.monotonic()

    def _refuse_idle_processes(self) -> None:
        """An epoch's last batch may be small; two steps without a batch for all are those of a wrong setting."""
        if self.world.size == 1:
            return
        works = [work for step in range(min(2, self.batches.steps)) for work in self.batches.window(step)]
        undivided = sorted({work.stream for work in works if not work.divisible})
        if undivided:
            raise TrainingError(
                f"{self.config.label}: the rows of a batch of {', '.join(undivided)} need each other, and {self.world.size} processes "
                "would part them; set train.launch.processes to 1"
            )
        most = max(work.batch.num_rows for work in works)
        if most < self.world.size:
            raise TrainingError(
                f"{self.config.label}: {self.world.size} processes share batches of {most} rows; raise batch_size or lower train.launch"
            )

    def _resume(self) -> int:
        state = self.checkpoints.load_newest()
        found = 0 if state is None else int(state["step"])
        newest, missing = self.world.max(found, -found)
        if newest != -missing:
            raise TrainingError(
                f"{self.config.label}: one process finds the checkpoint of step {newest}, another that of step {-missing}; "
                "the project's directory must be the same on every node"
            )
        return self.parts.load(state)

    def go(self) -> FitResult:
        for step, metrics in self.parts.history:
            self.sink.log(step, metrics)
        started, total = time.monotonic(), self.batches.steps
        self.model.train()
        with (
            StopRequest() as stop,
            tqdm(
                total=total,
                initial=self.first,
                desc=self.config.label,
                unit="step",
                mininterval=1.0,
                disable=None if self.world.is_main else True,
            ) as bar,
        ):
            for step, window in self._windows():
                self._step(step, window)
                bar.update()
                done = step + 1
                if done % self.config.log_every == 0 or done == total:
                    self._log(done, window, bar)
                self._evaluate_now(done)
                hopeless = self.best.is_hopeless
                signal_number, saving = self.world.max(stop.signal_number or 0, int(self._save_is_due(done) or hopeless))
                if signal_number or saving:
                    self._save(done, must=signal_number > 0)
                if signal_number:
                    self.world.wait()  # a launcher gives those still running after one has ended little time
                    raise StoppedError(signal_number, f"step {done} of {total} is saved")
                if hopeless:
                    self.result.stopped_early_at = done
                    break
        return self._finish(started)

    def _windows(self) -> Any:
        """Step numbers with their batches; the time of getting them is counted as waiting."""
        if self.best.is_hopeless:  # killed between stopping early and the end
            self.result.stopped_early_at = self.first
            return
        source = windows(self.batches, range(self.first, self.batches.steps), self.device)
        while True:
            asked = time.monotonic()
            try:
                item = next(source)
            except StopIteration:
                return
            self.waited_s = time.monotonic() - asked
            self.result.data_wait_s += self.waited_s
            yield item

    def _step(self, step: int, window: Any) -> None:
        self.at_step = step
        self.rate = self.gated.set_rates(step, self.batches.steps, self.config)
        self.parts.snapshot_if_due(step)
        tokens = sum(work.batch.num_tokens for work in window)
        try:
            found = self.steps.run(step, window, before_update=self._accepts)
        except NonFinite as error:
            self._refuse(error)
        if self.average and self.parts.skipped[-1:] != [step]:
            self.average.update(self.model, step)
        self.result.tokens += tokens
        self.meter.add(found, tokens=tokens, wait_s=self.waited_s)

    def _accepts(self, step: int, loss: Callable[[], float]) -> bool:
        """Whether a step's update is made: with on_spike `rewind`, not that of a spike."""
        if self.config.health.on_spike != "rewind" or not self.spikes.is_spike(step, loss()):
            return True
        since = self.parts.rewind(step)
        logger.warning("%s: step %d: loss %.3f is a spike; back to the weights of step %d", self.config.label, step, loss(), since)
        return False

    def _check_latch(self) -> None:
        try:
            self.steps.raise_if_latched()
        except NonFinite as error:
            self._refuse(error)

    def _refuse(self, error: NonFinite) -> None:
        by_stream = self.batches.rows(error.step)
        shown = "; ".join(
            (f"{name}: " if len(by_stream) > 1 else "")
            + ", ".join(map(str, rows[:8]))
            + (f", ... ({len(rows)} in all)" if len(rows) > 8 else "")
            for name, rows in by_stream.items()
        )
        raise TrainingError(
            f"{self.config.label}: step {error.step}: loss {error.loss:g}, gradient norm {error.norm:g}; nothing was updated. "
            f"Its batch: rows {shown}. Lower the learning rate or check these rows"
        ) from None

    def _log(self, done: int, window: Any, bar: Any) -> None:
        started = time.monotonic()
        self._check_latch()
        losses = self.meter.losses(self.world)
        if self.config.health.on_spike == "mark":
            first = done - len(losses["loss"])
            for offset, loss in enumerate(losses["loss"].tolist()):
                if self.spikes.is_spike(first + offset, loss):
                    logger.warning("%s: step %d: loss %.3f is a spike", self.config.label, first + offset, loss)
        metrics = {**self.meter.metrics(losses), "lr": self.rate}
        if self.spikes.spikes:
            metrics["spikes"] = float(len(self.spikes.spikes))
        batches = [work.batch for work in window]
        timing = self.meter.timing(self.model.flops_per_token(batches) if self.counts_flops else None)
        self.sink.log(done, metrics, timing=timing)
        self.parts.history.append((done, metrics))
        self.result.timing = timing
        bar.set_postfix(loss=f"{metrics['train/loss']:.3f}")
        if bar.disable and self.world.is_main and time.monotonic() - self.told_at > _TELL_EVERY_S:
            shown = (self.config.label, done, self.batches.steps, metrics["train/loss"], timing["tokens_per_s"])
            logger.info("%s: step %d of %d, loss %.3f, %.0f tokens/s", *shown)
            self.told_at = time.monotonic()
        self.meter.restart()
        self.result.logging_s += time.monotonic() - started

    def _evaluate_now(self, done: int) -> None:
        """Score the model where that is due; with patience, keep the best weights."""
        config, health = self.config, self.config.health
        is_last = done == self.batches.steps
        due = config.evaluate_every and (done % config.evaluate_every == 0 or (is_last and health.patience))
        if not (self.evaluate and due and (not is_last or health.patience)):
            return
        with torch.no_grad(), self.average.applied_to(self.model) if self.average else nullcontext():
            collect(self.model, self.whole)
            self.whole.eval()
            scores = self._scored(done)
        self.model.train()
        self.sink.log(done, scores)
        self.parts.history.append((done, scores))
        self.meter.restart_clock()

    def _scored(self, done: int) -> dict[str, float]:
        assert self.evaluate is not None
        scores: dict[str, float] = self.world.from_main(self.evaluate())
        health = self.config.health
        if health.patience:
            if health.watch not in scores:
                raise TrainingError(f"{self.config.label}: nothing called {health.watch!r} is measured; it measures {', '.join(scores)}")
            if self.best.better(scores[health.watch]):
                self.best.score, self.best.step = scores[health.watch], done
                self.best.weights = {name: whole(tensor).detach().cpu().clone() for name, tensor in self.model.state_dict().items()}
        return scores

    def _save_is_due(self, done: int) -> bool:
        wanted_s = max(self.config.checkpoint_every_s, self.save_took_s / SAVING_SHARE)
        return self.world.is_main and (time.monotonic() - self.saved_at > wanted_s or done == self.batches.steps)

    def _save(self, done: int, *, must: bool) -> None:
        """Save a checkpoint; where that fails and nothing forces it now, training goes on and the next one is tried."""
        started = time.monotonic()
        self._check_latch()
        self.parts.micro_batch_size = self.steps.micro_batch_size
        try:
            state = self.parts.state(done)
            if self.world.is_main:
                self.checkpoints.save(done, state)
        except EnvironmentUnfitError as error:
            if must:
                raise
            logger.warning("%s; training goes on without it", error)
        self.saved_at = time.monotonic()
        self.save_took_s = self.saved_at - started
        self.result.saving_s += self.save_took_s

    def _finish(self, started: float) -> FitResult:
        if self.best.weights is not None and self.config.health.patience:
            self.parts.load_model(self.best.weights)
            self.result.best_step = self.best.step
        elif self.average:
            self.average.copy_to(self.model)
        collect(self.model, self.whole)
        self.result.seconds = time.monotonic() - started
        self.result.losses = [metrics["train/loss"] for _, metrics in self.parts.history if "train/loss" in metrics]
        self.result.spikes, self.result.skipped = list(self.spikes.spikes), list(self.parts.skipped)
        self.whole.eval()
        self.world.wait()
        return self.result
