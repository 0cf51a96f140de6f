"""Linear models that give logits for every label, also for labels that the training rows lack.

Shapes: R rows, C labels; features may be dense or sparse.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from acclimate.evaluation.arrays import Floats

TOLERANCE = 1e-3
"""Of the gradient of the mean loss, where L-BFGS stops. A baseline a few steps short of the optimum scores the same."""
_NEVER = -50.0
"""Logit of a label that no training row has: probability 2e-22."""


def standardized(train: Any, others: Sequence[Any]) -> tuple[Any, list[Any]]:
    """Dense features brought to mean 0 and deviation 1 of the training rows."""
    mean_D, scale_D = train.mean(axis=0), train.std(axis=0) + 1e-6
    return (train - mean_D) / scale_D, [(features - mean_D) / scale_D for features in others]


def logistic_logits(
    train: Any, gold_R: Any, others: Sequence[Any], *, num_labels: int, inverse_penalty: float, tolerance: float = TOLERANCE
) -> list[Floats]:
    """Multinomial logistic regression by L-BFGS.

    Returns:
        Log-probabilities, (R, C), for each of `others`.
    """
    gold_R = np.asarray(gold_R)
    present = np.unique(gold_R)
    logits = [np.full((features.shape[0], num_labels), _NEVER) for features in others]
    if len(present) == 1:
        for found in logits:
            found[:, present] = 0.0
        return logits
    with _one_thread():
        model = _fit_logistic(train, gold_R, inverse_penalty, tolerance)
    for found, features in zip(logits, others, strict=True):
        found[:, present] = np.maximum(np.log(np.maximum(model.predict_proba(features), 1e-30)), _NEVER)
    return logits


def one_vs_rest_logits(
    train: Any, gold_RC: Any, others: Sequence[Any], *, inverse_penalty: float, tolerance: float = TOLERANCE
) -> list[Floats]:
    """One logistic regression per label.

    Returns:
        Log-odds, (R, C), for each of `others`.
    """
    gold_RC = np.asarray(gold_RC)
    logits = [np.full((features.shape[0], gold_RC.shape[1]), _NEVER) for features in others]
    with _one_thread():
        for label, gold_R in enumerate(gold_RC.T):
            if gold_R.min() == gold_R.max():
                constant = _NEVER if gold_R[0] == 0 else -_NEVER
                for found in logits:
                    found[:, label] = constant
                continue
            model = _fit_logistic(train, gold_R, inverse_penalty, tolerance)
            for found, features in zip(logits, others, strict=True):
                found[:, label] = model.decision_function(features)
    return logits


def ridge_logits(train: Any, gold_R: Any, others: Sequence[Any], *, inverse_penalty: float) -> list[Floats]:
    """Ridge regression.

    Returns:
        Predictions, (R, 1), for each of `others`.
    """
    from sklearn.linear_model import Ridge

    with _one_thread():
        model = Ridge(alpha=1 / inverse_penalty, solver="sparse_cg", tol=1e-6).fit(train, gold_R)
        return [model.predict(features)[:, None] for features in others]


def _fit_logistic(train: Any, gold_R: Any, inverse_penalty: float, tolerance: float) -> Any:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the limit keeps its time bounded
        return LogisticRegression(C=inverse_penalty, max_iter=200, tol=tolerance).fit(train, gold_R)


def _one_thread() -> contextlib.AbstractContextManager[Any]:
    """One BLAS thread: on two busy cores the small products of L-BFGS took 8 to 19 times as long with two. Asking for it takes 3 ms."""
    from threadpoolctl import threadpool_limits

    limits: contextlib.AbstractContextManager[Any] = threadpool_limits(1)
    return limits
