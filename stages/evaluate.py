"""Score every fine-tuned run by the official metrics, and say with intervals which variants are better than the reference."""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

from acclimate import artifacts
from acclimate.data.labelled import read_schema
from acclimate.errors import DataError
from acclimate.evaluation import judgement
from acclimate.evaluation.baselines import fit_baseline
from acclimate.evaluation.judgement import Run, TaskJudgement, judge_task
from acclimate.evaluation.options import EvaluateConfig
from acclimate.evaluation.overfitting import overfitting_sentences
from acclimate.evaluation.predictions import read_predictions
from acclimate.settings import Options
from acclimate.training.options import RunsConfig
from stages.command import Out, StageContext, main

logger = logging.getLogger("stages.evaluate")


class Params(Options):
    """What this stage reads."""

    seed: int
    evaluate: EvaluateConfig
    runs: RunsConfig


def run(params: Params, *, finetune: Path, ingest_tables: Path, verdict: Path, out: Out, context: StageContext) -> None:
    """Judge each task.

    Args:
        finetune: the fine-tuned runs, `<task>/<encoder>-<recipe>-<seed>` each; only those that params.yaml names are read.
        ingest_tables: the ingested tables; the baselines are fitted on their train rows.
        verdict: that the data passed, and whether the corpus was checked against dev and test.
        out: metrics, comparisons, confusions, calibration, baselines.

    Raises:
        DataError: a run that params.yaml names is missing, two runs of a task predict different rows, or the corpus was not checked
            against the rows that are scored here.
    """
    _require_decontaminated(verdict, params.evaluate)
    judged: dict[str, TaskJudgement] = {}
    for task in params.runs.all_tasks:
        schema = read_schema(ingest_tables / task)
        names: list[Run] = [(variant, seed) for variant in params.runs.variants for seed in params.runs.seeds_of(task)]
        runs = {(variant, seed): read_predictions(finetune / task / f"{variant.name}-{seed}") for variant, seed in names}
        baseline = fit_baseline(ingest_tables / task, schema.kind, schema.labels, metric=schema.metric)
        judged[task] = judge_task(schema, runs, baseline, params.evaluate, reference=params.runs.reference, seed=params.seed)
    comparisons = judgement.compare_tasks(judged, params.evaluate)
    comparisons["overfitting"] = overfitting_sentences(finetune, params.runs)
    _say(comparisons)
    artifacts.write_json(out / "metrics.json", {task: each.metrics() for task, each in judged.items()})
    artifacts.write_json(out / "comparisons.json", comparisons)
    artifacts.write_json(out / "baselines.json", {task: each.baseline_card() for task, each in judged.items()})
    artifacts.write_csv(
        out / "scores.csv",
        ["task", "encoder", "recipe", "seed", "split", "metric", "value"],
        [row for task, each in judged.items() for row in each.score_rows(task)],
    )
    for task, each in judged.items():
        if each.confusion is not None:
            artifacts.write_csv(out / f"confusion_{task}.csv", ["actual", "predicted"], each.confusion)
        if each.calibration:
            rows = [{"variant": variant.name, **_rename(asdict(bin_))} for variant, bins in each.calibration.items() for bin_ in bins]
            artifacts.write_csv(out / f"calibration_{task}.csv", list(rows[0]), rows)
    confusions = [each.confusion for each in judged.values() if each.confusion is not None]
    artifacts.write_csv(out / "confusion.csv", ["actual", "predicted"], confusions[0] if confusions else [])
    headline: dict[str, Any] = {
        task: {each.metric: _headline(each, comparisons["tasks"][task]["variants"])} for task, each in judged.items()
    }
    if comparisons["mean_over_tasks"]:
        headline["mean over tasks"] = _headline_of_means(comparisons["mean_over_tasks"])
    artifacts.write_json(out / "headline.json", headline)
    context.final_metrics.update(_flat(judged))
    context.artifacts += [out / name for name in ("metrics.json", "comparisons.json", "baselines.json", "scores.csv")]


def _say(comparisons: dict[str, Any]) -> None:
    for task, found in comparisons["tasks"].items():
        for compared in found["variants"].values() or [found]:
            logger.info("%s: %s", task, compared["sentence"])
    for mean in comparisons["mean_over_tasks"]:
        logger.info("%s", mean["sentence"])
    for each in comparisons["missing"]:
        logger.warning("%s: %s of %s is missing: %s", each["task"], each["metric"], each["variant"], each["reason"])
    for line in comparisons["overfitting"]:
        logger.warning("%s", line)


def _require_decontaminated(verdict: Path, config: EvaluateConfig) -> None:
    """A score on text that the encoder may have been trained on says nothing."""
    if artifacts.read_json(verdict)["corpus_decontaminated"]:
        return
    problem = "the corpus was not checked against the dev and test texts (ingest.decontamination.enabled is false)"
    if not config.allow_unchecked_corpus:
        raise DataError(
            f"{problem}; no score is given. Enable it, or set evaluate.allow_unchecked_corpus: true, and the report will say so"
        )
    logger.warning("%s; scores of encoders trained on it may be too high", problem)


def _rename(bin_: dict[str, Any]) -> dict[str, Any]:
    return {"bin_lower": bin_.pop("lower"), "bin_upper": bin_.pop("upper"), **bin_}


def _headline(judged: TaskJudgement, compared: dict[str, Any]) -> dict[str, float]:
    """The deciding metric on test, few enough numbers for a line of `dvc metrics show`."""
    scores = {"baseline": judged.baseline.scores["test"].get(judged.metric)}
    scores |= {variant.name: judged.summary(variant).get(judged.metric, {}).get("mean") for variant in judged.variants}
    found = {name: value for name, value in scores.items() if value is not None}
    for variant, each in judged.differences.items():
        if difference := each.by_metric.get(judged.metric):
            found |= {f"{variant.name} difference": difference.mean, f"{variant.name} p": compared[variant.name]["p_holm"]}
    return found


def _headline_of_means(means: list[dict[str, Any]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for each in means:
        found |= {f"{each['variant']} difference": each["difference"]["mean"], f"{each['variant']} p": each["p_holm"]}
    return found


def _flat(judged: dict[str, TaskJudgement]) -> dict[str, float]:
    """The deciding metric of each task for the tracker."""
    flat = {}
    for task, each in judged.items():
        for variant in each.variants:
            if found := each.summary(variant).get(each.metric):
                flat[f"{task}/{variant.name}/{each.metric}"] = found["mean"]
        if each.metric in each.baseline.scores["test"]:
            flat[f"{task}/baseline/{each.metric}"] = each.baseline.scores["test"][each.metric]
        for variant, compared in each.differences.items():
            if difference := compared.by_metric.get(each.metric):
                flat |= {f"{task}/{variant.name}/difference/{name}": value for name, value in asdict(difference).items()}
    return flat


if __name__ == "__main__":
    main(run, Params)
