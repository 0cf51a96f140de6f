"""Fine-tune one encoder on one task with one seed, and keep its predictions."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from acclimate import artifacts, kinds, plugins
from acclimate.data.encoding import load_tokenizer
from acclimate.data.labelled import LabelledSplit, TableSchema, read_schema, read_split
from acclimate.data.options import TaskConfig
from acclimate.evaluation.metrics import score
from acclimate.models.backbone import load_encoder
from acclimate.models.task_model import TaskModel, save_task_model
from acclimate.runtime import require_disk, seed_everything, set_threads
from acclimate.settings import Section
from acclimate.sinks import MemorySink, TeeSink
from acclimate.training.checkpoints import CheckpointStore
from acclimate.training.distributed import World, collect, join_world, leave_world, sharded_copy
from acclimate.training.finetuning import build_task_model, evaluate_every, summed_loss, task_batches, task_optimizer
from acclimate.training.inference import mean_loss, predict_logits
from acclimate.training.loop import fit
from acclimate.training.options import FinetuneConfig
from acclimate.training.precision import Precision, choose_matmul_precision, resolve_device, resolve_precision
from acclimate.training.settings import loop_config, prepare_model
from stages.command import Out, StageContext, main

_LOGS_PER_RUN = 40
logger = logging.getLogger("stages.finetune")


class Params(Section):
    """What this stage reads."""

    finetune: FinetuneConfig
    tasks: dict[str, TaskConfig]


def run(
    params: Params, *, task: str, encoder_name: str, seed: int, encoder: Path, table: Path, verdict: Path, out: Out, context: StageContext
) -> None:
    """Fine-tune, predict dev and test, and write model, predictions, metrics and history."""
    config, task_config, schema = params.finetune, params.tasks[task], read_schema(table)
    kind = kinds.model(task_config.kind)
    device = resolve_device()
    precision = resolve_precision(config.precision, device)
    context.record.update(device=str(device), precision=precision.name, threads=set_threads())
    context.record["float32_products"] = choose_matmul_precision(device)
    require_disk(out.parent, 5 * (encoder / "model.safetensors").stat().st_size)
    world = join_world(device, sharding=context.train.launch.sharding, timeout_s=context.train.launch.timeout_s)
    seed_everything(seed)
    pad_id = load_tokenizer(encoder).token_to_id("[PAD]") or 0
    splits = {name: read_split(table, name, encoder=encoder, max_tokens=task_config.max_tokens) for name in ("train", "dev", "test")}
    backbone = load_encoder(encoder, dropout=config.dropout, attention=context.train.attention)
    model = build_task_model(backbone, config, task_config, schema, kind, splits["train"], encoder_name=encoder_name, seed=seed).to(device)
    history = MemorySink()
    _train(model, splits, kind, config, precision, context, history, world, seed=seed, pad_id=pad_id)
    leave_world()
    if not world.is_main:
        return
    plugins.load("strategies", config.strategy).merge(model.encoder)
    metrics = _predict(model, splits, kind, schema, precision, pad_id, out)
    metrics["fit"] = _losses(model, splits, kind, config, precision, pad_id)
    logger.info("%s %s seed %d: dev %s %.4f", task, encoder_name, seed, schema.metric, metrics["dev"][schema.metric])
    save_task_model(model, encoder, out)
    history.write_csv(out / "history.csv")
    artifacts.write_json(out / "metrics.json", metrics)
    context.final_metrics.update({f"{split}/{name}": value for split in ("dev", "test") for name, value in metrics[split].items()})
    context.artifacts += [out / "metrics.json", out / "task.json", out / "history.csv"]


def _train(
    model: TaskModel,
    splits: dict[str, LabelledSplit],
    kind: kinds.Model,
    config: FinetuneConfig,
    precision: Precision,
    context: StageContext,
    history: MemorySink,
    world: World,
    *,
    seed: int,
    pad_id: int,
) -> None:
    batches = task_batches(model, splits["train"], kind, config, seed=seed, pad_id=pad_id)
    trained = sharded_copy(model, world, entry_points=("standardized",))
    loop = loop_config(
        config,
        config.health,
        context.train,
        watch=f"dev/{model.spec.metric}",
        maximize=kinds.higher_is_better(model.spec.kind, model.spec.metric),
        seed=seed,
        log_every=math.ceil(batches.steps / _LOGS_PER_RUN),
        evaluate_every=evaluate_every(batches, config),
        checkpoint_every_s=config.checkpoint_every_s,
        label=f"{model.spec.name} {model.spec.encoder} seed {seed}",
        trial=context.trial,
    )

    def dev_scores() -> dict[str, float]:
        split = splits["dev"]
        predictions = kind.predictions(predict_logits(trained, split.encoded, precision=precision, pad_id=pad_id), split.encoded)
        scores = score(model.spec.kind, kind.gold(split.labels, model.spec.labels), predictions, labels=model.spec.labels)
        return {f"dev/{name}": value for name, value in scores.items()}

    prepare_model(trained, context.train, method="standardized")
    result = fit(
        trained,
        batches,
        summed_loss(kind),
        optimizer=task_optimizer(trained, config),
        precision=precision,
        config=loop,
        sink=TeeSink([history, context.sink]),
        checkpoints=CheckpointStore(context.checkpoint_directory),
        evaluate=dev_scores,
        world=world,
        identity=context.identity,
    )
    collect(trained, model)
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
        trainable_parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
        **{name: round(value, 1) for name, value in result.timing.items() if name == "memory_mb"},
    )


def _predict(
    model: TaskModel, splits: dict[str, LabelledSplit], kind: kinds.Model, schema: TableSchema, precision: Precision, pad_id: int, out: Path
) -> dict[str, Any]:
    """Predict dev and test, write predictions.parquet, and give the metrics."""
    metrics: dict[str, Any] = {}
    tables = []
    for name in ("dev", "test"):
        split = splits[name]
        gold = kind.gold(split.labels, schema.labels)
        predictions = kind.predictions(predict_logits(model, split.encoded, precision=precision, pad_id=pad_id), split.encoded)
        metrics[name] = score(schema.kind, gold, predictions, labels=schema.labels)
        tables.append(pa.table({"split": [name] * len(gold), "id": split.ids, "gold": gold, "prediction": pa.array(predictions)}))
    pq.write_table(pa.concat_tables(tables), out / "predictions.parquet")
    total = sum(len(split.ids) for split in splits.values())
    return {**metrics, "truncated_share": sum(split.encoded.truncated for split in splits.values()) / total}


def _losses(
    model: TaskModel, splits: dict[str, LabelledSplit], kind: kinds.Model, config: FinetuneConfig, precision: Precision, pad_id: int
) -> dict[str, float]:
    """Mean loss per target of the trained model on dev rows and on as many training rows: the gap tells what was learnt by heart."""
    found = {}
    for name in ("train", "dev"):
        batches = task_batches(model, splits[name], kind, config, seed=0, pad_id=pad_id)
        limit = -(-len(splits["dev"].ids) // config.rows_per_batch)
        found[f"{name}_loss"] = mean_loss(model, batches.epoch_batches(0)[:limit], summed_loss(kind), batches.padded, precision=precision)
    return found


if __name__ == "__main__":
    main(run, Params, trains=True)
