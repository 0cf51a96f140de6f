"""Is one better: a paired comparison over test rows and seeds, and Holm's correction over comparisons.

Shapes: K seeds, R rows, S resamples.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from scipy.special import nctdtrinc, stdtr, stdtrit

from acclimate import kinds
from acclimate.errors import DataError
from acclimate.evaluation.arrays import Floats
from acclimate.evaluation.metrics import RowStatistics, resampled_scores

Key = TypeVar("Key")
MAX_UNDEFINED = 0.01
"""Share of resamples on which a metric may be undefined; above it the rest would be no fair sample."""
_MAX_WEIGHTS = 4_000_000
"""Weights held at once, 32 MB."""


@dataclass(frozen=True)
class Comparison:
    """A difference of means over seeds, with its interval and two-sided p."""

    mean: float
    low: float
    high: float
    p: float
    standard_error: float
    degrees_of_freedom: float
    """Of Student's t, by Satterthwaite 1946: near K - 1 where the seeds decide, near R - 1 where the rows do."""

    def p_equivalent(self, margin: float) -> float:
        """P of two one-sided tests that the difference lies within +- margin (Schuirmann 1987, https://doi.org/10.1007/BF01068419)."""
        if self.standard_error == 0:
            return float(abs(self.mean) >= margin)
        return float(stdtr(self.degrees_of_freedom, (abs(self.mean) - margin) / self.standard_error))

    def detectable(self, alpha: float, *, power: float = 0.8) -> float:
        """The difference that a two-sided test at `alpha` finds with this probability, by the noncentral t."""
        limit = stdtrit(self.degrees_of_freedom, 1 - alpha / 2)
        return float(nctdtrinc(self.degrees_of_freedom, 1 - power, limit)) * self.standard_error


@dataclass(frozen=True)
class PairedComparison:
    """Every metric's difference, and over what it was taken."""

    by_metric: dict[str, Comparison]
    rows: int
    seeds: int
    samples: int
    missing: dict[str, str] = field(default_factory=dict)
    """Why a metric has no difference."""


@dataclass(frozen=True)
class Resampled:
    """Scores of K runs of one encoder on the test rows and on S resamples of them, the same for every encoder of a task."""

    kind: str
    rows: int
    observed: dict[str, Floats]
    """For each metric (K,); NaN where it is undefined."""
    resamples: dict[str, Floats]
    """For each metric (S, K); NaN likewise."""


def compare(
    before: Sequence[RowStatistics],
    after: Sequence[RowStatistics],
    *,
    samples: int,
    confidence: float,
    seed: int,
    paired_seeds: bool = True,
) -> PairedComparison:
    """`compare_resampled` of two lists of runs. Arguments and errors as `resampled` and `compare_resampled`."""
    rows = {len(statistics.per_row) for statistics in (*before, *after)}
    if len(before) != len(after) or not before or len(rows) != 1:
        raise DataError(
            f"{len(before)} and {len(after)} runs over {sorted(rows)} rows do not pair up; each seed needs both, over the same rows"
        )
    sides = [resampled(side, samples=samples, seed=seed) for side in (before, after)]
    return compare_resampled(*sides, confidence=confidence, paired_seeds=paired_seeds)


def resampled(statistics: Sequence[RowStatistics], *, samples: int, seed: int, metrics: Sequence[str] | None = None) -> Resampled:
    """Score runs on resamples of the test rows, drawn with replacement and shared by all runs.

    Args:
        statistics: of each seed's predictions; all over the same rows in the same order.
        samples: S, at least 2.
        seed: of the resampling. Sides that are to be compared need the same one.
        metrics: those to keep; all when None.

    Raises:
        DataError: the runs differ in their number of rows.
    """
    rows = {len(each.per_row) for each in statistics}
    if len(rows) != 1:
        raise DataError(f"{len(statistics)} runs over {sorted(rows)} rows do not pair up; each needs the same rows")
    num_rows, kind = rows.pop(), statistics[0].kind
    names = list(metrics or kinds.metric_names(kind))
    generator = np.random.Generator(np.random.PCG64(seed % 2**32))
    observed = _scores(statistics, np.ones((1, num_rows)), names)
    chunks = [_scores(statistics, weights_SR, names) for weights_SR in _resampled_weights(generator, samples, num_rows)]
    scores = {name: np.concatenate([chunk[name] for chunk in chunks]) for name in names}
    return Resampled(kind, num_rows, {name: observed[name][0] for name in names}, scores)


def compare_resampled(
    before: Resampled, after: Resampled, *, confidence: float, paired_seeds: bool = True, pool_variance: float = 0.0
) -> PairedComparison:
    """(after - before) for every metric: the mean over seeds, its standard error over rows and seeds, interval and p.

    Rows are shared by all seeds, so the two are crossed, and each adds its own variance:

    - rows: the variance of the mean over seeds between resamples of the rows (Efron and Tibshirani 1993, chapters 13 and 16; for metrics
      that are no means over rows Koehn 2004, https://aclanthology.org/W04-3250);
    - seeds: the variance between the seeds' differences, divided by K. What of it comes from the rows is counted once: it is the
      part of the resamples' variance that seeds do not share. Why rows alone are not enough: Dror et al. 2018,
      https://aclanthology.org/P18-1128.

    Resampling rows and seeds crosswise (the pigeonhole bootstrap) counts that part three times and the seeds' own variance (K - 1) / K
    times (Owen 2007, https://doi.org/10.1214/07-AOAS122; Davison and Hinkley 1997, section 3.8): with three seeds it is far too
    careful where seeds agree, and wrong three times too often where they do not. `benchmarks/verdict_rates.py` has the rates.

    With few seeds their variance is uncertain itself, so the interval is Student's, with Satterthwaite's degrees of freedom
    (1946, https://doi.org/10.2307/3002019).

    Args:
        before: K seeds.
        after: the same seeds in the same order; resampled with the same seed.
        confidence: of the interval, in (0, 1).
        paired_seeds: the seeds' variance is that of the K differences, with K - 1 degrees of freedom: right where a seed gives both sides
            the same draw. Else each side has its own, with 2 (K - 1) degrees together: as valid, and with few seeds more powerful.
        pool_variance: where seeds are draws from one pool, the variance of the pool's choice as a multiple of that between draws
            (`draws.pool_variance`).

    Returns:
        A comparison for each metric that is defined for all runs and for nearly all resamples; why not, for the others.

    Raises:
        DataError: the seeds, rows or resamples of the two sides do not pair up.
    """
    names = list(before.observed)
    shapes = [(side.rows, *side.resamples[names[0]].shape) for side in (before, after)]
    if shapes[0] != shapes[1]:
        raise DataError(f"(rows, resamples, seeds) {shapes[0]} and {shapes[1]} do not pair up; each seed needs both, over the same rows")
    rows, samples, seeds = shapes[0]
    found: dict[str, Comparison] = {}
    missing: dict[str, str] = {}
    for name in names:
        observed_2K = np.stack([before.observed[name], after.observed[name]])
        resamples_2SK = np.stack([before.resamples[name], after.resamples[name]])
        defined_S = np.isfinite(resamples_2SK).all(axis=(0, 2))
        if not np.isfinite(observed_2K).all():
            missing[name] = kinds.why_undefined(before.kind, name)
        elif (undefined := int((~defined_S).sum())) > MAX_UNDEFINED * samples:
            missing[name] = f"{kinds.why_undefined(before.kind, name)}, in {undefined} of {samples} resamples; allowed {MAX_UNDEFINED:.0%}"
        else:
            given = (observed_2K, resamples_2SK[:, defined_S], rows, confidence)
            found[name] = _compare(*given, paired_seeds=paired_seeds, pool_variance=pool_variance)
    return PairedComparison(found, rows, seeds, samples, missing)


def mean_of(comparisons: Sequence[Comparison], *, confidence: float) -> Comparison:
    """The mean of comparisons that share no rows, such as those of several tasks."""
    variances = np.array([each.standard_error**2 for each in comparisons]) / len(comparisons) ** 2
    freedom = _satterthwaite(variances, [each.degrees_of_freedom for each in comparisons])
    mean = float(np.mean([each.mean for each in comparisons]))
    return _comparison(mean, math.sqrt(variances.sum()), freedom, confidence, smallest_p=min(each.p for each in comparisons))


def _scores(statistics: Sequence[RowStatistics], weights_SR: Floats, names: Sequence[str]) -> dict[str, Floats]:
    """For each metric (S, K)."""
    scores = [resampled_scores(each, weights_SR) for each in statistics]
    return {name: np.stack([each[name] for each in scores], axis=1) for name in names}


def _compare(
    observed_2K: Floats, resamples_2SK: Floats, rows: int, confidence: float, *, paired_seeds: bool, pool_variance: float
) -> Comparison:
    _, samples, seeds = resamples_2SK.shape
    unbiased = rows / max(1, rows - 1)
    of_rows = unbiased * float((resamples_2SK[1] - resamples_2SK[0]).mean(axis=1).var(ddof=1))
    variance, freedom = of_rows, float(max(1, min(rows, samples) - 1))
    if seeds > 1:
        observed_PK, resamples_PSK = (np.diff(each, axis=0) if paired_seeds else each for each in (observed_2K, resamples_2SK))
        weight = 1 / seeds + pool_variance
        of_seeds_P = observed_PK.var(axis=1, ddof=1) * weight
        centred_PSK = resamples_PSK - resamples_PSK.mean(axis=1, keepdims=True)
        shared = unbiased * float(centred_PSK.var(axis=2, ddof=1).mean(axis=1).sum()) * weight
        variance = of_rows + max(0.0, float(of_seeds_P.sum()) - shared)
        freedom = _satterthwaite([of_rows, *of_seeds_P], [freedom, *[seeds - 1] * len(of_seeds_P)], total=variance)
    difference = float(observed_2K[1].mean() - observed_2K[0].mean())
    return _comparison(difference, math.sqrt(variance), freedom, confidence, smallest_p=1 / (samples + 1))


def _satterthwaite(variances: Sequence[float] | Floats, freedoms: Sequence[float], *, total: float | None = None) -> float:
    """Degrees of freedom of a sum of variances; never below the fewest."""
    spread = sum(variance**2 / freedom for variance, freedom in zip(variances, freedoms, strict=True))
    whole = float(sum(variances)) if total is None else total
    return max(float(min(freedoms)), float(whole**2 / spread) if spread > 0 else 0.0)


def _comparison(mean: float, standard_error: float, freedom: float, confidence: float, *, smallest_p: float) -> Comparison:
    """Student's interval and p. Without any variance a difference is certain as far as the resamples can tell: `smallest_p`."""
    half = float(stdtrit(freedom, (1 + confidence) / 2)) * standard_error
    p = 1.0 if mean == 0 else smallest_p
    if standard_error > 0:
        p = 2 * float(stdtr(freedom, -abs(mean) / standard_error))
    return Comparison(mean, mean - half, mean + half, p, standard_error, freedom)


def _resampled_weights(generator: np.random.Generator, samples: int, num_rows: int) -> Iterator[Floats]:
    step = max(1, _MAX_WEIGHTS // num_rows)
    for start in range(0, samples, step):
        yield _counts(generator, min(step, samples - start), num_rows)


def _counts(generator: np.random.Generator, samples: int, size: int) -> Floats:
    """How often each of `size` things is drawn in `size` draws with replacement, shape (S, size)."""
    drawn = generator.integers(0, size, (samples, size)) + size * np.arange(samples)[:, None]
    return np.bincount(drawn.ravel(), minlength=samples * size).reshape(samples, size).astype(np.float64)


def holm(p_values: Mapping[Key, float]) -> dict[Key, float]:
    """P-values adjusted for asking several questions at once (Holm 1979, https://www.jstor.org/stable/4615733)."""
    adjusted: dict[Key, float] = {}
    highest = 0.0
    for rank, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[name]))
        adjusted[name] = highest
    return {name: adjusted[name] for name in p_values}
