"""Do two runtimes compute the same model? Logits and decisions compared, example by example."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from acclimate.errors import ModelError
from acclimate.export.predictor import Decoder


@dataclass(frozen=True)
class Parity:
    """How far a candidate's predictions are from the reference's over a set of examples."""

    rows: int
    max_logit_difference: float
    """In the unit that the model learnt: for regression, standard deviations of the training labels."""
    worst_id: str
    label_flips: int
    """Decisions that differ, of those that the kind of task counts: labels, words; 0 where nothing is decided."""
    decisions: int


@dataclass(frozen=True)
class Scale:
    """How a model's outputs are brought to the labels' unit: times `scale`, plus `shift`."""

    shift: float = 0.0
    scale: float = 1.0

    def standardized(self, difference: float) -> float:
        """A difference in the unit that the model learnt, without what float32 rounds away beside a large shift."""
        return max(0.0, difference - 2 * float(np.spacing(np.float32(abs(self.shift))))) / self.scale


def compare(reference: Sequence[Any], candidate: Sequence[Any], ids: Sequence[str], decoder: Decoder, scale: Scale = Scale()) -> Parity:
    """Compare two sets of predictions of the same examples.

    Raises:
        ModelError: shapes differ or a logit is not finite; the message names the example.
    """
    worst, worst_id, flips, decisions = -1.0, "", 0, 0
    for left, right, example in zip(reference, candidate, ids, strict=True):
        expected, found = decoder.numbers(left), decoder.numbers(right)
        if expected.shape != found.shape:
            raise ModelError(f"example {example!r}: logits of shape {expected.shape} in torch, {found.shape} in ONNX")
        if not (np.isfinite(expected).all() and np.isfinite(found).all()):
            raise ModelError(f"example {example!r}: a logit is not finite")
        difference = scale.standardized(float(np.abs(expected.astype(np.float64) - found).max(initial=0.0)))
        if difference > worst:
            worst, worst_id = difference, example
        decided = decoder.decisions(left)
        flips += int((decided != decoder.decisions(right)).sum())
        decisions += decided.size
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
