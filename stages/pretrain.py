"""Continue masked-language modelling on the domain, and keep a share of the base model.

The head is warmed up on a frozen encoder first, so that base and adapted are compared with an equally warm head.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from acclimate import artifacts, kinds, plugins
from acclimate.data.options import TaskConfig
from acclimate.models.backbone import save_encoder
from acclimate.models.mlm_head import MlmModel
from acclimate.runtime import require_disk, seed_everything, set_threads
from acclimate.settings import Section
from acclimate.sinks import MemorySink, TeeSink
from acclimate.training.checkpoints import CheckpointStore
from acclimate.training.distributed import collect, join_world, leave_world, sharded_copy
from acclimate.training.health import HealthConfig
from acclimate.training.loop import FitResult, LoopConfig, fit
from acclimate.training.meter import shape_of, squared_lengths
from acclimate.training.options import PretrainConfig
from acclimate.training.precision import choose_matmul_precision, resolve_device, resolve_precision
from acclimate.training.pretraining import Pretraining, read_mlm_model, read_pretraining
from acclimate.training.settings import loop_config, prepare_model
from stages.command import Out, StageContext, main

_LOGS_PER_RUN = 60
logger = logging.getLogger("stages.pretrain")


class Params(Section):
    """What this stage reads."""

    seed: int
    pretrain: PretrainConfig
    tasks: dict[str, TaskConfig]


def run(params: Params, *, tokens: Path, encoder: Path, table: Path, out: Out, adapted: Out, context: StageContext) -> None:
    """Warm the head up, pretrain, choose the share of adapted weights, and write both outs."""
    config, device = params.pretrain, resolve_device()
    require_disk(out.parent, 8 * (encoder / "model.safetensors").stat().st_size)
    context.record.update(device=str(device), threads=set_threads(), float32_products=choose_matmul_precision(device))
    seed_everything(params.seed)
    world = join_world(device, sharding=context.train.launch.sharding, timeout_s=context.train.launch.timeout_s)
    job = read_pretraining(config, tokens, encoder, seed=params.seed, precision=resolve_precision(config.precision, device), world=world)
    model = read_mlm_model(config, tokens, encoder, attention=context.train.attention).to(device)
    _warm_up_head(model, job, context)
    base_state, base_losses = _state(model), job.losses(model)
    logger.info("before: %s", base_losses)
    history = MemorySink()
    history.log(0, base_losses)
    result = _pretrain(model, job, context, history)
    leave_world()
    if not world.is_main:
        return
    last_state, last_losses = _state(model), job.losses(model)
    history.log(result.steps, last_losses)
    context.sink.log(result.steps, last_losses)
    retention = _choose_share(model, base_state, last_state, job, params, table, encoder)
    save_encoder(model.encoder, encoder, adapted)
    _write(out, adapted, retention, base_losses, last_losses, result, job, history, context)


def _state(model: MlmModel) -> dict[str, Tensor]:
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


def _warm_up_head(model: MlmModel, job: Pretraining, context: StageContext) -> None:
    """Train a made head alone, the encoder frozen; one that came with the encoder needs none."""
    steps = job.warmup_steps(model)
    if not steps:
        return
    model.encoder.requires_grad_(False)
    loop = replace(_loop(job, context, steps, "head warm-up"), average="none", health=HealthConfig())
    fit(
        model,
        job.batches(steps, job.seed + 1),
        job.loss,
        optimizer=job.head_optimizer(model),
        precision=job.precision,
        config=loop,
        sink=MemorySink(),
        checkpoints=CheckpointStore(context.checkpoint_directory / "head"),
        world=replace(job.world, sharding="ddp"),
        identity=context.identity,
    )
    model.encoder.requires_grad_(True)


def _pretrain(model: MlmModel, job: Pretraining, context: StageContext, history: MemorySink) -> FitResult:
    """Train encoder and head."""
    trained = sharded_copy(model, job.world, entry_points=("summed_loss",))
    prepare_model(trained, context.train, method="features")
    result = fit(
        trained,
        job.batches(job.steps, job.seed),
        job.loss,
        optimizer=job.optimizer(trained),
        precision=job.precision,
        config=_loop(job, context, job.steps, "pretrain", evaluate_every=job.evaluate_every),
        sink=TeeSink([history, context.sink]),
        checkpoints=CheckpointStore(context.checkpoint_directory / "main"),
        evaluate=lambda: job.losses(trained),
        world=job.world,
        identity=context.identity,
        flops_per_token=_flops_counter(model),
    )
    collect(trained, model)
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


def _flops_counter(model: MlmModel) -> Callable[[Sequence[Any]], float]:
    shape = shape_of(model.encoder.config)

    def count(window: Sequence[Any]) -> float:
        tokens = sum(batch.num_tokens for batch in window)
        squares = sum(squared_lengths(batch.segments_BT) for batch in window)
        targets = sum(batch.num_targets for batch in window)
        return shape.flops_per_token(squared_lengths_per_token=squares / tokens, target_share=targets / tokens)

    return count


def _choose_share(
    model: MlmModel, base: dict[str, Tensor], last: dict[str, Tensor], job: Pretraining, params: Params, table: Path, encoder: Path
) -> dict[str, Any]:
    """Try each share of the adapted weights on dev data; the model keeps the best."""
    retention = job.config.retention
    method = plugins.load("retention", retention.method)
    options = plugins.configure(
        "retention", retention.method, retention.options.get(retention.method, {}), where=f"pretrain.retention.options.{retention.method}"
    )
    score = None
    if retention.criterion == "probe":
        from acclimate.evaluation.probes import dev_scorer

        score = dev_scorer(table, encoder, params.tasks[retention.task], precision=job.precision)
    candidates: list[dict[str, Any]] = []
    for share in [0.0, *method.candidates(options)]:
        model.load_state_dict(method.combine(base, last, share) if share else base)
        losses = job.losses(model)
        value = score(model.encoder) if score else -sum(losses.values()) / len(losses)
        candidates.append({"share": share, "score": value, **losses})
        logger.info("share %.2f of the adapted weights: %s %.4f, %s", share, retention.criterion, value, losses)
    task = params.tasks.get(retention.task)
    chosen = best_share(candidates[1:], higher_is_better=not (score and task) or kinds.higher_is_better(task.kind, task.deciding_metric))
    model.load_state_dict(method.combine(base, last, chosen["share"]))
    named = f"dev score of a linear probe on {retention.task}" if score else "mean of the held-out losses, negated"
    return {"method": retention.method, "criterion": named, "chosen": chosen["share"], "candidates": candidates}


def best_share(candidates: Sequence[dict[str, Any]], *, higher_is_better: bool) -> dict[str, Any]:
    """The candidate with the best score; of equal ones the one with the smallest share."""
    sign = 1.0 if higher_is_better else -1.0
    return max(candidates, key=lambda candidate: (sign * candidate["score"], -candidate["share"]))


def _write(
    out: Path,
    adapted: Path,
    retention: dict[str, Any],
    base: dict[str, float],
    last: dict[str, float],
    result: FitResult,
    job: Pretraining,
    history: MemorySink,
    context: StageContext,
) -> None:
    chosen = next(candidate for candidate in retention["candidates"] if candidate["share"] == retention["chosen"])
    metrics: dict[str, Any] = {name: {"base": base[name], "adapted": chosen[name], "last": last[name]} for name in base}
    metrics |= {"share": retention["chosen"], "tokens": result.steps * job.tokens_per_step, "steps": result.steps}
    metrics |= {"spikes": result.spikes, "skipped_steps": result.skipped, "stopped_early_at": result.stopped_early_at}
    artifacts.write_json(out / "metrics.json", metrics)
    artifacts.write_json(out / "retention.json", retention)
    history.write_csv(out / "history.csv")
    history.write_series(out / "train_loss.csv", {"train/loss": "loss"})
    history.write_series(out / "heldout_loss.csv", {"heldout_loss": "domain", "general_loss": "general"})
    artifacts.write_json(
        adapted / "card.json",
        {
            "head": "made for pretraining: identity transform, decoder tied to the embeddings, bias = log unigram frequency, "
            "warmed up on a frozen encoder; not part of this encoder",
            "warmup_tokens": job.config.head_warmup_tokens,
            "objective": job.config.objective,
            "tokens": metrics["tokens"],
            "share_of_adapted_weights": retention["chosen"],
        },
    )
    flat = {f"{name}/{which}": value for name in base for which, value in metrics[name].items()}
    context.final_metrics.update({**flat, "share": float(retention["chosen"])})
    context.artifacts += [out / "metrics.json", out / "retention.json", out / "history.csv"]


if __name__ == "__main__":
    main(run, Params, trains=True)
