"""The probe ledger of one encoder on one task: what can be read off its frozen features, over many draws of labelled rows.

Shapes: L layers, R rows, D width, K draws.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acclimate import kinds
from acclimate.data.labelled import TableSchema
from acclimate.evaluation.arrays import Floats
from acclimate.evaluation.draws import Rows
from acclimate.evaluation.metrics import RowStatistics, plain_scores, row_statistics
from acclimate.evaluation.neighbours import nearest_rows
from acclimate.evaluation.options import ProbeConfig, ProbeName, Size
from acclimate.evaluation.significance import Resampled, resampled

TOLERANCE = 1e-4
"""Of the linear probe's gradient. At 1e-3 a fit on 100 to 4,000 rows says of 6 to 10 % of the judged rows what the optimum does not,
at 1e-4 of 1 %, for 2.5 times the time (docs/decisions.md)."""
PROBES: tuple[ProbeName, ...] = ("linear", "neighbour")


@dataclass(frozen=True)
class Split:
    """Frozen features of every layer, (L, R, D), and the gold labels of their rows."""

    features_LRD: NDArray[np.float32]
    gold: Any
    """(R,), or (R, C) of a kind with several labels."""

    @property
    def layers(self) -> int:
        """How many there are, the embeddings included."""
        return len(self.features_LRD)

    def of_layer(self, layer: int) -> Split:
        """One layer alone."""
        return Split(self.features_LRD[layer : layer + 1], self.gold)

    def at(self, layer: int, rows: Rows | slice = slice(None)) -> kinds.ProbeRows:
        """What a probe reads of a layer."""
        return kinds.ProbeRows(self.features_LRD[layer][rows], self.gold[rows])


@dataclass(frozen=True)
class Point:
    """A probe's score on the judged rows, for each draw; NaN where the metric is undefined."""

    rows: Size
    layer: int
    probe: ProbeName
    values_K: Floats
    dev_K: Floats | None = None
    """On the dev rows, where they choose a layer."""


@dataclass(frozen=True)
class EncoderLedger:
    """All points, and the declared ones on resamples of the judged rows."""

    points: list[Point]
    declared: dict[Size, Resampled]


@dataclass(frozen=True)
class Ledger:
    """What is measured of every encoder of a task."""

    schema: TableSchema
    config: ProbeConfig
    draws: Mapping[Size, Sequence[Rows]]
    seed: int

    @property
    def chooses_layer(self) -> Size:
        """At how many rows dev chooses a layer: the most that are declared, as far as there are so many."""
        declared: list[Size] = [size for size in self.draws if size in self.config.declared.rows]
        return (declared or [*self.draws])[-1]

    def of_encoder(self, pool: Split, judged: Split, dev: Split | None, *, workers: int = 1) -> EncoderLedger:
        """Fit both probes on each layer and each draw.

        Args:
            dev: rows that choose a layer for display; None where there are none.
            workers: processes that share the layers; the result is the same.
        """
        from joblib import Parallel, delayed

        last = pool.layers - 1
        jobs = [
            delayed(self._points)(*(split and split.of_layer(layer) for split in (pool, judged, dev)), layer, size, is_last=layer == last)
            for size in reversed(self.draws)  # those that take long first
            for layer in range(pool.layers)
        ]
        done: list[EncoderLedger] = Parallel(n_jobs=workers)(jobs)
        points = [point for each in done for point in each.points]
        return EncoderLedger(sorted(points, key=self._order), {size: side for each in done for size, side in each.declared.items()})

    def _order(self, point: Point) -> tuple[int, int, int]:
        return point.layer, [*self.draws].index(point.rows), PROBES.index(point.probe)

    def _points(self, pool: Split, judged: Split, dev: Split | None, layer: int, size: Size, *, is_last: bool) -> EncoderLedger:
        """The points of one layer, which the splits hold alone, and size; those of the last layer are declared."""
        draws = self.draws[size]
        chosen = dev.at(0) if dev and size == self.chooses_layer else None
        linear = [self.linear(pool.at(0, rows), judged.at(0), chosen) for rows in draws]
        nearest = nearest_rows(pool.features_LRD[0], judged.features_LRD[0], draws)
        by_probe: dict[ProbeName, list[RowStatistics]] = {
            "linear": [on_judged for on_judged, _ in linear],
            "neighbour": [self._statistics(judged.gold, self._repeated(pool.gold[rows])) for rows in nearest],
        }
        no_choice_K = np.array([len(np.unique(pool.gold[rows], axis=0)) < 2 for rows in draws])  # one label alone teaches no probe anything
        values = {
            probe: np.where(no_choice_K, np.nan, [self._score(each) for each in statistics]) for probe, statistics in by_probe.items()
        }
        on_dev = np.array([self._score(found) for _, found in linear if found is not None])
        dev_of = {"linear": on_dev if len(on_dev) else None}
        points = [Point(size, layer, probe, values_K, dev_of.get(probe)) for probe, values_K in values.items()]
        is_declared = is_last and size in self.config.declared.rows
        if not is_declared:
            return EncoderLedger(points, {})
        declared, metric = self._resampled(by_probe[self.config.declared.probe]), self.schema.metric
        declared.observed[metric][no_choice_K] = np.nan
        declared.resamples[metric][:, no_choice_K] = np.nan
        return EncoderLedger(points, {size: declared})

    def linear(
        self, train: kinds.ProbeRows, judged: kinds.ProbeRows, dev: kinds.ProbeRows | None
    ) -> tuple[RowStatistics, RowStatistics | None]:
        """Fit the linear probe on a draw; what the metric needs to know of the judged and of the dev rows."""
        splits = [judged, *([dev] if dev else [])]
        found = kinds.sentence_baseline(self.schema.kind).probe(
            train, splits, num_outputs=self._num_outputs, regularization=self.config.regularization, tolerance=TOLERANCE
        )
        on_judged, *on_dev = (self._statistics(split.gold, predictions) for split, predictions in zip(splits, found, strict=True))
        return on_judged, on_dev[0] if on_dev else None

    def _repeated(self, gold: NDArray[Any]) -> Floats:
        return kinds.sentence_baseline(self.schema.kind).repeated(gold, self._num_outputs)

    def _statistics(self, gold: Any, predictions: Any) -> RowStatistics:
        return row_statistics(self.schema.kind, gold, predictions, labels=self.schema.labels)

    def _score(self, statistics: RowStatistics) -> float:
        return plain_scores(statistics).get(self.schema.metric, math.nan)

    def _resampled(self, statistics: Sequence[RowStatistics]) -> Resampled:
        return resampled(statistics, samples=self.config.bootstrap_samples, seed=self.seed, metrics=[self.schema.metric])

    @property
    def _num_outputs(self) -> int:
        return kinds.model(self.schema.kind).num_outputs(self.schema.labels)
