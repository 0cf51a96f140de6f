"""Are two ways of training equivalent: two one-sided tests of the difference of their means."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Equivalence:
    """The difference of two means, and whether it lies within a margin."""

    difference: float
    low: float
    high: float
    """Of the interval with confidence 1 - 2 alpha: within the margin exactly where both tests reject."""
    p: float
    """The greater p of the two tests."""
    margin: float
    alpha: float

    @property
    def equivalent(self) -> bool:
        """Whether both tests reject."""
        return self.p <= self.alpha

    def __str__(self) -> str:
        verdict = "equivalent" if self.equivalent else "not shown to be equivalent"
        interval = f"{1 - 2 * self.alpha:.0%} interval {self.low:+.4f} to {self.high:+.4f}"
        return f"{self.difference:+.4f}, {interval}, p {self.p:.2g}: {verdict} within {self.margin:g}"


def welch_equivalence(ours: Sequence[float], theirs: Sequence[float], *, margin: float, alpha: float = 0.05) -> Equivalence:
    """Two one-sided Welch tests (Schuirmann 1987, https://doi.org/10.1007/BF01068419).

    Welch's, since the two sides share no randomness that would pair their seeds, and may spread differently.

    Raises:
        ValueError: a side has fewer than two values, neither side varies, or the margin is not above 0.
    """
    from scipy.stats import t

    if margin <= 0:
        raise ValueError(f"the margin is {margin:g}; it must be above 0")
    if min(len(ours), len(theirs)) < 2:
        raise ValueError(f"{len(ours)} and {len(theirs)} values; each side needs two or more")
    sides = [np.asarray(side, dtype=np.float64) for side in (ours, theirs)]
    if all(np.ptp(side) == 0 for side in sides):
        raise ValueError("neither side varies over its seeds; there is nothing to test")
    squared_errors = [side.var(ddof=1) / len(side) for side in sides]
    error = math.sqrt(sum(squared_errors))
    freedom = error**4 / sum(squared**2 / (len(side) - 1) for squared, side in zip(squared_errors, sides, strict=True))
    difference = float(sides[0].mean() - sides[1].mean())
    p = float(t.sf((margin - abs(difference)) / error, freedom))
    half = float(t.ppf(1 - alpha, freedom)) * error
    return Equivalence(difference, difference - half, difference + half, p, margin, alpha)
