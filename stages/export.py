"""Write a task's best model as ONNX and int8, and prove that each still computes the same: logits, decisions, metric, latency."""

from __future__ import annotations

import logging
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acclimate import kinds
from acclimate.artifacts import read_json, write_json
from acclimate.backbones.saving import copy_tokenizer
from acclimate.data.screening import texts
from acclimate.export import choice, graph, latency, parity, quantize, reference
from acclimate.export.options import ExportConfig
from acclimate.export.predictor import DECODER, Predictor
from acclimate.settings import Options
from acclimate.training.options import RunsConfig
from stages.command import Out, StageContext, main

if TYPE_CHECKING:
    from acclimate.training.task_model import TaskModel

logger = logging.getLogger("stages.export")

FILES = {"fp32": "model.onnx", "int8": "model.int8.onnx"}


class Params(Options):
    """The sections of params.yaml that this stage reads."""

    export: ExportConfig
    runs: RunsConfig


def run(params: Params, *, task: str, finetune: Path, table: Path, verdict: Path, out: Out, context: StageContext) -> None:
    """Export one task.

    Args:
        task: its name under `tasks`.
        finetune: the task's fine-tuned runs, `<encoder>-<recipe>-<seed>` each.
        table: the task's ingested table.
        verdict: that the data passed; a dep only.
        out: the export directory.

    Raises:
        ModelError: the fp32 graph's logits differ from torch's by more than `export.max_logit_difference`, for regression in standard
            deviations of the training labels.
    """
    from tqdm import tqdm

    from acclimate.evaluation.metrics import score
    from acclimate.runtime import set_threads
    from acclimate.training.task_model import load_task_model

    set_threads()
    schema = read_json(table / "schema.json")
    metric, lower_is_better = schema["metric"], not kinds.higher_is_better(schema["kind"], schema["metric"])
    chosen = choice.best_run(
        finetune,
        variants=params.runs.variants,
        reference=params.runs.reference,
        seeds=params.runs.seeds_of(task),
        metric=metric,
        lower_is_better=lower_is_better,
    )
    logger.info("%s: %s-%d is the best on dev (%s %.4f)", task, chosen.variant.name, chosen.seed, metric, chosen.dev_metric)
    model = load_task_model(chosen.directory, attention="sdpa")
    files = {name: FILES[name] for name in ("fp32", *params.export.quantize)}
    _write_graphs(model, chosen.directory, out, files)

    predictors = {name: Predictor.load(out, variant=file) for name, file in files.items()}
    rows = reference.read_test_rows(table, chosen.directory, predictors["fp32"])
    decoder = predictors["fp32"].decoder
    predictions = {}
    for name in tqdm(("torch", *files), desc=f"{task}: {len(rows.ids)} test rows", unit="variant", disable=None):
        if name == "torch":
            predictions[name] = reference.torch_predictions(model, rows, predictors["fp32"])
        else:
            predictions[name] = reference.onnx_predictions(predictors[name], rows)
    scale = parity.Scale(float(model.output_shift), float(model.output_scale))
    compared = {name: parity.compare(predictions["torch"], predictions[name], rows.ids, decoder, scale) for name in files}
    parity.require_parity(compared["fp32"], limit=params.export.max_logit_difference, what=f"export of {task}")

    variants: dict[str, dict[str, Any]] = {
        name: {"metric": score(schema["kind"], rows.gold, values, labels=schema["labels"])} for name, values in predictions.items()
    }
    for name, file in files.items():
        found = compared[name]
        variants[name] |= {"bytes": (out / file).stat().st_size, **asdict(found)}
    conditions = _measure_latency(params.export, model, out, files, variants)
    variant = choice.choose_variant(
        {name: variants[name] for name in files},
        metric=metric,
        lower_is_better=lower_is_better,
        optimize_for=params.export.optimize_for,
        max_metric_loss=params.export.max_metric_loss,
        batch=params.export.latency_batches[0],
    )
    _report(variants, metric)
    training = asdict(parity.compare(rows.trained, predictions["torch"], rows.ids, decoder, scale))
    found_of = {"variants": variants, "against_finetuning": training, "latency": conditions}
    test_rows = {"sha256": reference.digest_of_rows(rows.examples), "rows": len(rows.ids)}
    write_json(out / "metrics.json", {"metric": metric, "test_rows": test_rows, **found_of})
    run_of = {"encoder": chosen.variant.encoder, "recipe": chosen.variant.recipe, "seed": chosen.seed}
    write_json(out / "chosen.json", {**run_of, "variant": variant, "file": files[variant]})
    write_json(out / "parity.json", {"unit": scale.scale, "examples": reference.examples(rows, predictions, predictors[variant])})
    context.final_metrics |= {f"{name}/{metric}": found["metric"][metric] for name, found in variants.items() if metric in found["metric"]}
    context.final_metrics |= {f"{name}/max_logit_difference": found.max_logit_difference for name, found in compared.items()}
    context.artifacts += [out / name for name in ("metrics.json", "chosen.json", "parity.json")]


def _write_graphs(model: TaskModel, source: Path, out: Path, files: dict[str, str]) -> None:
    copy_tokenizer(source, out)
    shutil.copyfile(source / "task.json", out / "task.json")
    shutil.copyfile(kinds.decode_file(model.spec.kind), out / DECODER)
    for file in texts.FILES:
        shutil.copyfile(file, out / file.name)
    logger.info("writing the ONNX graph, about ten seconds")
    graph.export_graph(model, out / files["fp32"], max_length=model.spec.max_length)
    if "int8" in files:
        quantize.quantize_int8(out / files["fp32"], out / files["int8"])


def _measure_latency(
    config: ExportConfig, model: TaskModel, out: Path, files: dict[str, str], variants: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """Fill in `latency_ms` of every variant; return the conditions it was measured under."""
    tokens = model.spec.max_length
    logger.info("measuring latency on one core: %d rounds at batch %s", config.latency_rounds, ", ".join(map(str, config.latency_batches)))
    with latency.one_core() as core:
        calls = {"torch": reference.torch_call(model)}
        calls |= {name: Predictor.load(out, variant=file, threads=1).run for name, file in files.items()}
        for batch in config.latency_batches:
            inputs = latency.full_length_inputs(batch, tokens)
            for name, median_ms in latency.median_latency_ms(calls, inputs, rounds=config.latency_rounds).items():
                variants[name].setdefault("latency_ms", {})[str(batch)] = median_ms
    return latency.measurement_conditions(core, rounds=config.latency_rounds, tokens=tokens)


def _report(variants: dict[str, dict[str, Any]], metric: str) -> None:
    for name, found in variants.items():
        times = ", ".join(f"{ms:.1f} ms at batch {batch}" for batch, ms in found["latency_ms"].items())
        logger.info("%-5s %s %s  %s", name, metric, f"{found['metric'][metric]:.4f}" if metric in found["metric"] else "undefined", times)


if __name__ == "__main__":
    main(run, Params)
