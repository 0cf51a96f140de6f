"""Correlations and error of one number a row.

Shapes: R rows, S resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from acclimate import kinds
from acclimate.evaluation.arrays import Floats, finite, matrix, ratio_or_nan

_CONSTANT = "the gold values or the predictions are all equal"
_ROUNDING = 1e-13
"""Relative spread that summing equal numbers leaves."""


class Metrics:
    """Predictions are numbers, (R, 1): Pearson and Spearman correlation (undefined where one side is constant, as in scipy), error."""

    metrics: ClassVar[tuple[kinds.Metric, ...]] = (
        kinds.Metric("pearson", undefined_where=_CONSTANT),
        kinds.Metric("spearman", undefined_where=_CONSTANT),
        kinds.Metric("rmse", higher_is_better=False),
    )

    def row_statistics(self, gold: Any, predictions: Any, labels: Sequence[str] | None) -> Floats:
        """Gold and prediction."""
        return np.stack([np.asarray(gold, dtype=np.float64), finite(matrix(predictions))[:, 0]], axis=1)

    def scores(self, statistics_UK: Floats, weights_SU: Floats) -> kinds.Scores:
        """Of weighted rows."""
        gold_R, predicted_R = statistics_UK.T
        shape_SR = weights_SU.shape
        gold_SR, predicted_SR = np.broadcast_to(gold_R, shape_SR), np.broadcast_to(predicted_R, shape_SR)
        ranks = (_weighted_ranks(gold_R, weights_SU), _weighted_ranks(predicted_R, weights_SU))
        squared_error_S = weights_SU @ (gold_R - predicted_R) ** 2
        return {
            "pearson": _correlation(gold_SR, predicted_SR, weights_SU),
            "spearman": _correlation(*ranks, weights_SU),
            "rmse": np.sqrt(squared_error_S / weights_SU.sum(axis=1)),
        }

    def confidence(self, gold: Any, predictions: Any) -> None:
        """None: a number has no probability."""
        return

    def confusion(self, gold: Any, predictions: Any, labels: Sequence[str] | None) -> None:
        """None: there are no labels."""
        return


def _weighted_ranks(values_R: Floats, weights_SR: Floats) -> Floats:
    """Mid-ranks that each row would have if it stood in the sample `weight` times; equal values share their rank."""
    _, group_R = np.unique(values_R, return_inverse=True)
    order_R = np.argsort(group_R, kind="stable")
    starts_G = np.flatnonzero(np.diff(group_R[order_R], prepend=-1))
    weight_SG = np.add.reduceat(weights_SR[:, order_R], starts_G, axis=1)
    rank_SG = np.cumsum(weight_SG, axis=1) - (weight_SG - 1) / 2
    return rank_SG[:, group_R]


def _correlation(left_SR: Floats, right_SR: Floats, weights_SR: Floats) -> Floats:
    total_S1 = weights_SR.sum(axis=1, keepdims=True)
    left_SR, right_SR = (_centred(values_SR, weights_SR / total_S1) for values_SR in (left_SR, right_SR))
    covariance_S = (weights_SR * left_SR * right_SR).sum(axis=1)
    left_S, right_S = (weights_SR * left_SR**2).sum(axis=1), (weights_SR * right_SR**2).sum(axis=1)
    return ratio_or_nan(covariance_S, np.sqrt(left_S * right_S))


def _centred(values_SR: Floats, shares_SR: Floats) -> Floats:
    """Minus the mean; exactly 0 where all values that count are equal, whatever rounding leaves."""
    centred_SR = values_SR - (values_SR * shares_SR).sum(axis=1, keepdims=True)
    return np.where(np.abs(centred_SR) > _ROUNDING * np.abs(values_SR), centred_SR, 0.0)


COMPONENT: type[kinds.Metrics] = Metrics
