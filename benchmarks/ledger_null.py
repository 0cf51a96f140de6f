"""How often the ledger is wrong: base against base, and a planted gain of the smallest effect that it says it detects.

    python -m benchmarks.ledger_null --encoder artifacts/encoders/base --tables artifacts/ingest/tables/section

Both sides of a replicate are the encoder's last layer with Gaussian noise of their own on every row, NOISE deviations of each feature wide.
So neither side is better, they are exchangeable, and yet they differ as two encoders do: by row and by fit. Each replicate has new noise
and new draws. `better` or `worse` at 95 % should come at most 5 % of the time.

The planted gain: rows chosen at random are predicted rightly in all draws of one side, so many that the expected gain is the smallest
detectable effect. That is the effect for which the test itself, on data that hold it, names this effect: planted rows add variance.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from scipy.stats import binomtest

from acclimate import kinds
from acclimate.backbones.loading import load_backbone
from acclimate.data.labelled import TableSchema, read_schema
from acclimate.data.options import TaskConfig
from acclimate.evaluation.draws import draws_of, pool_variance
from acclimate.evaluation.labelled_features import choose_rows, read_features
from acclimate.evaluation.ledger import Ledger, Split
from acclimate.evaluation.metrics import RowStatistics, plain_scores, row_statistics
from acclimate.evaluation.options import DeclaredConfig, ProbeConfig, Size
from acclimate.evaluation.significance import compare_resampled, resampled
from acclimate.evaluation.verdicts import Judged, judge
from acclimate.training.precision import resolve_precision

CONFIDENCE = 0.95
PILOT, CHOICES, BISECTIONS, MAX_SHARE = 8, 3, 8, 0.15


@dataclass(frozen=True)
class Bench:
    schema: TableSchema
    pool: Split
    judged: Split
    config: ProbeConfig
    noise: float

    @cached_property
    def right(self) -> RowStatistics:
        outputs = kinds.model(self.schema.kind).num_outputs(self.schema.labels)
        predictions = kinds.sentence_baseline(self.schema.kind).repeated(self.judged.gold, outputs)
        return row_statistics(self.schema.kind, self.judged.gold, predictions, labels=self.schema.labels)

    def sides(self, number: int) -> dict[Size, list[list[RowStatistics]]]:
        """Two noisy copies of the encoder, each judged on every draw of a replicate."""
        generator = np.random.default_rng([number, 15])
        draws, _ = draws_of(len(self.pool.gold), self.config.rows, self.config.draws, seed=number, task=self.schema.name)
        ledger = Ledger(self.schema, self.config, draws, number)
        found: dict[Size, list[list[RowStatistics]]] = {size: [] for size in draws}
        for _ in range(2):
            pool, judged = (self.noisy(split, generator) for split in (self.pool, self.judged))
            for size, rows in draws.items():
                found[size].append([ledger.linear(pool.at(0, each), judged.at(0), None)[0] for each in rows])
        return found

    def noisy(self, split: Split, generator: np.random.Generator) -> Split:
        deviation_D = self.pool.features_LRD[0].std(axis=0)
        noise = generator.standard_normal(split.features_LRD.shape, dtype=np.float32) * deviation_D * np.float32(self.noise)
        return Split(split.features_LRD + noise, split.gold)

    def verdict(self, before: Sequence[RowStatistics], after: Sequence[RowStatistics], size: Size, number: int) -> Judged:
        metric = self.schema.metric
        sides = [resampled(each, samples=self.config.bootstrap_samples, seed=number, metrics=[metric]) for each in (before, after)]
        found = compare_resampled(*sides, confidence=CONFIDENCE, pool_variance=pool_variance(size, len(self.pool.gold)))
        lower = not kinds.higher_is_better(self.schema.kind, metric)
        return judge({0: found.by_metric[metric]}, confidence=CONFIDENCE, margin=self.config.margin, lower_is_better={0: lower})[0]

    def planted(self, side: Sequence[RowStatistics], share: float, number: int) -> list[RowStatistics]:
        """Rows at random, this share of all, made right in all draws."""
        chosen_R = np.random.default_rng([number, 16]).random(len(self.judged.gold)) < share
        return [replace(each, per_row=np.where(chosen_R[:, None], self.right.per_row, each.per_row)) for each in side]

    def score(self, side: Sequence[RowStatistics]) -> float:
        return float(np.mean([plain_scores(each)[self.schema.metric] for each in side]))

    def effect(self, size: Size, pilot: list[list[list[RowStatistics]]]) -> tuple[float, float]:
        """The effect that the test names as detectable on data that hold it, and the share of rows that plants it."""
        low, high, gain = 0.0, MAX_SHARE, 0.0
        for _ in range(BISECTIONS):
            share, gains, named = (low + high) / 2, [], []
            for number, (before, side) in enumerate(pilot * CHOICES):
                after = self.planted(side, share, number)
                gains.append(self.score(after) - self.score(side))
                named.append(self.verdict(before, after, size, number).detectable)
            gain = float(np.mean(gains))
            low, high = (low, share) if gain > np.mean(named) else (share, high)
        return gain, share


def rate(hits: int, total: int) -> str:
    interval = binomtest(hits, total).proportion_ci(0.95, method="exact")
    return f"{hits}/{total} = {hits / total:.1%} ({interval.low:.1%} to {interval.high:.1%})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", type=Path, required=True, help="an encoder's directory")
    parser.add_argument("--tables", type=Path, required=True, help="a task's directory below the ingested tables")
    parser.add_argument("--replicates", type=int, default=200)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--rows", type=int, nargs="+", default=[100, 500])
    parser.add_argument("--judged", type=int, default=1000, help="test rows")
    parser.add_argument("--pool", type=int, default=4000, help="labelled rows to draw from")
    parser.add_argument("--resamples", type=int, default=500, help="of the judged rows; only a variance is taken of them")
    parser.add_argument("--noise", type=float, default=0.3, help="deviations of each feature")
    given = parser.parse_args()
    torch.set_num_threads(1)
    sizes = {"rows": given.rows, "declared": DeclaredConfig(rows=given.rows)}
    limits = {"max_pool_rows": given.pool, "max_judged_rows": given.judged, "bootstrap_samples": given.resamples}
    config = ProbeConfig(**sizes, **limits, draws=given.draws)
    schema, chosen = read_schema(given.tables), choose_rows(given.tables, config, seed=0)
    assert not isinstance(chosen, str), chosen
    task = TaskConfig(kind=schema.kind, data="none")
    chosen = replace(chosen, dev=chosen.dev.slice(0, 0))
    precision = resolve_precision("auto", torch.device("cpu"))
    splits = read_features(load_backbone(given.encoder), schema, chosen, given.encoder, task, precision)
    pool, judged = (Split(split.features_LRD[-1:], split.gold) for split in splits[:2] if split)
    run(Bench(schema, pool, judged, config, given.noise), given.replicates)


def run(bench: Bench, replicates: int) -> None:
    started = time.process_time()
    pilot = [bench.sides(10_000 + number) for number in range(PILOT)]
    effects = {size: bench.effect(size, [each[size] for each in pilot]) for size in bench.config.rows}
    rows = f"{len(bench.pool.gold)} labelled rows, {len(bench.judged.gold)} judged"
    print(f"{rows}, {bench.config.draws} draws, noise {bench.noise}; detectable effect and planted share", effects, flush=True)
    wrong, found = dict.fromkeys(effects, 0), dict.fromkeys(effects, 0)
    for number in range(1, replicates + 1):
        for size, (before, after) in bench.sides(number).items():
            wrong[size] += bench.verdict(before, after, size, number).verdict in ("better", "worse")
            found[size] += bench.verdict(before, bench.planted(after, effects[size][1], number), size, number).verdict == "better"
        if number % 10 == 0 or number == replicates:
            for size, (effect, _) in effects.items():
                print(f"{size} rows: wrong {rate(wrong[size], number)}; found {effect:.4f} {rate(found[size], number)}", flush=True)
            print(f"{time.process_time() - started:.0f} s of CPU", flush=True)


if __name__ == "__main__":
    main()
