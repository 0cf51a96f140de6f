"""Continue masked-language modelling on the domain, and keep a share of the base model.

The head is warmed up on a frozen encoder first, so that base and adapted are compared with an equally warm head.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from acclimate import artifacts, plugins
from acclimate.config import PretrainConfig, Section, TaskConfig
from acclimate.data.encoding import read_vocabulary
from acclimate.data.labelled import read_schema, read_split
from acclimate.models.backbone import load_encoder, save_encoder
from acclimate.models.mlm_head import MlmModel, load_mlm_model
from acclimate.runtime import require_disk, seed_everything, set_threads
from acclimate.sinks import MemorySink, TeeSink
from acclimate.training.batches import PackedBatches
from acclimate.training.checkpoints import CheckpointStore
from acclimate.training.distributed import World, collect, join_world, leave_world, sharded_copy
from acclimate.training.health import HealthConfig
from acclimate.training.heldout import PackedText, heldout_loss, read_packed
from acclimate.training.loop import FitResult, LoopConfig, fit
from acclimate.training.meter import shape_of, squared_lengths
from acclimate.training.optimizers import adamw, make_optimizer, parameter_groups
from acclimate.training.precision import Precision, choose_matmul_precision, resolve_device, resolve_precision
from acclimate.training.settings import loop_config, prepare_model
from stages.command import Out, StageContext, main

_LOGS_PER_RUN = 60
logger = logging.getLogger("stages.pretrain")


class Params(Section):
    """What this stage reads."""

    seed: int
    pretrain: PretrainConfig
    tasks: dict[str, TaskConfig]


@dataclass(frozen=True)
class Pretraining:
    """What every step of this stage needs."""

    config: PretrainConfig
    seed: int
    precision: Precision
    world: World
    make_batch: Callable[[Tensor, Tensor, torch.Generator], Any]
    loss: Callable[..., Tensor]
    corpus: PackedText
    heldout: PackedText
    general: PackedText

    @property
    def tokens_per_step(self) -> int:
        """Tokens of an optimizer step."""
        return self.config.rows_per_batch * self.config.accumulation * int(self.corpus.ids.shape[1])

    def losses(self, model: nn.Module) -> dict[str, float]:
        """Loss on held-out domain text and, where there is some, on general text."""
        found = {
            name: heldout_loss(model, text, make_batch=self.make_batch, loss_fn=self.loss, precision=self.precision)
            for name, text in (("heldout_loss", self.heldout), ("general_loss", self.general))
        }
        return {name: value for name, value in found.items() if value is not None}


def run(params: Params, *, tokens: Path, encoder: Path, table: Path, out: Out, adapted: Out, context: StageContext) -> None:
    """Warm the head up, pretrain, choose the share of adapted weights, and write both outs."""
    config, device = params.pretrain, resolve_device()
    require_disk(out.parent, 8 * (encoder / "model.safetensors").stat().st_size)
    context.record.update(device=str(device), threads=set_threads(), float32_products=choose_matmul_precision(device))
    seed_everything(params.seed)
    world = join_world(device, sharding=context.train.launch.sharding, timeout_s=context.train.launch.timeout_s)
    job = _prepare(params, tokens, encoder, resolve_precision(config.precision, device), world)
    unigram_V = torch.from_numpy(np.load(tokens / "unigram.npy"))
    model = load_mlm_model(encoder, load_encoder(encoder, dropout=config.dropout, attention=context.train.attention), unigram_V).to(device)
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


def _prepare(params: Params, tokens: Path, encoder: Path, precision: Precision, world: World) -> Pretraining:
    config = params.pretrain
    objective = plugins.load("objectives", config.objective)
    options = plugins.configure(
        "objectives", config.objective, config.objectives.get(config.objective, {}), where=f"pretrain.objectives.{config.objective}"
    )
    make_batch = partial(objective.make_batch, config=options, vocabulary=read_vocabulary(encoder))
    corpus, heldout, general = (read_packed(tokens, split) for split in ("corpus", "heldout", "general"))
    rows = config.heldout_rows
    return Pretraining(config, params.seed, precision, world, make_batch, objective.loss, corpus, heldout.head(rows), general.head(rows))


def _state(model: MlmModel) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def _batches(job: Pretraining, steps: int, seed: int) -> PackedBatches:
    return PackedBatches(
        job.corpus.ids,
        job.corpus.segments,
        job.make_batch,
        rows_per_batch=job.config.rows_per_batch,
        accumulation=job.config.accumulation,
        steps=steps,
        seed=seed,
    )


def _loop(job: Pretraining, context: StageContext, steps: int, label: str, *, evaluations: int = 0) -> LoopConfig:
    config = job.config
    return loop_config(
        config.optimizer,
        config.health,
        context.train,
        watch="heldout_loss",
        maximize=False,
        seed=job.seed,
        log_every=math.ceil(steps / _LOGS_PER_RUN),
        evaluate_every=math.ceil(steps / (evaluations + 1)) if evaluations else 0,
        checkpoint_every_s=config.checkpoint_every_s,
        label=label,
    )


def _warm_up_head(model: MlmModel, job: Pretraining, context: StageContext) -> None:
    """Train a made head alone, the encoder frozen; one that came with the encoder needs none."""
    steps = round(job.config.head_warmup_tokens / job.tokens_per_step)
    if not steps or model.has_trained_head:
        return
    model.encoder.requires_grad_(False)
    optimizer = adamw(
        [{"params": model.head_parameters(), "lr": job.config.head_learning_rate, "weight_decay": 0.0}], betas=(0.9, 0.98), epsilon=1e-6
    )
    loop = replace(_loop(job, context, steps, "head warm-up"), average="none", health=HealthConfig())
    fit(
        model,
        _batches(job, steps, job.seed + 1),
        job.loss,
        optimizer=optimizer,
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
    config = job.config.optimizer
    steps = max(1, round(job.config.max_tokens / job.tokens_per_step))
    trained = sharded_copy(model, job.world, entry_points=("summed_loss",))
    prepare_model(trained, context.train, method="features")
    groups = parameter_groups(trained.named_parameters(), learning_rate=config.learning_rate, weight_decay=config.weight_decay)
    result = fit(
        trained,
        _batches(job, steps, job.seed),
        job.loss,
        optimizer=make_optimizer(config.name, groups, betas=(config.beta1, config.beta2), epsilon=config.epsilon),
        precision=job.precision,
        config=_loop(job, context, steps, "pretrain", evaluations=job.config.evaluations),
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
    score = _probe_scorer(table, encoder, params.tasks[retention.task], job) if retention.criterion == "probe" else None
    candidates: list[dict[str, Any]] = []
    for share in [0.0, *method.candidates(options)]:
        model.load_state_dict(method.combine(base, last, share) if share else base)
        losses = job.losses(model)
        value = score(model) if score else -sum(losses.values()) / len(losses)
        candidates.append({"share": share, "score": value, **losses})
        logger.info("share %.2f of the adapted weights: %s %.4f, %s", share, retention.criterion, value, losses)
    chosen = max(candidates[1:], key=lambda candidate: (candidate["score"], -candidate["share"]))
    model.load_state_dict(method.combine(base, last, chosen["share"]))
    named = f"dev score of a linear probe on {retention.task}" if score else "mean of the held-out losses, negated"
    return {"method": retention.method, "criterion": named, "chosen": chosen["share"], "candidates": candidates}


def _probe_scorer(table: Path, encoder: Path, task: TaskConfig, job: Pretraining) -> Callable[[MlmModel], float]:
    """Score a model's frozen features on the dev split: fit on train, never touch test."""
    from acclimate.evaluation.probes import probe_encoder

    train, dev = (read_split(table, split, encoder=encoder, max_tokens=task.max_tokens) for split in ("train", "dev"))
    schema = read_schema(table)

    def score(model: MlmModel) -> float:
        scores = probe_encoder(model.encoder, schema, train, dev, pooling=task.pooling, precision=job.precision, layers=[-1])
        return scores[-1][schema.metric]

    return score


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
