"""How often verdicts are wrong and right where the truth is known: false positives at 5 %, power, and the detectable difference.

Two encoders are right on a row where a latent score exceeds a limit: the row's difficulty, what an encoder makes of the row, what a seed
does to a whole run, and noise. Without a gap both are equally good by symmetry. `crossed` is the percentile bootstrap over rows and seeds
that `acclimate.evaluation.significance` replaced.

    python -m benchmarks.verdict_rates --trials 1000
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from acclimate.evaluation.arrays import Floats
from acclimate.evaluation.significance import PairedComparison, Resampled, compare_resampled

METRIC = "accuracy"
SAMPLES = 400
WEIGHTS_SHARED_BY = 50
"""Trials that one set of resamples serves."""
ROW_NOISE, ENCODER_NOISE = 0.7, 0.3


@dataclass(frozen=True)
class Setting:
    """K seeds, R rows, and how much a seed moves a whole run, in units of the rows' difficulty."""

    seeds: int
    rows: int
    seed_noise: float


def runs(setting: Setting, gap: float, generator: np.random.Generator) -> list[Floats]:
    """Hits of two encoders, each (K, R)."""
    difficulty_R = generator.standard_normal(setting.rows)
    found = []
    for side in (0, 1):
        own_R = ENCODER_NOISE * generator.standard_normal(setting.rows)
        seed_K1 = setting.seed_noise * generator.standard_normal((setting.seeds, 1))
        noise_KR = ROW_NOISE * generator.standard_normal((setting.seeds, setting.rows))
        found.append((difficulty_R + own_R + seed_K1 + noise_KR + side * gap > -0.7).astype(np.float64))
    return found


def trials(setting: Setting, gap: float, count: int, generator: np.random.Generator) -> Iterator[list[Resampled]]:
    """Two encoders each, resampled."""
    for trial in range(count):
        if trial % WEIGHTS_SHARED_BY == 0:
            shares_SR = generator.multinomial(setting.rows, np.full(setting.rows, 1 / setting.rows), size=SAMPLES) / setting.rows
        hits = runs(setting, gap, generator)
        yield [Resampled("classification", setting.rows, {METRIC: each.mean(axis=1)}, {METRIC: shares_SR @ each.T}) for each in hits]


def crossed_rejects(sides: list[Resampled], generator: np.random.Generator) -> bool:
    """Whether the percentile interval of the crossed bootstrap excludes zero."""
    differences_SK = sides[1].resamples[METRIC] - sides[0].resamples[METRIC]
    samples, seeds = differences_SK.shape
    shares_SK = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=samples) / seeds
    low, high = np.quantile((shares_SK * differences_SK).sum(axis=1), [0.025, 0.975])
    return not low <= 0 <= high


def rates(setting: Setting, gap: float, count: int, generator: np.random.Generator) -> tuple[dict[str, float], float]:
    """How often each test finds a difference, and the median detectable difference with seeds that are not paired."""
    found = dict.fromkeys(("crossed", "paired seeds", "own seeds"), 0)
    detectable = []
    for sides in trials(setting, gap, count, generator):
        found["crossed"] += crossed_rejects(sides, generator)
        paired, own = (_compared(sides, paired=paired).by_metric[METRIC] for paired in (True, False))
        found["paired seeds"] += paired.p <= 0.05
        found["own seeds"] += own.p <= 0.05
        detectable.append(own.detectable(0.05))
    return {name: value / count for name, value in found.items()}, float(np.median(detectable))


def _compared(sides: list[Resampled], *, paired: bool) -> PairedComparison:
    return compare_resampled(sides[0], sides[1], confidence=0.95, paired_seeds=paired)


def gap_of(accuracy: float, seed_noise: float) -> float:
    """The latent gap that changes accuracy by so much."""
    spread = float(np.sqrt(1 + ENCODER_NOISE**2 + seed_noise**2 + ROW_NOISE**2))
    return float(spread * norm.ppf(norm.cdf(0.7 / spread) + accuracy) - 0.7)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    count = parser.parse_args().trials
    print("| seeds | rows | seed noise | wrong: crossed | paired seeds | own seeds | detectable | found: crossed | paired | own |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for seeds in (2, 3, 5, 20):
        for rows in (300, 1600):
            for seed_noise in (0.0, 0.03, 0.1):
                setting, generator = Setting(seeds, rows, seed_noise), np.random.default_rng(20)
                wrong, detectable = rates(setting, 0.0, count, generator)
                right, _ = rates(setting, gap_of(min(detectable, 0.2), seed_noise), count, generator)
                shown = [f"{rate:.3f}" for rate in wrong.values()] + [f"{detectable:.3f}"] + [f"{rate:.2f}" for rate in right.values()]
                print(f"| {seeds} | {rows} | {seed_noise} | " + " | ".join(shown) + " |", flush=True)


if __name__ == "__main__":
    main()
