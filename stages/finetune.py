"""Fine-tune one encoder on one task by one recipe with one seed, and keep its predictions."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from acclimate import artifacts, kinds
from acclimate.backbones.loading import load_backbone, require_lengths
from acclimate.data.labelled import LabelledSplit, TableSchema, read_schema, read_split
from acclimate.data.options import TaskConfig
from acclimate.evaluation.metrics import score
from acclimate.evaluation.overfitting import DEV_LOSS
from acclimate.protocols import State
from acclimate.runtime import require_disk, seed_everything, set_threads
from acclimate.settings import Options
from acclimate.sinks import MemorySink, TeeSink
from acclimate.training.checkpoints import CheckpointStore
from acclimate.training.distributed import World, join_world, leave_world
from acclimate.training.finetuning import (
    FineTuned,
    build_task_model,
    evaluate_every,
    fine_tuned,
    rates,
    task_batches,
    task_optimizer,
    task_stream,
)
from acclimate.training.inference import mean_loss, predict_logits
from acclimate.training.loop import fit
from acclimate.training.options import RecipeConfig
from acclimate.training.precision import Precision, choose_matmul_precision, resolve_device, resolve_precision
from acclimate.training.retaining import keep_best
from acclimate.training.settings import loop_config
from acclimate.training.task_model import TaskModel, save_task_model
from stages.command import Out, StageContext, main

_LOGS_PER_RUN = 40
_DEV_ROWS = 128
"""Rows whose loss is measured after each epoch: enough to see it rise, few enough to cost little."""
logger = logging.getLogger("stages.finetune")


class Params(Options):
    """What this stage reads."""

    uses_components: ClassVar[bool] = True

    finetune: dict[str, Any]
    recipes: dict[str, RecipeConfig]
    tasks: dict[str, TaskConfig]


def run(
    params: Params,
    *,
    task: str,
    encoder_name: str,
    recipe: str,
    seed: int,
    encoder: Path,
    table: Path,
    verdict: Path,
    out: Out,
    context: StageContext,
) -> None:
    """Fine-tune, predict dev and test, and write model, predictions, metrics and history."""
    config, task_config, schema = params.recipes[recipe], params.tasks[task], read_schema(table)
    require_lengths(encoder, {f"tasks.{task}.max_length": task_config.max_length})
    device = resolve_device()
    precision = resolve_precision(config.precision, device)
    context.record.update(device=str(device), precision=precision.name, threads=set_threads())
    context.record["float32_products"] = choose_matmul_precision(device)
    require_disk(out.parent, 5 * (encoder / "model.safetensors").stat().st_size)
    world = join_world(device, sharding=context.train.launch.sharding, timeout_s=context.train.launch.timeout_s)
    seed_everything(seed)
    splits = {name: read_split(table, name, encoder=encoder, max_length=task_config.max_length) for name in ("train", "dev", "test")}
    backbone = load_backbone(encoder, dropout=config.dropout, attention=context.train.attention)
    backbone.prepare(compile=context.train.compile, activation_checkpointing=context.train.activation_checkpointing)
    names = {"encoder_name": encoder_name, "recipe_name": recipe}
    model = build_task_model(backbone, config, task_config, schema, splits["train"], **names, seed=seed).to(device)
    trained = fine_tuned(model, config)
    start = {name: tensor.detach().clone() for name, tensor in model.base.items()} if config.retention else {}
    history = MemorySink()
    _train(trained, splits, schema, config, precision, context, history, world, seed=seed)
    leave_world()
    if not world.is_main:
        return
    config.strategy.component.merge(model)
    retained = _retain(model, start, splits["dev"], schema, config, precision)
    metrics = _predict(model, splits, schema, precision, out) | retained
    metrics["fit"] = _losses(trained, splits, config, precision)
    shown = f"{metrics['dev'][schema.metric]:.4f}" if schema.metric in metrics["dev"] else "undefined"
    logger.info("%s %s-%s seed %d: dev %s %s", task, encoder_name, recipe, seed, schema.metric, shown)
    save_task_model(model, encoder, out)
    history.write_csv(out / "history.csv")
    artifacts.write_json(out / "metrics.json", metrics)
    context.final_metrics.update({f"{split}/{name}": value for split in ("dev", "test") for name, value in metrics[split].items()})
    context.artifacts += [out / "metrics.json", out / "task.json", out / "history.csv"]


def _train(
    trained: FineTuned,
    splits: dict[str, LabelledSplit],
    schema: TableSchema,
    config: RecipeConfig,
    precision: Precision,
    context: StageContext,
    history: MemorySink,
    world: World,
    *,
    seed: int,
) -> None:
    model = trained.model
    stream = task_stream(model, splits["train"], config, seed=seed, terms=trained.terms)
    batches = task_batches(stream, config)
    loop = loop_config(
        config,
        config.health,
        context.train,
        watch=f"dev/{schema.metric}",
        maximize=kinds.higher_is_better(schema.kind, schema.metric),
        seed=seed,
        log_every=math.ceil(batches.steps / _LOGS_PER_RUN),
        evaluate_every=evaluate_every(stream, config),
        checkpoint_every_s=config.checkpoint_every_s,
        label=f"{schema.name} {model.spec.encoder}-{model.spec.recipe} seed {seed}",
        trial=context.trial,
    )
    result = fit(
        trained,
        batches,
        groups=lambda whole: whole.groups(rates(config)),
        optimizer=task_optimizer(config),
        precision=precision,
        config=loop,
        sink=TeeSink([history, context.sink]),
        checkpoints=CheckpointStore(context.checkpoint_directory),
        evaluate=_evaluation(trained, splits["dev"], schema, config, precision),
        world=world,
        identity=context.identity,
    )
    seconds = max(result.seconds, 1e-9)
    context.record.update(
        train_tokens_per_s=round(result.tokens / seconds, 1),
        steps=result.steps,
        resumed_from=result.resumed_from,
        stopped_early_at=result.stopped_early_at,
        best_step=result.best_step,
        spikes=result.spikes,
        processes=world.size,
        logging_share=round(result.logging_s / seconds, 5),
        checkpoint_share=round(result.saving_s / seconds, 4),
        trainable_parameters=sum(each.numel() for group in trained.groups(rates(config)) for each in group.parameters),
        **{name: round(value, 1) for name, value in result.timing.items() if name == "memory_mb"},
    )


def _evaluation(
    trained: FineTuned, dev: LabelledSplit, schema: TableSchema, config: RecipeConfig, precision: Precision
) -> Callable[[], dict[str, float]]:
    """What is measured after an epoch: the loss on the first dev rows, which shows overfitting, and what early stopping looks at."""
    stream = task_stream(trained.model, dev, config, seed=0)
    limit = min(stream.order.batches_per_epoch, -(-_DEV_ROWS // config.batch_size))

    def evaluate() -> dict[str, float]:
        found = {DEV_LOSS: mean_loss(trained, map(stream.batch, range(limit)), precision=precision)[0]}
        if config.health.patience:
            scores = _scores(trained.model, dev, schema, precision)[0]
            found |= {f"dev/{name}": value for name, value in ({schema.metric: math.nan} | scores).items()}
        return found

    return evaluate


def _retain(
    model: TaskModel, start: State, dev: LabelledSplit, schema: TableSchema, config: RecipeConfig, precision: Precision
) -> dict[str, dict[str, Any]]:
    """Keep what scores best on dev of what retention offers; give what was offered, for metrics.json."""
    if not config.retention:
        return {}
    up = kinds.higher_is_better(schema.kind, schema.metric)

    def score() -> float:
        return _scores(model, dev, schema, precision)[0].get(schema.metric, -math.inf if up else math.inf)

    scores = keep_best(model.base, start, config.retention, score, higher_is_better=up)
    scores = {name: value for name, value in scores.items() if math.isfinite(value)}
    if not scores:
        return {}
    kept = next(iter(scores))
    logger.info("retention keeps the candidate %s: dev %s %.4f", kept, schema.metric, scores[kept])
    return {"retention": {"kept": kept, "dev": scores}}


def _scores(
    model: TaskModel, split: LabelledSplit, schema: TableSchema, precision: Precision
) -> tuple[dict[str, float], list[Any], list[Any]]:
    """Every metric on a split, with the gold values and the predictions."""
    kind = kinds.model(schema.kind)
    gold = kind.gold(split.labels, schema.labels)
    predictions = kind.predictions(predict_logits(model, split.encoded, precision=precision), split.encoded)
    return score(schema.kind, gold, predictions, labels=schema.labels), gold, predictions


def _predict(model: TaskModel, splits: dict[str, LabelledSplit], schema: TableSchema, precision: Precision, out: Path) -> dict[str, Any]:
    """Predict dev and test, write predictions.parquet, and give the metrics."""
    metrics: dict[str, Any] = {}
    tables = []
    for name in ("dev", "test"):
        metrics[name], gold, predictions = _scores(model, splits[name], schema, precision)
        columns = {"split": [name] * len(gold), "id": splits[name].ids, "gold": gold, "prediction": pa.array(predictions)}
        tables.append(pa.table(columns))
    pq.write_table(pa.concat_tables(tables), out / "predictions.parquet")
    total = sum(len(split.ids) for split in splits.values())
    return {**metrics, "truncated_share": sum(split.encoded.truncated for split in splits.values()) / total}


def _losses(trained: FineTuned, splits: dict[str, LabelledSplit], config: RecipeConfig, precision: Precision) -> dict[str, float]:
    """Mean loss per target of the trained model on dev rows and on as many training rows, and again on the dev rows of each epoch."""
    found = {}
    for name in ("train", "dev"):
        stream = task_stream(trained.model, splits[name], config, seed=0)
        limit = min(stream.order.batches_per_epoch, -(-len(splits["dev"].ids) // config.batch_size))
        found[f"{name}_loss"], _ = mean_loss(trained, map(stream.batch, range(limit)), precision=precision)
    limit = min(limit, -(-_DEV_ROWS // config.batch_size))
    found["dev_loss_at_end"], found["dev_loss_error"] = mean_loss(trained, map(stream.batch, range(limit)), precision=precision)
    return found


if __name__ == "__main__":
    main(run, Params, trains=True)
