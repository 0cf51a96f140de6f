"""Do two runtimes compute the same model? Logits and decisions compared, row by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from acclimate.errors import ModelError

Rows = Sequence[NDArray[np.float32]]
"""Logits of each row: (C,), or (K, C) for the K words of a tagged row."""


@dataclass(frozen=True)
class Parity:
    """How far a candidate's logits are from the reference's over a set of rows."""

    rows: int
    max_logit_difference: float
    worst_id: str
    label_flips: int
    """Decisions that differ: rows, (row, label) pairs for multi_label, words for tagging. 0 for regression, which decides nothing."""
    decisions: int


def compare(reference: Rows, candidate: Rows, ids: Sequence[str], *, kind: str) -> Parity:
    """Compare two sets of logits of the same rows.

    Raises:
        ModelError: shapes differ or a logit is not finite; the message names the row.
    """
    worst, worst_id, flips, decisions = -1.0, "", 0, 0
    for expected, found, row_id in zip(reference, candidate, ids, strict=True):
        if expected.shape != found.shape:
            raise ModelError(f"example {row_id!r}: logits of shape {expected.shape} in torch, {found.shape} in ONNX")
        if not (np.isfinite(expected).all() and np.isfinite(found).all()):
            raise ModelError(f"example {row_id!r}: a logit is not finite")
        difference = float(np.abs(expected.astype(np.float64) - found).max(initial=0.0))
        if difference > worst:
            worst, worst_id = difference, row_id
        left, right = _decisions(expected, kind), _decisions(found, kind)
        flips += int((left != right).sum())
        decisions += left.size
    return Parity(len(ids), worst, worst_id, flips, decisions)


def require_parity(parity: Parity, *, limit: float, what: str) -> None:
    """Refuse an export that computes something else.

    Raises:
        ModelError: the largest difference is above `limit`; the message names the example.
    """
    if parity.max_logit_difference > limit:
        raise ModelError(
            f"{what}: logits differ from torch's by {parity.max_logit_difference:.3g} at example {parity.worst_id!r} "
            f"({parity.label_flips} of {parity.decisions} decisions flip); export.max_logit_difference allows {limit:g}"
        )


def _decisions(logits: NDArray[np.float32], kind: str) -> NDArray[np.int64]:
    if kind == "regression":
        return np.empty(0, dtype=np.int64)
    if kind == "multi_label":
        return (logits > 0).astype(np.int64)
    return np.atleast_1d(logits.argmax(axis=-1)).astype(np.int64)
