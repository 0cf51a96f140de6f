"""A task judged: scores over seeds, every variant against the reference and the baseline, and one honest sentence each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import fmean, stdev
from typing import Any, Literal, TypeVar

from acclimate import kinds
from acclimate.data.labelled import TableSchema
from acclimate.evaluation.baselines import Baseline
from acclimate.evaluation.calibration import CalibrationBin, calibration_bins, expected_calibration_error
from acclimate.evaluation.metrics import RowStatistics, row_statistics, score
from acclimate.evaluation.options import EvaluateConfig
from acclimate.evaluation.predictions import Predictions, require_same_rows
from acclimate.evaluation.significance import Comparison, PairedComparison, compare, holm
from acclimate.training.options import Variant

Value = TypeVar("Value")
Run = tuple[Variant, int]
"""A variant and a seed."""

Decision = Literal["better", "worse", "no difference shown"]

METHOD = (
    "paired bootstrap over test rows and seeds, percentile interval (Efron and Tibshirani 1993; Koehn 2004; Dror et al. 2018); "
    "p adjusted over all comparisons by Holm 1979"
)


@dataclass(frozen=True)
class TaskJudgement:
    """What the evaluate stage found out about one task."""

    kind: str
    metric: str
    scores: dict[Run, dict[str, dict[str, float]]]
    """For each run and split, every metric."""
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
        """Mean, standard deviation and each seed's value of every test metric. One seed has no deviation."""
        seeds = {seed: splits["test"] for (each, seed), splits in self.scores.items() if each == variant}
        found: dict[str, dict[str, Any]] = {}
        for metric in kinds.metric_names(self.kind):
            values = [scores[metric] for scores in seeds.values()]
            found[metric] = {"mean": fmean(values), "seeds": {str(seed): scores[metric] for seed, scores in seeds.items()}}
            if len(values) > 1:
                found[metric]["std"] = stdev(values)
        return found

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
    statistics = {run: row_statistics(schema.kind, each.gold, each.predictions, labels=schema.labels) for run, each in tests.items()}
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


def _best_on_dev(scores: Mapping[Run, Mapping[str, Mapping[str, float]]], schema: TableSchema, reference: Variant) -> Run:
    """As export chooses: best dev metric, of equal ones not the reference's, then the first in params.yaml."""
    sign = -1.0 if kinds.higher_is_better(schema.kind, schema.metric) else 1.0
    return min(scores, key=lambda run: (sign * scores[run]["dev"][schema.metric], run[0] == reference))


def _by_variant(values: Mapping[Run, Value]) -> dict[Variant, dict[int, Value]]:
    """The values of each variant by seed."""
    found: dict[Variant, dict[int, Value]] = {}
    for (variant, number), value in values.items():
        found.setdefault(variant, {})[number] = value
    return found


def _differences(
    statistics: Mapping[Run, RowStatistics], reference: Variant, config: EvaluateConfig, seed: int
) -> dict[Variant, PairedComparison]:
    """Each variant minus the reference, paired by row and by seed."""
    by_variant = _by_variant(statistics)
    before = by_variant.pop(reference, {})
    return {
        variant: compare(
            *([side[number] for number in sorted({*before, *after})] for side in (before, after)),
            samples=config.bootstrap_samples,
            confidence=config.confidence,
            seed=seed,
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
    """Comparisons.json: every interval, p adjusted over all variants and tasks, and one sentence a comparison."""
    compared = {
        (task, variant): difference.by_metric[each.metric]
        for task, each in judged.items()
        for variant, difference in each.differences.items()
    }
    adjusted = holm({pair: each.p for pair, each in compared.items()})
    tasks: dict[str, Any] = {}
    for task, each in judged.items():
        found: dict[str, Any] = {"metric": each.metric, "confusion_of": each.confusion_of, "variants": {}}
        found["over_baseline"] = {variant.name: asdict(over.by_metric[each.metric]) for variant, over in each.over_baseline.items()}
        for variant, difference in each.differences.items():
            p_holm, lower_is_better = adjusted[task, variant], not kinds.higher_is_better(each.kind, each.metric)
            decision = decide(compared[task, variant], p_holm, config.confidence, lower_is_better=lower_is_better)
            found["variants"][variant.name] = {
                "decision": decision,
                "p_holm": p_holm,
                "rows": difference.rows,
                "seeds": difference.seeds,
                "seeds_resampled": difference.seeds_resampled,
                "difference": {metric: asdict(value) for metric, value in difference.by_metric.items()},
                "verdict": _sentence(each, variant, decision, p_holm if len(compared) > 1 else None, config.confidence),
            }
        if not each.differences:
            found["verdict"] = f"only {each.reference.name} was fine-tuned (runs): nothing to compare"
        tasks[task] = found
    reference = next(iter(judged.values())).reference.name
    told = {"samples": config.bootstrap_samples, "confidence": config.confidence, "comparisons": len(compared)}
    return {"method": METHOD, "reference": reference, **told, "tasks": tasks}


def decide(difference: Comparison, p: float, confidence: float, *, lower_is_better: bool) -> Decision:
    """Whether the adjusted p and the interval both exclude zero, and on which side."""
    if p > 1 - confidence or difference.low <= 0 <= difference.high:
        return "no difference shown"
    return "better" if (difference.mean > 0) != lower_is_better else "worse"


def _sentence(judged: TaskJudgement, variant: Variant, decision: Decision, p_holm: float | None, confidence: float) -> str:
    difference = judged.differences[variant]
    each = difference.by_metric[judged.metric]
    compared = "no difference shown between {} and {}" if decision == "no difference shown" else f"{{}} is {decision} than {{}}"
    numbers = f"{judged.metric} {each.mean:+.3f}, {confidence:.0%} interval {each.low:+.3f} to {each.high:+.3f}, p {format_p(each.p)}"
    holm_note = f" ({format_p(p_holm)} after Holm)" if p_holm is not None else ""
    scope = f"{difference.seeds} seeds" if difference.seeds_resampled else "one seed: seeds were not resampled"
    return f"{compared.format(variant.name, judged.reference.name)}: {numbers}{holm_note}; {difference.rows} test rows, {scope}"


def format_p(p: float) -> str:
    """P as text: `0.012`, `< 0.001`."""
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"
