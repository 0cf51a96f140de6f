"""Linear probes: what can be read off frozen features (Alain and Bengio 2017, https://arxiv.org/abs/1610.01644).

Shapes: L layers, R rows or words, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from acclimate import plugins
from acclimate.data.labelled import LabelledSplit, TableSchema, read_schema, read_split
from acclimate.evaluation.features import layer_features
from acclimate.evaluation.linear import logistic_logits, one_vs_rest_logits, ridge_logits
from acclimate.evaluation.metrics import score

if TYPE_CHECKING:
    from acclimate.backbones.base import Backbone
    from acclimate.data.options import TaskConfig
    from acclimate.training.precision import Precision

MAX_TRAIN_WORDS = 8_000
"""Tagging: a probe is fitted on the first words up to here, which bounds its time (about 1 s a layer at width 384)."""


@dataclass(frozen=True)
class ProbeSplit:
    """Features and gold labels of one split.

    `features` is (R, D), or for tagging (words, D) with `words_per_row` saying how many kept words each row has.
    """

    features: NDArray[np.float32]
    gold: Sequence[Any]
    words_per_row: NDArray[np.int64] | None = None


def probe_encoder(
    encoder: Backbone,
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


def dev_scorer(table: Path, encoder: Path, task: TaskConfig, *, precision: Precision) -> Callable[[Backbone], float]:
    """Score an encoder's frozen features on the dev split by the task's metric: fit on train, never touch test.

    Args:
        encoder: directory with tokenizer.json.
    """
    train, dev = (read_split(table, split, encoder=encoder, max_tokens=task.max_tokens) for split in ("train", "dev"))
    schema = read_schema(table)

    def score_last_layer(model: Backbone) -> float:
        scores = probe_encoder(model, schema, train, dev, pooling=task.pooling, precision=precision, layers=[-1])
        return scores[-1][schema.metric]

    return score_last_layer


def probe_layers(
    encoder: Backbone,
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
    gold = [plugins.load("tasks", schema.kind).gold(split.labels, schema.labels) for split in splits]
    words = [None if (p := split.encoded.word_positions) is None else np.array([len(row) for row in p]) for split in splits]
    features = [
        layer_features(encoder, split.encoded, pooling=pooling, pair=schema.pair, precision=precision, layers=layers) for split in splits
    ]
    scores: list[list[dict[str, float]]] = [[] for _ in evaluations]
    for layer in range(len(features[0])):
        data = [ProbeSplit(split[layer], gold[i], words[i]) for i, split in enumerate(features)]
        for found, value in zip(scores, probe_scores(schema, data[0], data[1:], regularization=regularization), strict=True):
            found.append(value)
    return scores


def probe_scores(
    schema: TableSchema, train: ProbeSplit, evaluations: Sequence[ProbeSplit], *, regularization: float
) -> list[dict[str, float]]:
    """Fit one linear model on given features and score it on each evaluation split."""
    train_gold: Any = train.gold
    train_features = train.features
    if train.words_per_row is not None:
        kept = [tags[:count] for tags, count in zip(train.gold, train.words_per_row, strict=True)]
        train_gold = np.concatenate(kept)[:MAX_TRAIN_WORDS]
        train_features = train_features[:MAX_TRAIN_WORDS]
    mean_D, scale_D = train_features.mean(axis=0), train_features.std(axis=0) + 1e-6
    standardized = [(features - mean_D) / scale_D for features in (train_features, *(split.features for split in evaluations))]
    logits = _linear_logits(schema, standardized[0], train_gold, standardized[1:], regularization)
    return [
        score(schema.kind, split.gold, _by_row(found, split.words_per_row), labels=schema.labels)
        for split, found in zip(evaluations, logits, strict=True)
    ]


def _linear_logits(schema: TableSchema, train: Any, gold: Any, others: Sequence[Any], regularization: float) -> list[Any]:
    if schema.kind == "regression":
        # Per row, so that the squared error's growth with the rows does not drown the penalty.
        return list(ridge_logits(train, gold, others, inverse_penalty=1 / (regularization * len(train))))
    if schema.kind == "multi_label":
        return list(one_vs_rest_logits(train, gold, others, inverse_penalty=1 / regularization))
    return list(logistic_logits(train, gold, others, num_labels=schema.num_outputs, inverse_penalty=1 / regularization))


def _by_row(logits: Any, words_per_row: NDArray[np.int64] | None) -> Any:
    """Words' logits, cut into rows and flattened as predictions.parquet holds them."""
    if words_per_row is None:
        return logits
    return [row.ravel() for row in np.split(logits, np.cumsum(words_per_row)[:-1])]
