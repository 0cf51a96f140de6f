"""Judge frozen features of each encoder by probes over many draws of labelled rows: the evidence before any fine-tuning."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from acclimate import artifacts
from acclimate.backbones.loading import load_backbone, require_lengths
from acclimate.data.labelled import TableSchema, read_schema
from acclimate.data.options import TaskConfig
from acclimate.evaluation import ledger_tables
from acclimate.evaluation.draws import draws_of
from acclimate.evaluation.labelled_features import Chosen, choose_rows, read_features
from acclimate.evaluation.ledger import EncoderLedger, Ledger
from acclimate.evaluation.ledger_verdicts import Sides, TaskLedger, compared
from acclimate.evaluation.options import EvaluateConfig, ProbeConfig
from acclimate.runtime import seed_everything, set_threads
from acclimate.settings import Options
from acclimate.training.options import RunsConfig
from acclimate.training.precision import Precision, resolve_device, resolve_precision
from stages.command import Out, StageContext, main

logger = logging.getLogger("stages.probe")
CARD = "card.json"


class Params(Options):
    """What this stage reads."""

    seed: int
    evaluate: EvaluateConfig
    probe: ProbeConfig
    runs: RunsConfig
    tasks: dict[str, TaskConfig]


def run(params: Params, *, tables: Path, encoders: Path, verdict: Path, out: Out, context: StageContext) -> None:
    """Judge each encoder of `runs` and each control on each task.

    Args:
        tables: the ingested tables.
        encoders: a directory for each encoder.
        verdict: that the data passed; a dep only.
        out: ledger.csv, curves.json, comparisons.json, metrics.json, and layers.csv, by_layer.csv and by_rows.csv for charts.
    """
    seed_everything(params.seed)
    device = resolve_device()
    precision = resolve_precision("auto", device)
    context.record.update(device=str(device), precision=precision.name, threads=set_threads(), seconds={})
    tasks, missing = dict[str, TaskLedger](), list[dict[str, Any]]()
    for task in params.probe.judged_tasks(params.runs.all_tasks, params.tasks):
        schema = read_schema(tables / task)
        chosen = choose_rows(tables / task, params.probe, seed=params.seed)
        if isinstance(chosen, str):
            logger.warning("%s", chosen)
            missing.append({"task": task, "reason": chosen})
            continue
        tasks[task] = _judge(params, task, schema, chosen, encoders, precision, device, context)
    made = [name for name in params.probe.encoders(params.runs.encoders) if (encoders / name / CARD).exists()]
    sides = Sides(params.runs.encoders, params.runs.reference.encoder, params.probe.controls, made)
    comparisons = compared(tasks, sides, params.probe, confidence=params.evaluate.confidence)
    comparisons["missing"] = missing + comparisons["missing"]
    for said in [*(pair for each in comparisons["tasks"].values() for pair in each["pairs"]), *comparisons["mean_over_tasks"]]:
        logger.info("%s", said["sentence"])
    tokens = {name: _tokens(encoders, name) for name in params.probe.encoders(params.runs.encoders)}
    _write(out, tasks, comparisons, tokens, context)


def _judge(
    params: Params,
    task: str,
    schema: TableSchema,
    chosen: Chosen,
    encoders: Path,
    precision: Precision,
    device: torch.device,
    context: StageContext,
) -> TaskLedger:
    """Every encoder on the same draws of one task."""
    is_general, declared = task in params.probe.general_tasks, params.probe.declared.rows
    sizes = declared if is_general else params.probe.rows
    draws, missing = draws_of(chosen.pool_rows, sizes, params.probe.draws, seed=params.seed, task=task)
    for size, reason in missing.items():
        logger.warning("%s: no probe at %s rows: %s", task, size, reason)
    whole = Ledger(schema, params.probe, draws, params.seed)
    points = replace(whole, draws={size: each for size, each in draws.items() if size in declared})
    found: dict[str, EncoderLedger] = {}
    num_layers: dict[str, int] = {}
    for name in params.probe.encoders(params.runs.encoders):
        if is_general and name not in params.runs.encoders and not (encoders / name / CARD).exists():
            continue  # a control that was not trained has forgotten nothing
        require_lengths(encoders / name, {f"tasks.{task}.max_length": params.tasks[task].max_length})
        before = time.perf_counter()
        backbone = load_backbone(encoders / name).to(device)
        splits = read_features(backbone, schema, chosen, encoders / name, params.tasks[task], precision)
        extracted = time.perf_counter()
        ledger = whole if name in params.runs.encoders else points  # controls serve the declared comparisons alone
        found[name] = ledger.of_encoder(*splits, workers=context.record["threads"])
        num_layers[name] = splits[0].layers
        seconds = {"features": round(extracted - before, 1), "ledger": round(time.perf_counter() - extracted, 1)}
        context.record["seconds"][f"{task}/{name}"] = seconds
        logger.info("%s %s: features of %d rows %.1f s, ledger %.1f s", task, name, chosen.num_rows, *seconds.values())
    return TaskLedger(schema.kind, schema.metric, is_general, chosen.pool_rows, chosen.judged_rows, num_layers, found, missing)


def _tokens(encoders: Path, name: str) -> int:
    """Tokens that an encoder was trained on here, with those of the encoders that it started from."""
    total = 0
    while (encoders / name / CARD).exists():
        card = artifacts.read_json(encoders / name / CARD)
        total, name = total + int(card["tokens"]), card["start"]
    return total


def _write(out: Path, tasks: dict[str, TaskLedger], comparisons: dict[str, Any], tokens: dict[str, int], context: StageContext) -> None:
    metrics: dict[str, Any] = {task: {"metric": each.metric, "encoders": ledger_tables.layers(each)} for task, each in tasks.items()}
    artifacts.write_csv(out / "ledger.csv", ledger_tables.LEDGER_COLUMNS, ledger_tables.ledger_rows(tasks))
    artifacts.write_json(out / "curves.json", {task: ledger_tables.curves(each, tokens) for task, each in tasks.items()})
    artifacts.write_json(out / "comparisons.json", comparisons)
    artifacts.write_json(out / "metrics.json", metrics)
    layers = [{"task": task, "metric": each.metric, **row} for task, each in tasks.items() for row in ledger_tables.layer_rows(each)]
    artifacts.write_csv(out / "layers.csv", ["task", "encoder", "layer", "metric", "value"], layers)
    first = next(iter(tasks.values()), None)
    for key, rows_of in (("layer", ledger_tables.layer_rows), ("rows", ledger_tables.size_rows)):
        artifacts.write_csv(out / f"by_{key}.csv", [key, *tokens], ledger_tables.by_column(rows_of(first) if first else [], key))
    for task, found in metrics.items():
        for name, scores in found["encoders"].items():
            for which in ("best", "last"):
                context.final_metrics[f"{task}/{name}/{which}/{found['metric']}"] = scores[which][found["metric"]]
    context.artifacts += [out / name for name in ("curves.json", "comparisons.json", "metrics.json")]


if __name__ == "__main__":
    torch.set_float32_matmul_precision("high")
    main(run, Params)
