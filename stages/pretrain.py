"""Train an encoder further on the text of the domain, or as a control on text of another one.

What an objective adds to the encoder and begins untrained is warmed up first, the encoder frozen. From there two models train for the
same steps on the same batches: the encoder with its heads, and as a control the heads alone. So "control" and "end" compare encoders
under equally trained heads.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from acclimate import artifacts
from acclimate.backbones.loading import load_backbone
from acclimate.backbones.saving import save_backbone
from acclimate.protocols import Group, State, Trained
from acclimate.runtime import require_disk, seed_everything, set_threads
from acclimate.settings import Options
from acclimate.sinks import MemorySink, Sink, TeeSink
from acclimate.training.checkpoints import CheckpointStore
from acclimate.training.distributed import join_world, leave_world
from acclimate.training.health import HealthConfig
from acclimate.training.loop import FitResult, LoopConfig, MakeOptimizer, fit
from acclimate.training.mixture import Mixture
from acclimate.training.options import EncoderConfig
from acclimate.training.precision import choose_matmul_precision, resolve_device, resolve_precision
from acclimate.training.pretraining import HEAD_OPTIMIZER, Pretraining, read_pretraining, require_fit
from acclimate.training.retaining import candidates
from acclimate.training.settings import loop_config
from acclimate.training.streams import Streams
from stages.command import Out, StageContext, main

_LOGS_PER_RUN = 60
logger = logging.getLogger("stages.pretrain")


class Params(Options):
    """What this stage reads."""

    uses_components: ClassVar[bool] = True

    seed: int
    pretrain: dict[str, Any]
    encoders: dict[str, EncoderConfig]


def run(params: Params, *, encoder_name: str, tokens: Path, start_from: Path, out: Out, context: StageContext) -> None:
    """Pretrain, beside the control.

    Args:
        encoder_name: its name under `encoders`.
        tokens: the packed corpus.
        start_from: directory of the encoder to continue.
        out: the trained encoder, its losses, those of the control and of what retention may keep, and their history.
    """
    config, device = params.encoders[encoder_name], resolve_device()
    require_fit(config, encoder_name, tokens, start_from)
    require_disk(out.parent, 8 * (start_from / "model.safetensors").stat().st_size)
    context.record.update(device=str(device), threads=set_threads(), float32_products=choose_matmul_precision(device))
    seed_everything(params.seed)
    world = join_world(device, sharding=context.train.launch.sharding, timeout_s=context.train.launch.timeout_s)
    backbone = load_backbone(start_from, dropout=config.dropout, attention=context.train.attention)
    backbone.prepare(compile=context.train.compile, activation_checkpointing=context.train.activation_checkpointing)
    precision = resolve_precision(config.precision, device)
    where = (config, encoder_name, tokens, start_from)
    job = read_pretraining(*where, pad_id=backbone.pad_id, seed=params.seed, precision=precision, world=world)
    model = job.build(backbone).to(device)
    if steps := job.warmup_steps(model):
        _train_heads(model, job, context, "head warm-up", steps, job.seed + 1)
    start_state, losses = _state(model), {"start": job.losses(model)}
    job.prepare(model)
    logger.info("start: %s", losses["start"])
    losses["control"] = _control(model, job, context) or losses["start"]
    logger.info("control: %s", losses["control"])
    history = MemorySink()
    history.log(0, losses["start"])
    result = _pretrain(model, job, context, history)
    leave_world()
    if not world.is_main:
        return
    end_state, losses["end"] = _state(model), job.losses(model)
    history.log(result.steps, losses["end"])
    context.sink.log(result.steps, losses["end"])
    save_backbone(backbone, start_from, out)
    by_candidate = {}
    for name, state in candidates(config.retention, start_state, end_state):
        model.load_state_dict(state)
        by_candidate[name] = job.losses(model)
        logger.info("candidate %s: %s", name, by_candidate[name])
    _write(out, losses, by_candidate, model, result, job, history, context)


def _state(model: Mixture) -> State:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def _loop(job: Pretraining, context: StageContext, steps: int, label: str, *, evaluate_every: int = 0) -> LoopConfig:
    config = job.config
    return loop_config(
        config.optimizer,
        config.health,
        context.train,
        watch="heldout_loss",
        maximize=False,
        seed=job.seed,
        log_every=math.ceil(steps / _LOGS_PER_RUN),
        evaluate_every=evaluate_every,
        checkpoint_every_s=config.checkpoint_every_s,
        label=label,
        trial=context.trial,
    )


def _train_heads(model: Mixture, job: Pretraining, context: StageContext, label: str, steps: int, seed: int) -> None:
    """Train what is no part of the backbone, the backbone frozen."""
    model.backbone.requires_grad_(False)
    loop = replace(_loop(job, context, steps, label), average="none", health=HealthConfig())
    batches = job.batches(steps, seed, heads_only=True)
    _fit(model, job, context, loop, MemorySink(), batches=batches, groups=job.head_groups, optimizer=HEAD_OPTIMIZER)
    model.backbone.requires_grad_(True)


def _control(model: Mixture, job: Pretraining, context: StageContext) -> dict[str, float] | None:
    """Losses of the start under heads that are trained for as many steps; None where no objective has heads."""
    if not model.own_parameters():
        return None
    control = copy.deepcopy(model)
    _train_heads(control, job, context, "control", job.steps, job.seed)
    return job.losses(control)


def _pretrain(model: Mixture, job: Pretraining, context: StageContext, history: MemorySink) -> FitResult:
    """Train encoder and heads."""
    loop = _loop(job, context, job.steps, "pretrain", evaluate_every=job.evaluate_every)
    result = _fit(
        model,
        job,
        context,
        loop,
        TeeSink([history, context.sink]),
        batches=job.batches(job.steps, job.seed),
        groups=lambda trained: trained.groups(job.rates),
        optimizer=job.optimizer(),
        evaluate=lambda: job.losses(model),
        counts_flops=True,
    )
    seconds = max(result.seconds, 1e-9)
    context.record.update(
        tokens_per_s=round(result.tokens / seconds, 1),
        resumed_from=result.resumed_from,
        stopped_early_at=result.stopped_early_at,
        data_wait_share=round(result.data_wait_s / seconds, 4),
        logging_share=round(result.logging_s / seconds, 5),
        checkpoint_share=round(result.saving_s / seconds, 4),
        processes=job.world.size,
        precision=job.precision.name,
        **{name: round(value, 4) for name, value in result.timing.items() if name in ("mfu", "memory_mb", "joules_per_token")},
    )
    return result


def _fit(
    model: Mixture,
    job: Pretraining,
    context: StageContext,
    loop: LoopConfig,
    sink: Sink,
    *,
    batches: Streams,
    groups: Callable[[Trained[Any]], list[Group]],
    optimizer: MakeOptimizer,
    **more: Any,
) -> FitResult:
    return fit(
        model,
        batches,
        groups=groups,
        optimizer=optimizer,
        precision=job.precision,
        config=loop,
        sink=sink,
        checkpoints=CheckpointStore(context.checkpoint_directory / loop.label.replace(" ", "-")),
        world=job.world,
        identity=context.identity,
        **more,
    )


def _write(
    out: Path,
    losses: dict[str, dict[str, float]],
    by_candidate: dict[str, dict[str, float]],
    model: Mixture,
    result: FitResult,
    job: Pretraining,
    history: MemorySink,
    context: StageContext,
) -> None:
    metrics: dict[str, Any] = {name: {when: found[name] for when, found in losses.items()} for name in losses["start"]}
    metrics |= {"tokens": result.steps * job.tokens_per_step, "steps": result.steps, "candidates": by_candidate, "members": model.card()}
    metrics |= {"spikes": result.spikes, "skipped_steps": result.skipped, "stopped_early_at": result.stopped_early_at}
    artifacts.write_json(out / "metrics.json", metrics)
    history.write_csv(out / "history.csv")
    history.write_series(out / "train_loss.csv", {"train/loss": "loss"})
    history.write_series(out / "heldout_loss.csv", {"heldout_loss": "domain", "general_loss": "general"})
    context.final_metrics.update({f"{name}/{when}": found[name] for when, found in losses.items() for name in found})
    context.artifacts += [out / "metrics.json", out / "history.csv"]


if __name__ == "__main__":
    main(run, Params, trains=True)
