"""Linear probes: what can be read off frozen features (Alain and Bengio 2017, https://arxiv.org/abs/1610.01644).

Shapes: L layers, R rows or words, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from acclimate import kinds
from acclimate.data.labelled import LabelledSplit, TableSchema, read_schema, read_split
from acclimate.evaluation.features import layer_features
from acclimate.evaluation.linear import TOLERANCE
from acclimate.evaluation.metrics import RowStatistics, resampled_scores, row_statistics
from acclimate.kinds import ProbeRows

if TYPE_CHECKING:
    from acclimate.backbones.base import Backbone
    from acclimate.data.options import TaskConfig
    from acclimate.training.precision import Precision


@dataclass(frozen=True)
class Gain:
    """How much better a probe is than another one on the same rows, by the task's metric.

    Of a metric that is better when lower, `gain` is the share by which it falls, since such a metric has a unit.
    """

    score: float
    gain: float
    standard_error: float
    """Of the gain: a paired bootstrap over the rows."""


def dev_probe(table: Path, encoder: Path, task: TaskConfig, *, precision: Precision) -> Callable[[Backbone], RowStatistics]:
    """What a probe on frozen features of the last layer says of the dev split: fitted on train, test is never touched.

    Args:
        encoder: directory with tokenizer.json.
    """
    train, dev = (read_split(table, split, encoder=encoder, max_length=task.max_length) for split in ("train", "dev"))
    schema = read_schema(table)

    def of_last_layer(backbone: Backbone) -> RowStatistics:
        return layer_statistics(backbone, schema, train, [dev], pooling=task.pooling, precision=precision, layers=[-1])[0][0]

    return of_last_layer


def gain(before: RowStatistics, after: RowStatistics, metric: str, *, seed: int, samples: int = 200) -> Gain:
    """Compare two probes on the same rows."""
    units = len(before.per_row)
    resamples_SU = np.random.default_rng(seed).multinomial(units, np.full(units, 1 / units), size=samples)
    weights_SU = np.vstack([np.ones(units), resamples_SU])
    before_S, after_S = (resampled_scores(each, weights_SU)[metric] for each in (before, after))
    is_better_higher = kinds.higher_is_better(before.kind, metric)
    gains_S = after_S - before_S if is_better_higher else (before_S - after_S) / np.maximum(np.abs(before_S), 1e-12)
    return Gain(float(after_S[0]), float(gains_S[0]), float(gains_S[1:].std(ddof=1)))


def layer_statistics(
    encoder: Backbone,
    schema: TableSchema,
    train: LabelledSplit,
    evaluations: Sequence[LabelledSplit],
    *,
    pooling: Literal["mean", "first"] = "mean",
    precision: Precision | None = None,
    layers: Sequence[int] | None = None,
    regularization: float = 1.0,
) -> list[list[RowStatistics]]:
    """Fit a probe on each layer's features of `train`, and predict every evaluation split.

    Args:
        layers: as `layer_features` takes them; all when None.
        regularization: strength of the L2 penalty on standardised features.

    Returns:
        For each evaluation split, for each layer in order, what the metrics of the task's kind sum over.
    """
    splits = [train, *evaluations]
    gold = [kinds.model(schema.kind).gold(split.labels, schema.labels) for split in splits]
    per_row = [None if (p := split.encoded.word_positions) is None else np.array([len(row) for row in p]) for split in splits]
    features = [
        layer_features(encoder, split.encoded, pooling=pooling, pair=schema.pair, precision=precision, layers=layers) for split in splits
    ]
    found: list[list[RowStatistics]] = [[] for _ in evaluations]
    for layer in range(len(features[0])):
        data = [ProbeRows(split[layer], gold[i], per_row[i], splits[i].encoded) for i, split in enumerate(features)]
        for of_split, statistics in zip(found, probe_statistics(schema, data[0], data[1:], regularization=regularization), strict=True):
            of_split.append(statistics)
    return found


def probe_statistics(
    schema: TableSchema, train: ProbeRows, evaluations: Sequence[ProbeRows], *, regularization: float, tolerance: float = TOLERANCE
) -> list[RowStatistics]:
    """Fit one linear model on given features and predict each evaluation split."""
    num_outputs = kinds.model(schema.kind).num_outputs(schema.labels)
    found = kinds.baseline(schema.kind).probe(
        train, evaluations, num_outputs=num_outputs, regularization=regularization, tolerance=tolerance
    )
    return [
        row_statistics(schema.kind, split.gold, predictions, labels=schema.labels)
        for split, predictions in zip(evaluations, found, strict=True)
    ]
