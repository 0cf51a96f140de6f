"""Linear probes: what can be read off frozen features (Alain and Bengio 2017, https://arxiv.org/abs/1610.01644).

Shapes: L layers, R rows or words, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from acclimate import kinds
from acclimate.data.labelled import LabelledSplit, TableSchema, read_schema, read_split
from acclimate.evaluation.features import layer_features
from acclimate.evaluation.metrics import score
from acclimate.kinds import ProbeRows

if TYPE_CHECKING:
    from acclimate.data.options import TaskConfig
    from acclimate.training.precision import Precision


def probe_encoder(
    encoder: Any,
    schema: TableSchema,
    train: LabelledSplit,
    evaluation: LabelledSplit,
    *,
    pooling: Literal["mean", "first"] = "mean",
    precision: Precision | None = None,
    layers: Sequence[int] | None = None,
    regularization: float = 1.0,
) -> list[dict[str, float]]:
    """Fit a probe on each layer's features of `train` and score it on one other split; see `probe_layers`."""
    return probe_layers(
        encoder, schema, train, [evaluation], pooling=pooling, precision=precision, layers=layers, regularization=regularization
    )[0]


def dev_scorer(table: Path, encoder: Path, task: TaskConfig, *, precision: Precision) -> Callable[[Any], float]:
    """Score an encoder's frozen features on the dev split by the task's metric: fit on train, never touch test.

    Args:
        encoder: directory with tokenizer.json.
    """
    train, dev = (read_split(table, split, encoder=encoder, max_tokens=task.max_tokens) for split in ("train", "dev"))
    schema = read_schema(table)

    def score_last_layer(model: Any) -> float:
        scores = probe_encoder(model, schema, train, dev, pooling=task.pooling, precision=precision, layers=[-1])
        return scores[-1][schema.metric]

    return score_last_layer


def probe_layers(
    encoder: Any,
    schema: TableSchema,
    train: LabelledSplit,
    evaluations: Sequence[LabelledSplit],
    *,
    pooling: Literal["mean", "first"] = "mean",
    precision: Precision | None = None,
    layers: Sequence[int] | None = None,
    regularization: float = 1.0,
) -> list[list[dict[str, float]]]:
    """Fit a probe on each layer's features of `train`, and score it on every evaluation split.

    Args:
        layers: as `layer_features` takes them; all when None.
        regularization: strength of the L2 penalty on standardised features.

    Returns:
        For each evaluation split, for each layer in order, every metric of the task's kind.
    """
    splits = [train, *evaluations]
    gold = [kinds.model(schema.kind).gold(split.labels, schema.labels) for split in splits]
    per_row = [None if (p := split.encoded.word_positions) is None else np.array([len(row) for row in p]) for split in splits]
    features = [
        layer_features(encoder, split.encoded, pooling=pooling, pair=schema.pair, precision=precision, layers=layers) for split in splits
    ]
    scores: list[list[dict[str, float]]] = [[] for _ in evaluations]
    for layer in range(len(features[0])):
        data = [ProbeRows(split[layer], gold[i], per_row[i], splits[i].encoded) for i, split in enumerate(features)]
        for found, value in zip(scores, probe_scores(schema, data[0], data[1:], regularization=regularization), strict=True):
            found.append(value)
    return scores


def probe_scores(
    schema: TableSchema, train: ProbeRows, evaluations: Sequence[ProbeRows], *, regularization: float
) -> list[dict[str, float]]:
    """Fit one linear model on given features and score it on each evaluation split."""
    num_outputs = kinds.model(schema.kind).num_outputs(schema.labels)
    found = kinds.baseline(schema.kind).probe(train, evaluations, num_outputs=num_outputs, regularization=regularization)
    return [
        score(schema.kind, split.gold, predictions, labels=schema.labels) for split, predictions in zip(evaluations, found, strict=True)
    ]
