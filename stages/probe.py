"""Probe frozen features of every layer of each encoder with a linear model: what is there before any fine-tuning."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch

from acclimate import artifacts, kinds
from acclimate.backbones.loading import load_backbone, require_lengths
from acclimate.data.labelled import TableSchema, read_schema, read_split
from acclimate.data.options import TaskConfig
from acclimate.evaluation.metrics import plain_scores
from acclimate.evaluation.options import ProbeConfig
from acclimate.evaluation.probes import layer_statistics
from acclimate.runtime import seed_everything, set_threads
from acclimate.settings import Options
from acclimate.training.options import RunsConfig
from acclimate.training.precision import Precision, resolve_device, resolve_precision
from stages.command import Out, StageContext, main

logger = logging.getLogger("stages.probe")

Scores = list[dict[str, float]]
"""Every metric, for each layer."""


class Params(Options):
    """What this stage reads."""

    seed: int
    probe: ProbeConfig
    runs: RunsConfig
    tasks: dict[str, TaskConfig]


def run(params: Params, *, tables: Path, encoders: Path, verdict: Path, out: Out, context: StageContext) -> None:
    """Probe each encoder of `runs` on each task.

    Args:
        tables: the ingested tables.
        encoders: a directory for each encoder.
        verdict: that the data passed; a dep only.
        out: layers.csv (test scores by layer) and metrics.json (the layer that dev chooses).
    """
    seed_everything(params.seed)
    device = resolve_device()
    precision = resolve_precision("auto", device)
    context.record.update(device=str(device), precision=precision.name, threads=set_threads())
    rows: list[dict[str, Any]] = []
    metrics: dict[str, Any] = {}
    for task in params.probe.tasks or params.runs.all_tasks[:1]:
        schema = read_schema(tables / task)
        metrics[task] = {"metric": schema.metric, "encoders": {}}
        for name in params.runs.encoders:
            dev, test = _probe(params, task, schema, tables / task, encoders / name, precision, device)
            metrics[task]["encoders"][name] = _choose_layer(dev, test, schema)
            rows += [
                {"task": task, "encoder": name, "layer": layer, "metric": metric, "value": value}
                for layer, scores in enumerate(test)
                for metric, value in scores.items()
            ]
            logger.info("%s %s: %s by layer %s", task, name, schema.metric, " ".join(f"{scores[schema.metric]:.3f}" for scores in test))
    _write(out, rows, metrics, context)


def _probe(
    params: Params, task: str, schema: TableSchema, table: Path, encoder: Path, precision: Precision, device: torch.device
) -> tuple[Scores, Scores]:
    config = params.tasks[task]
    require_lengths(encoder, {f"tasks.{task}.max_length": config.max_length})
    limits = {"train": params.probe.max_train_rows, "dev": None, "test": None}
    train, dev, test = (
        read_split(table, split, encoder=encoder, max_length=config.max_length, limit=limit) for split, limit in limits.items()
    )
    found = layer_statistics(
        load_backbone(encoder).to(device),
        schema,
        train,
        [dev, test],
        pooling=config.pooling,
        precision=precision,
        regularization=params.probe.regularization,
    )
    dev_scores, test_scores = ([plain_scores(layer) for layer in split] for split in found)
    return dev_scores, test_scores


def _choose_layer(dev: Scores, test: Scores, schema: TableSchema) -> dict[str, Any]:
    """The layer that is best on dev, and the last one, with their test scores."""
    sign = 1.0 if kinds.higher_is_better(schema.kind, schema.metric) else -1.0
    best = max(range(len(dev)), key=lambda layer: sign * dev[layer][schema.metric])
    return {"best_layer": best, "best": test[best], "last": test[-1]}


def _write(out: Path, rows: list[dict[str, Any]], metrics: dict[str, Any], context: StageContext) -> None:
    artifacts.write_csv(out / "layers.csv", ["task", "encoder", "layer", "metric", "value"], rows)
    artifacts.write_csv(out / "by_layer.csv", ["layer", *next(iter(metrics.values()))["encoders"]], _by_layer(rows, metrics))
    artifacts.write_json(out / "metrics.json", metrics)
    for task, found in metrics.items():
        for name, scores in found["encoders"].items():
            context.final_metrics |= {
                f"{task}/{name}/{which}/{found['metric']}": scores[which][found["metric"]] for which in ("best", "last")
            }
    context.artifacts += [out / "layers.csv", out / "metrics.json"]


def _by_layer(rows: list[dict[str, Any]], metrics: dict[str, Any]) -> list[dict[str, Any]]:
    """The first task's metric, a column for each encoder, as DVC's plots want it."""
    task, found = next(iter(metrics.items()))
    layers: dict[int, dict[str, Any]] = {}
    for row in rows:
        if row["task"] == task and row["metric"] == found["metric"]:
            layers.setdefault(row["layer"], {"layer": row["layer"]})[row["encoder"]] = row["value"]
    return [layers[layer] for layer in sorted(layers)]


if __name__ == "__main__":
    torch.set_float32_matmul_precision("high")
    main(run, Params)
