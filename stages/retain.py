"""Choose what is kept of an encoder's start after pretraining: the candidates of its retention, by probes or by held-out losses."""

from __future__ import annotations

import logging
import math
import shutil
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any, ClassVar

from acclimate import artifacts
from acclimate.backbones.loading import SOURCE, load_backbone, require_lengths
from acclimate.backbones.saving import save_backbone
from acclimate.data.labelled import read_schema
from acclimate.data.options import TaskConfig
from acclimate.evaluation.probes import Gain, dev_probe, gain
from acclimate.runtime import seed_everything, set_threads
from acclimate.settings import Options
from acclimate.training.options import EncoderConfig, RunTasks
from acclimate.training.precision import resolve_device, resolve_precision
from acclimate.training.retaining import candidates
from stages.command import Out, StageContext, main

_PROBED, _LOSSES = "mean gain over the start, of linear probes on every task's dev rows", "mean of the held-out losses, negated"
logger = logging.getLogger("stages.retain")


class Params(Options):
    """What this stage reads."""

    uses_components: ClassVar[bool] = True

    seed: int
    pretrain: dict[str, Any]
    encoders: dict[str, EncoderConfig]
    runs: RunTasks
    tasks: dict[str, TaskConfig]

    @classmethod
    def narrowed(cls, sections: dict[str, Any]) -> dict[str, Any]:
        """The tasks of `runs` alone, so that another recipe, seed or task changes nothing of the encoder."""
        runs = sections["runs"]
        named = RunTasks(tasks=runs.tasks, single_seed_tasks=runs.single_seed_tasks)
        return {**sections, "runs": named, "tasks": {name: sections["tasks"][name] for name in named.all_tasks}}


def run(
    params: Params, *, encoder_name: str, start_from: Path, pretrain: Path, tables: Path, verdict: Path, out: Out, context: StageContext
) -> None:
    """Write the encoder that is kept.

    Args:
        encoder_name: its name under `encoders`.
        start_from: directory of the encoder before pretraining.
        pretrain: what pretraining wrote.
        tables: the ingested tables; the probes see the train and dev rows of each task of `runs`.
        verdict: that the data passed; a dep only.
        out: the encoder, with card.json and retention.json.
    """
    config, device = params.encoders[encoder_name], resolve_device()
    precision = resolve_precision("auto", device)
    seed_everything(params.seed)
    context.record.update(device=str(device), precision=precision.name, threads=set_threads())
    require_lengths(start_from, {f"tasks.{name}.max_length": task.max_length for name, task in params.tasks.items()})
    metrics = artifacts.read_json(pretrain / "metrics.json")
    backbone, after = load_backbone(start_from).to(device), load_backbone(pretrain).to(device).model.state_dict()
    before = {name: tensor.clone() for name, tensor in backbone.model.state_dict().items()}
    is_choice = len(metrics["candidates"]) > 1
    tasks = params.runs.all_tasks if config.retain_by == "probe" and is_choice else []
    probes = {task: dev_probe(tables / task, start_from, params.tasks[task], precision=precision) for task in tasks}
    metric_of = {task: read_schema(tables / task).metric for task in tasks}
    of_start = {task: probe(backbone) for task, probe in probes.items()}
    tried: list[dict[str, Any]] = []
    for name, state in candidates(config.retention, before, after):
        backbone.model.load_state_dict(state)
        gains = {task: gain(of_start[task], probe(backbone), metric_of[task], seed=params.seed) for task, probe in probes.items()}
        losses = metrics["candidates"][name]
        by_task = {task: {"metric": metric_of[task], **asdict(found)} for task, found in gains.items()}
        tried.append({"name": name, **_judged(list(gains.values()), losses), "tasks": by_task, **losses})
        logger.info("%s: %s %.4f, %s", name, "probe" if probes else "loss", tried[-1]["score"], losses)
    best = max(tried, key=lambda each: each["score"])
    backbone.model.load_state_dict(dict(candidates(config.retention, before, after))[best["name"]])
    save_backbone(backbone, start_from, out)
    shutil.copyfile(start_from / SOURCE, out / SOURCE)
    criterion = _PROBED if probes else _LOSSES if is_choice else _LOSSES + ", which chose nothing: there is one candidate"
    methods = [chosen.name for chosen in config.retention]
    artifacts.write_json(out / "retention.json", {"methods": methods, "criterion": criterion, "chosen": best["name"], "candidates": tried})
    artifacts.write_json(
        out / "card.json",
        {
            "start": config.start,
            "text": config.text,
            "objectives": {chosen.name: metrics["members"][chosen.name] for chosen in config.objectives},
            "tokens": metrics["tokens"],
            "kept": best["name"],
        },
    )
    context.final_metrics.update({name: float(value) for name, value in best.items() if isinstance(value, float)})
    context.artifacts.append(out / "retention.json")


def _judged(gains: list[Gain], losses: dict[str, float]) -> dict[str, float]:
    """The mean gain over the tasks with its standard error; without tasks the mean loss, negated."""
    if not gains:
        return {"score": -fmean(value for name, value in losses.items() if "/" not in name)}
    error = math.sqrt(sum(each.standard_error**2 for each in gains)) / len(gains)
    return {"score": fmean(each.gain for each in gains), "standard_error": error}


if __name__ == "__main__":
    main(run, Params)
