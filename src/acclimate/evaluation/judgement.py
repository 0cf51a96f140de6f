"""A task judged: scores over seeds, every variant against the reference and the baseline, and one honest sentence each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import fmean, stdev
from typing import Any, TypeVar

from acclimate import kinds
from acclimate.data.labelled import TableSchema
from acclimate.errors import DataError, ModelError
from acclimate.evaluation.baselines import Baseline
from acclimate.evaluation.calibration import CalibrationBin, calibration_bins, expected_calibration_error
from acclimate.evaluation.metrics import RowStatistics, goodness, row_statistics, score
from acclimate.evaluation.options import EvaluateConfig
from acclimate.evaluation.predictions import Predictions, require_same_rows
from acclimate.evaluation.significance import Comparison, PairedComparison, compare, mean_of
from acclimate.evaluation.verdicts import Judged, judge, scope_of, sentence
from acclimate.training.options import Variant

Value = TypeVar("Value")
_MEAN = "mean_over_tasks"
Run = tuple[Variant, int]
"""A variant and a seed."""

METHOD = (
    "paired bootstrap over test rows (Efron and Tibshirani 1993; Koehn 2004) with the variance between seeds added to it (Owen 2007; "
    "Dror et al. 2018), Student's interval (Satterthwaite 1946); equivalence by two one-sided tests (Schuirmann 1987); p adjusted over all "
    "comparisons by Holm 1979"
)
Missing = dict[str, str]
"""A figure that is missing: variant, metric, reason. comparisons.json adds the task."""


@dataclass(frozen=True)
class TaskJudgement:
    """What the evaluate stage found out about one task."""

    kind: str
    metric: str
    scores: dict[Run, dict[str, dict[str, float]]]
    """For each run and split, every metric that is defined."""
    baseline: Baseline
    reference: Variant
    differences: dict[Variant, PairedComparison]
    """Each other variant minus the reference."""
    over_baseline: dict[Variant, PairedComparison]
    calibration: dict[Variant, list[CalibrationBin]]
    """Bins over all seeds of a variant; empty for kinds without probabilities."""
    calibration_error: dict[Variant, float]
    """Mean over seeds."""
    confusion_of: str | None
    confusion: list[dict[str, str]] | None
    """Where a row has one label: actual and predicted one of each test row, of the run that is best on dev."""

    @property
    def variants(self) -> list[Variant]:
        """Those that were fine-tuned, in the order of params.yaml."""
        return list(dict.fromkeys(variant for variant, _ in self.scores))

    def summary(self, variant: Variant) -> dict[str, dict[str, Any]]:
        """Mean, standard deviation and each seed's value of every test metric that all seeds have. One seed has no deviation."""
        seeds = {seed: splits["test"] for (each, seed), splits in self.scores.items() if each == variant}
        found: dict[str, dict[str, Any]] = {}
        for metric in kinds.metric_names(self.kind):
            if any(metric not in scores for scores in seeds.values()):
                continue
            values = [scores[metric] for scores in seeds.values()]
            found[metric] = {"mean": fmean(values), "seeds": {str(seed): scores[metric] for seed, scores in seeds.items()}}
            if len(values) > 1:
                found[metric]["std"] = stdev(values)
        return found

    @property
    def missing(self) -> list[Missing]:
        """Figures that cannot be computed, with their reasons: scores on test, and differences."""
        found: dict[tuple[str, str], str] = {}
        for metric in kinds.metric_names(self.kind):
            for (variant, seed), splits in self.scores.items():
                if metric not in splits["test"]:
                    found.setdefault((variant.name, metric), f"{kinds.why_undefined(self.kind, metric)}: seed {seed}")
            if metric not in self.baseline.scores["test"]:
                found["baseline", metric] = kinds.why_undefined(self.kind, metric)
        for variant, difference in self.differences.items():
            for metric, reason in difference.missing.items():
                found.setdefault((variant.name, metric), f"no difference to {self.reference.name}: {reason}")
        return [{"variant": variant, "metric": metric, "reason": reason} for (variant, metric), reason in found.items()]

    def metrics(self) -> dict[str, Any]:
        """The task's part of metrics.json."""
        found: dict[str, Any] = {"metric": self.metric, "baseline": {"test": self.baseline.scores["test"]}}
        found |= {"reference": self.reference.name, "variants": {variant.name: self.summary(variant) for variant in self.variants}}
        if self.calibration_error:
            found["calibration_error"] = {variant.name: error for variant, error in self.calibration_error.items()}
        return found

    def baseline_card(self) -> dict[str, Any]:
        """The task's part of baselines.json."""
        return {
            "method": self.baseline.description,
            "inverse_penalty": self.baseline.inverse_penalty,
            **{split: self.baseline.scores[split] for split in ("dev", "test")},
        }

    def score_rows(self, task: str) -> list[dict[str, Any]]:
        """Long rows for scores.csv; the baseline is an encoder without a recipe and a seed."""
        runs: list[tuple[str, str, int | str, dict[str, dict[str, float]]]] = [("baseline", "", "", self.baseline.scores)]
        runs += [(variant.encoder, variant.recipe, seed, splits) for (variant, seed), splits in self.scores.items()]
        return [
            {"task": task, "encoder": encoder, "recipe": recipe, "seed": seed, "split": split, "metric": metric, "value": value}
            for encoder, recipe, seed, splits in runs
            for split, values in splits.items()
            for metric, value in values.items()
        ]


def judge_task(
    schema: TableSchema,
    runs: Mapping[Run, Mapping[str, Predictions]],
    baseline: Baseline,
    config: EvaluateConfig,
    *,
    reference: Variant,
    seed: int,
) -> TaskJudgement:
    """Score all runs of a task and compare them.

    Args:
        runs: dev and test predictions of each variant and seed.
        reference: what the other variants are compared with.
        seed: of the resampling.

    Raises:
        DataError: runs predict different rows, or rows that the baseline does not.
    """
    tests = {run: splits["test"] for run, splits in runs.items()}
    require_same_rows({f"{schema.name}/{variant.name}-{number}": each for (variant, number), each in tests.items()})
    statistics = {run: _statistics(schema, run, each) for run, each in tests.items()}
    scores = {
        run: {split: score(schema.kind, each.gold, each.predictions, labels=schema.labels) for split, each in splits.items()}
        for run, splits in runs.items()
    }
    best = _best_on_dev(scores, schema, reference)
    confusion = kinds.metrics(schema.kind).confusion(tests[best].gold, tests[best].predictions, schema.labels)
    return TaskJudgement(
        kind=schema.kind,
        metric=schema.metric,
        scores=scores,
        baseline=baseline,
        reference=reference,
        differences=_differences(statistics, reference, config, seed),
        over_baseline=_over_baseline(statistics, schema, baseline, config, seed),
        calibration=_pooled_bins(schema.kind, tests, config.calibration_bins),
        calibration_error=_calibration_error(schema.kind, tests, config.calibration_bins),
        confusion_of=f"{best[0].name}-{best[1]}" if confusion is not None else None,
        confusion=confusion,
    )


def _statistics(schema: TableSchema, run: Run, found: Predictions) -> RowStatistics:
    """What the metrics sum over; an error names the run."""
    try:
        return row_statistics(schema.kind, found.gold, found.predictions, labels=schema.labels)
    except (DataError, ModelError) as error:
        raise type(error)(f"{schema.name}/{run[0].name}-{run[1]}: {error}") from None


def _best_on_dev(scores: Mapping[Run, Mapping[str, Mapping[str, float]]], schema: TableSchema, reference: Variant) -> Run:
    """As export chooses: best dev metric, of equal ones not the reference's, then the first in params.yaml."""
    return min(scores, key=lambda run: (-goodness(scores[run]["dev"], schema.kind, schema.metric), run[0] == reference))


def _by_variant(values: Mapping[Run, Value]) -> dict[Variant, dict[int, Value]]:
    """The values of each variant by seed."""
    found: dict[Variant, dict[int, Value]] = {}
    for (variant, number), value in values.items():
        found.setdefault(variant, {})[number] = value
    return found


def _differences(
    statistics: Mapping[Run, RowStatistics], reference: Variant, config: EvaluateConfig, seed: int
) -> dict[Variant, PairedComparison]:
    """Each variant minus the reference, paired by row. A seed gives two encoders nothing in common that would pair them by seed too."""
    by_variant = _by_variant(statistics)
    before = by_variant.pop(reference, {})
    return {
        variant: compare(
            *([side[number] for number in sorted({*before, *after})] for side in (before, after)),
            samples=config.bootstrap_samples,
            confidence=config.confidence,
            seed=seed,
            paired_seeds=False,
        )
        for variant, after in by_variant.items()
        if before
    }


def _over_baseline(
    statistics: Mapping[Run, RowStatistics], schema: TableSchema, baseline: Baseline, config: EvaluateConfig, seed: int
) -> dict[Variant, PairedComparison]:
    """Each variant minus the baseline, which has no seed and stands against every seed."""
    before = row_statistics(schema.kind, baseline.test_gold, baseline.test_predictions, labels=schema.labels)
    return {
        variant: compare(
            [before] * len(after), [*after.values()], samples=config.bootstrap_samples, confidence=config.confidence, seed=seed
        )
        for variant, after in _by_variant(statistics).items()
    }


def _pooled_bins(kind: str, tests: Mapping[Run, Predictions], num_bins: int) -> dict[Variant, list[CalibrationBin]]:
    pooled = {}
    for variant, parts in _by_variant(tests).items():
        gold, predictions = (
            [row for part in parts.values() for row in part.gold],
            [row for part in parts.values() for row in part.predictions],
        )
        if bins := calibration_bins(kind, gold, predictions, num_bins=num_bins):
            pooled[variant] = bins
    return pooled


def _calibration_error(kind: str, tests: Mapping[Run, Predictions], num_bins: int) -> dict[Variant, float]:
    errors: dict[Variant, list[float]] = {}
    for (variant, _), each in tests.items():
        if bins := calibration_bins(kind, each.gold, each.predictions, num_bins=num_bins):
            errors.setdefault(variant, []).append(expected_calibration_error(bins))
    return {variant: fmean(values) for variant, values in errors.items()}


def compare_tasks(judged: Mapping[str, TaskJudgement], config: EvaluateConfig) -> dict[str, Any]:
    """Comparisons.json: every interval, verdicts over all variants and tasks together, and one sentence a comparison."""
    reference = next(iter(judged.values())).reference.name
    compared: dict[tuple[str, str], Comparison] = {
        (task, variant.name): difference.by_metric[each.metric]
        for task, each in judged.items()
        for variant, difference in each.differences.items()
        if each.metric in difference.by_metric
    }
    lower = {key: not kinds.higher_is_better(judged[key[0]].kind, judged[key[0]].metric) for key in compared}
    averaged = _averaged(compared, lower)
    means = {name: mean_of([compared[task, name] for task in tasks], confidence=config.confidence) for name, tasks in averaged.items()}
    everything = {**compared, **{(_MEAN, name): mean for name, mean in means.items()}}
    verdicts = judge(
        everything, confidence=config.confidence, margin=config.margin, lower_is_better=dict.fromkeys(everything, False) | lower
    )
    settings = {
        "samples": config.bootstrap_samples,
        "confidence": config.confidence,
        "margin": config.margin,
        "comparisons": len(everything),
    }
    return {
        "method": METHOD,
        "reference": reference,
        **settings,
        "tasks": {task: _of_task(task, each, verdicts, config) for task, each in judged.items()},
        "mean_over_tasks": [
            _of_mean(name, tasks, verdicts[_MEAN, name], reference, [judged[task] for task in tasks], config)
            for name, tasks in averaged.items()
        ],
        "left_out_of_mean": [
            {"task": task, "reason": f"{each.metric} is better when lower, and has a unit"}
            for task, each in judged.items()
            if not kinds.higher_is_better(each.kind, each.metric)
        ],
        "missing": [{"task": task, **missing} for task, each in judged.items() for missing in each.missing],
    }


def _averaged(compared: Mapping[tuple[str, str], Comparison], lower_is_better: Mapping[tuple[str, str], bool]) -> dict[str, list[str]]:
    """For each variant the tasks whose metrics can be averaged; a mean over one task is none."""
    found: dict[str, list[str]] = {}
    for task, name in compared:
        if not lower_is_better[task, name]:
            found.setdefault(name, []).append(task)
    return {name: tasks for name, tasks in found.items() if len(tasks) > 1}


def _of_task(task: str, each: TaskJudgement, verdicts: Mapping[tuple[str, str], Judged], config: EvaluateConfig) -> dict[str, Any]:
    found: dict[str, Any] = {"metric": each.metric, "confusion_of": each.confusion_of, "variants": {}}
    found["over_baseline"] = {
        variant.name: asdict(over.by_metric[each.metric]) for variant, over in each.over_baseline.items() if each.metric in over.by_metric
    }
    for variant, difference in each.differences.items():
        shown: dict[str, Any] = {"rows": difference.rows, "seeds": difference.seeds}
        shown["differences"] = {metric: asdict(value) for metric, value in difference.by_metric.items()}
        if judged := verdicts.get((task, variant.name)):
            names = {"name": variant.name, "against": each.reference.name, "task": task, "metric": each.metric}
            scope = scope_of(difference.rows, difference.seeds)
            shown |= judged.record(sentence(judged, **names, confidence=config.confidence, scope=scope))
        else:
            shown["sentence"] = f"{variant.name} cannot be compared with {each.reference.name} on {task}: {difference.missing[each.metric]}"
        found["variants"][variant.name] = shown
    if not each.differences:
        found["sentence"] = f"only {each.reference.name} was fine-tuned (runs): nothing to compare"
    return found


def _of_mean(
    name: str, tasks: list[str], judged: Judged, reference: str, judgements: list[TaskJudgement], config: EvaluateConfig
) -> dict[str, Any]:
    """The mean over tasks of a variant minus the reference."""
    rows = sum(len(each.baseline.test_gold) for each in judgements)
    names = {"name": name, "against": reference, "task": f"the mean over {len(tasks)} tasks", "metric": "deciding metric"}
    text = sentence(judged, **names, confidence=config.confidence, scope=f"{rows:,} test rows of {', '.join(tasks)}")
    return {"variant": name, "against": reference, "tasks": tasks, **judged.record(text)}
