"""A sigmoid for each label, on one vector a row.

Shapes: B rows, C labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from acclimate import kinds
from acclimate.data.tokens.encoding import Encoded, encode_inputs

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import Tensor, nn


class Model:
    """Binary cross-entropy."""

    per_token: ClassVar[bool] = False
    task_class: ClassVar[str] = "SequenceClassification"
    problem_type: ClassVar[str | None] = "multi_label_classification"

    def encode(self, inputs: Sequence[kinds.Input], tokenizer: Tokenizer, *, max_length: int, options: Mapping[str, Any]) -> Encoded:
        """Texts, or pairs of texts, cut at `max_length`."""
        return encode_inputs(tokenizer, inputs, max_length=max_length)

    def num_outputs(self, labels: Sequence[str] | None) -> int:
        """One a label."""
        return len(labels or ())

    def gold(self, values: Sequence[Sequence[str]], labels: Sequence[str] | None) -> list[list[int]]:
        """One 0 or 1 for each label, a row."""
        return [[int(label in set(value)) for label in labels or ()] for value in values]

    def standardization(self, values: Sequence[Any]) -> tuple[float, float]:
        """None."""
        return 0.0, 1.0

    def targets(
        self, gold: Sequence[Sequence[int]], encoded: Encoded, rows: NDArray[np.int64], width: int
    ) -> tuple[Tensor, NDArray[np.int64]]:
        """(B, C) float32; one loss term a row, the sum over its labels."""
        import torch

        return torch.tensor(np.asarray([gold[row] for row in rows]), dtype=torch.float32), np.ones(len(rows), dtype=np.int64)

    def head(self, width: int, num_outputs: int) -> nn.Module:
        """Linear."""
        from acclimate.backbones.heads import linear_head

        return linear_head(width, num_outputs)

    def row_losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Binary cross-entropy of each row, summed over its labels."""
        from torch.nn.functional import binary_cross_entropy_with_logits

        return binary_cross_entropy_with_logits(outputs.float(), targets, reduction="none").sum(dim=1)

    def predictions(self, logits: Sequence[NDArray[np.float32]], encoded: Encoded) -> list[NDArray[np.float32]]:
        """The logits, (C,)."""
        return [row.astype(np.float32) for row in logits]


COMPONENT: type[kinds.Model] = Model
