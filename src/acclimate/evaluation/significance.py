"""Is one better: paired bootstrap over test rows and seeds, and Holm's correction over comparisons.

Shapes: K seeds, R rows, S resamples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from acclimate import kinds
from acclimate.errors import DataError
from acclimate.evaluation.arrays import Floats
from acclimate.evaluation.metrics import RowStatistics, resampled_scores

Key = TypeVar("Key")
_MAX_WEIGHTS = 4_000_000
"""Weights held at once, 32 MB."""


@dataclass(frozen=True)
class Comparison:
    """A difference of means over seeds, with its percentile interval and two-sided p."""

    mean: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class PairedComparison:
    """Every metric's difference, and what was resampled to get the intervals."""

    by_metric: dict[str, Comparison]
    rows: int
    seeds: int
    samples: int

    @property
    def seeds_resampled(self) -> bool:
        """One seed cannot be resampled: the interval then speaks of test rows alone."""
        return self.seeds > 1


def compare(
    before: Sequence[RowStatistics], after: Sequence[RowStatistics], *, samples: int, confidence: float, seed: int
) -> PairedComparison:
    """Paired bootstrap of (after - before) over test rows and seeds.

    Each resample draws the K seed pairs and the R test rows anew, both with replacement and independently: rows are
    shared by all seeds, so the two are crossed. Rows: Efron and Tibshirani 1993 (chapters 13 and 16) and, for metrics
    that are not means over rows, Koehn 2004 (https://aclanthology.org/W04-3250); why test rows alone are not enough:
    Dror et al. 2018 (https://aclanthology.org/P18-1128). With few seeds the seeds' share of the variance is
    underestimated by (K - 1) / K: three seeds are a start, not a proof.

    Args:
        before: statistics of each seed's predictions, in the order of `after`; all over the same rows in the same order.
        after: the same number of seeds.
        samples: S.
        confidence: of the percentile interval, in (0, 1).
        seed: of the resampling; the same seed gives the same interval.

    Returns:
        For each metric the observed difference, its interval, and p: twice the smaller share of resampled differences on
        either side of zero, counting the observed sample as one of them so that p is never 0.

    Raises:
        DataError: the seeds or rows of the two sides do not pair up.
    """
    rows = {len(statistics.per_row) for statistics in (*before, *after)}
    if len(before) != len(after) or not before or len(rows) != 1:
        raise DataError(
            f"{len(before)} and {len(after)} runs over {sorted(rows)} rows do not pair up; each seed needs both, over the same rows"
        )
    num_rows, num_seeds = rows.pop(), len(before)
    generator = np.random.Generator(np.random.PCG64(seed % 2**32))
    observed = _differences(before, after, np.ones((1, num_rows)))
    chunks = [_differences(before, after, weights_SR) for weights_SR in _resampled_weights(generator, samples, num_rows)]
    seed_weights_SK = _counts(generator, samples, num_seeds) / num_seeds
    by_metric = {}
    for name in kinds.metric_names(before[0].kind):
        resampled_S = (seed_weights_SK * np.concatenate([chunk[name] for chunk in chunks])).sum(axis=1)
        by_metric[name] = _summarize(float(observed[name].mean()), resampled_S, confidence)
    return PairedComparison(by_metric, num_rows, num_seeds, samples)


def _resampled_weights(generator: np.random.Generator, samples: int, num_rows: int) -> Iterator[Floats]:
    step = max(1, _MAX_WEIGHTS // num_rows)
    for start in range(0, samples, step):
        yield _counts(generator, min(step, samples - start), num_rows)


def _counts(generator: np.random.Generator, samples: int, size: int) -> Floats:
    """How often each of `size` things is drawn in `size` draws with replacement, shape (S, size)."""
    drawn = generator.integers(0, size, (samples, size)) + size * np.arange(samples)[:, None]
    return np.bincount(drawn.ravel(), minlength=samples * size).reshape(samples, size).astype(np.float64)


def _differences(before: Sequence[RowStatistics], after: Sequence[RowStatistics], weights_SR: Floats) -> dict[str, Floats]:
    """For each metric (after - before), shape (S, K)."""
    before_scores = [resampled_scores(statistics, weights_SR) for statistics in before]
    after_scores = [resampled_scores(statistics, weights_SR) for statistics in after]
    return {
        name: np.stack([right[name] - left[name] for left, right in zip(before_scores, after_scores, strict=True)], axis=1)
        for name in before_scores[0]
    }


def _summarize(observed: float, resampled_S: Floats, confidence: float) -> Comparison:
    tail = (1 - confidence) / 2
    low, high = np.quantile(resampled_S, [tail, 1 - tail])
    smaller = min(int((resampled_S <= 0).sum()), int((resampled_S >= 0).sum()))
    p = min(1.0, 2 * (smaller + 1) / (len(resampled_S) + 1))
    return Comparison(observed, float(low), float(high), float(p))


def holm(p_values: Mapping[Key, float]) -> dict[Key, float]:
    """P-values adjusted for asking several questions at once (Holm 1979, https://www.jstor.org/stable/4615733)."""
    adjusted: dict[Key, float] = {}
    highest = 0.0
    for rank, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[name]))
        adjusted[name] = highest
    return {name: adjusted[name] for name in p_values}
