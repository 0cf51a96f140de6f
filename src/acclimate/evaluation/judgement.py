"""A task judged: scores over seeds, base against adapted, both against the baseline, and one honest sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import fmean, stdev
from typing import Any, Literal

from acclimate import kinds
from acclimate.data.labelled import TableSchema
from acclimate.evaluation.baselines import Baseline
from acclimate.evaluation.calibration import CalibrationBin, calibration_bins, expected_calibration_error
from acclimate.evaluation.metrics import RowStatistics, row_statistics, score
from acclimate.evaluation.options import EvaluateConfig
from acclimate.evaluation.predictions import Predictions, require_same_rows
from acclimate.evaluation.significance import Comparison, PairedComparison, compare, holm

Run = tuple[str, int]
"""An encoder's name and a seed."""

Decision = Literal["helps", "hurts", "no difference shown"]

METHOD = (
    "paired bootstrap over test rows and seeds, percentile interval (Efron and Tibshirani 1993; Koehn 2004; Dror et al. 2018); "
    "p adjusted over tasks by Holm 1979"
)


@dataclass(frozen=True)
class TaskJudgement:
    """What the evaluate stage found out about one task."""

    kind: str
    metric: str
    scores: dict[Run, dict[str, dict[str, float]]]
    """For each run and split, every metric."""
    baseline: Baseline
    difference: PairedComparison | None
    """Adapted minus base; None where only one of them was fine-tuned."""
    over_baseline: dict[str, PairedComparison]
    calibration: dict[str, list[CalibrationBin]]
    """Bins by encoder, over all its seeds; empty for kinds without probabilities."""
    calibration_error: dict[str, float]
    """Mean over seeds, by encoder."""
    confusion_of: str | None
    confusion: list[dict[str, str]] | None
    """Where a row has one label: actual and predicted one of each test row, of the run that is best on dev."""

    @property
    def encoders(self) -> list[str]:
        """Encoders that were fine-tuned, in the order of params.yaml."""
        return list(dict.fromkeys(encoder for encoder, _ in self.scores))

    def summary(self, encoder: str) -> dict[str, dict[str, Any]]:
        """Mean, standard deviation and each seed's value of every test metric. One seed has no deviation."""
        seeds = {seed: splits["test"] for (name, seed), splits in self.scores.items() if name == encoder}
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
        found |= {encoder: self.summary(encoder) for encoder in self.encoders}
        if self.difference:
            found["difference"] = {metric: asdict(each) for metric, each in self.difference.by_metric.items()}
        if self.calibration_error:
            found["calibration_error"] = self.calibration_error
        return found

    def baseline_card(self) -> dict[str, Any]:
        """The task's part of baselines.json."""
        return {
            "method": self.baseline.description,
            "inverse_penalty": self.baseline.inverse_penalty,
            **{split: self.baseline.scores[split] for split in ("dev", "test")},
        }

    def score_rows(self, task: str) -> list[dict[str, Any]]:
        """Long rows for scores.csv; the baseline is an encoder without a seed."""
        runs: list[tuple[str, int | str, dict[str, dict[str, float]]]] = [("baseline", "", self.baseline.scores)]
        runs += [(encoder, seed, splits) for (encoder, seed), splits in self.scores.items()]
        return [
            {"task": task, "encoder": encoder, "seed": seed, "split": split, "metric": metric, "value": value}
            for encoder, seed, splits in runs
            for split, values in splits.items()
            for metric, value in values.items()
        ]


def judge_task(
    schema: TableSchema, runs: Mapping[Run, Mapping[str, Predictions]], baseline: Baseline, config: EvaluateConfig, *, seed: int
) -> TaskJudgement:
    """Score all runs of a task and compare them.

    Args:
        runs: dev and test predictions of each (encoder, seed).
        seed: of the resampling.

    Raises:
        DataError: runs predict different rows, or rows that the baseline does not.
    """
    tests = {run: splits["test"] for run, splits in runs.items()}
    require_same_rows({f"{schema.name}/{encoder}-{number}": each for (encoder, number), each in tests.items()})
    statistics = {run: row_statistics(schema.kind, each.gold, each.predictions, labels=schema.labels) for run, each in tests.items()}
    scores = {
        run: {split: score(schema.kind, each.gold, each.predictions, labels=schema.labels) for split, each in splits.items()}
        for run, splits in runs.items()
    }
    best = _best_on_dev(scores, schema)
    confusion = kinds.metrics(schema.kind).confusion(tests[best].gold, tests[best].predictions, schema.labels)
    return TaskJudgement(
        kind=schema.kind,
        metric=schema.metric,
        scores=scores,
        baseline=baseline,
        difference=_difference(statistics, config, seed),
        over_baseline=_over_baseline(statistics, schema, baseline, config, seed),
        calibration=_pooled_bins(schema.kind, tests, config.calibration_bins),
        calibration_error=_calibration_error(schema.kind, tests, config.calibration_bins),
        confusion_of=f"{best[0]}-{best[1]}" if confusion is not None else None,
        confusion=confusion,
    )


def _best_on_dev(scores: Mapping[Run, Mapping[str, Mapping[str, float]]], schema: TableSchema) -> Run:
    """As export chooses: best dev metric, of equal ones the adapted encoder's, then the lowest seed's."""
    sign = -1.0 if kinds.higher_is_better(schema.kind, schema.metric) else 1.0
    return min(scores, key=lambda run: (sign * scores[run]["dev"][schema.metric], run[0] != "adapted", run[1]))


def _difference(statistics: Mapping[Run, RowStatistics], config: EvaluateConfig, seed: int) -> PairedComparison | None:
    seeds = sorted({number for _, number in statistics})
    if {encoder for encoder, _ in statistics} != {"base", "adapted"}:
        return None
    before, after = ([statistics[encoder, number] for number in seeds] for encoder in ("base", "adapted"))
    return compare(before, after, samples=config.bootstrap_samples, confidence=config.confidence, seed=seed)


def _over_baseline(
    statistics: Mapping[Run, RowStatistics], schema: TableSchema, baseline: Baseline, config: EvaluateConfig, seed: int
) -> dict[str, PairedComparison]:
    """Each encoder minus the baseline, which has no seed and stands against every seed."""
    before = row_statistics(schema.kind, baseline.test_gold, baseline.test_predictions, labels=schema.labels)
    found = {}
    for encoder in dict.fromkeys(encoder for encoder, _ in statistics):
        after = [each for (name, _), each in statistics.items() if name == encoder]
        found[encoder] = compare([before] * len(after), after, samples=config.bootstrap_samples, confidence=config.confidence, seed=seed)
    return found


def _pooled_bins(kind: str, tests: Mapping[Run, Predictions], num_bins: int) -> dict[str, list[CalibrationBin]]:
    pooled = {}
    for encoder in dict.fromkeys(encoder for encoder, _ in tests):
        parts = [each for (name, _), each in tests.items() if name == encoder]
        gold, predictions = [row for part in parts for row in part.gold], [row for part in parts for row in part.predictions]
        if bins := calibration_bins(kind, gold, predictions, num_bins=num_bins):
            pooled[encoder] = bins
    return pooled


def _calibration_error(kind: str, tests: Mapping[Run, Predictions], num_bins: int) -> dict[str, float]:
    errors: dict[str, list[float]] = {}
    for (encoder, _), each in tests.items():
        if bins := calibration_bins(kind, each.gold, each.predictions, num_bins=num_bins):
            errors.setdefault(encoder, []).append(expected_calibration_error(bins))
    return {encoder: fmean(values) for encoder, values in errors.items()}


def compare_tasks(judged: Mapping[str, TaskJudgement], config: EvaluateConfig) -> dict[str, Any]:
    """Comparisons.json: every interval, p adjusted over tasks, and one sentence a task."""
    compared = {task: each.difference.by_metric[each.metric] for task, each in judged.items() if each.difference}
    adjusted = holm({task: each.p for task, each in compared.items()})
    tasks: dict[str, Any] = {}
    for task, each in judged.items():
        found: dict[str, Any] = {"metric": each.metric, "confusion_of": each.confusion_of}
        found["over_baseline"] = {encoder: asdict(over.by_metric[each.metric]) for encoder, over in each.over_baseline.items()}
        if each.difference:
            lower_is_better = not kinds.higher_is_better(each.kind, each.metric)
            decision = decide(compared[task], adjusted[task], config.confidence, lower_is_better=lower_is_better)
            found |= {
                "decision": decision,
                "p_holm": adjusted[task],
                "rows": each.difference.rows,
                "seeds": each.difference.seeds,
                "seeds_resampled": each.difference.seeds_resampled,
                "difference": {metric: asdict(value) for metric, value in each.difference.by_metric.items()},
            }
            p_holm = adjusted[task] if len(compared) > 1 else None
            found["verdict"] = _sentence(each.metric, each.difference, decision, p_holm, config.confidence)
        else:
            found["verdict"] = f"only {each.encoders[0]} was fine-tuned (runs.encoders): nothing to compare"
        tasks[task] = found
    return {"method": METHOD, "samples": config.bootstrap_samples, "confidence": config.confidence, "tasks": tasks}


def decide(difference: Comparison, p: float, confidence: float, *, lower_is_better: bool) -> Decision:
    """Whether the adjusted p and the interval both exclude zero, and on which side."""
    if p > 1 - confidence or difference.low <= 0 <= difference.high:
        return "no difference shown"
    return "helps" if (difference.mean > 0) != lower_is_better else "hurts"


def _sentence(metric: str, difference: PairedComparison, decision: Decision, p_holm: float | None, confidence: float) -> str:
    each = difference.by_metric[metric]
    start = {"helps": "adaptation helps", "hurts": "adaptation hurts", "no difference shown": "no difference shown"}[decision]
    numbers = f"{metric} {each.mean:+.3f}, {confidence:.0%} interval {each.low:+.3f} to {each.high:+.3f}, p {format_p(each.p)}"
    holm_note = f" ({format_p(p_holm)} after Holm)" if p_holm is not None else ""
    scope = f"{difference.seeds} seeds" if difference.seeds_resampled else "one seed: seeds were not resampled"
    return f"{start}: {numbers}{holm_note}; {difference.rows} test rows, {scope}"


def format_p(p: float) -> str:
    """P as text: `0.012`, `< 0.001`."""
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"
