"""One number, on one vector a row.

Shapes: B rows.
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
    """Squared error, in standard deviations of the training labels."""

    per_token: ClassVar[bool] = False
    task_class: ClassVar[str] = "SequenceClassification"
    problem_type: ClassVar[str | None] = "regression"

    def encode(self, inputs: Sequence[kinds.Input], tokenizer: Tokenizer, *, max_length: int, options: Mapping[str, Any]) -> Encoded:
        """Texts, or pairs of texts, cut at `max_length`."""
        return encode_inputs(tokenizer, inputs, max_length=max_length)

    def num_outputs(self, labels: Sequence[str] | None) -> int:
        """One."""
        return 1

    def gold(self, values: Sequence[float], labels: Sequence[str] | None) -> list[float]:
        """The numbers themselves."""
        return [float(value) for value in values]

    def standardization(self, values: Sequence[float]) -> tuple[float, float]:
        """Mean and standard deviation of the training labels, so that the learning rate does not depend on their unit."""
        return float(np.mean(values)), float(np.std(values)) or 1.0

    def targets(self, gold: Sequence[float], encoded: Encoded, rows: NDArray[np.int64], width: int) -> tuple[Tensor, NDArray[np.int64]]:
        """(B, 1) float32; one loss term a row."""
        import torch

        return torch.tensor([gold[row] for row in rows], dtype=torch.float32)[:, None], np.ones(len(rows), dtype=np.int64)

    def head(self, width: int, num_outputs: int) -> nn.Module:
        """Linear."""
        from acclimate.backbones.heads import linear_head

        return linear_head(width, num_outputs)

    def row_losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Squared error of each row."""
        from torch.nn.functional import mse_loss

        return mse_loss(outputs.float(), targets, reduction="none").sum(dim=1)

    def predictions(self, logits: Sequence[NDArray[np.float32]], encoded: Encoded) -> list[NDArray[np.float32]]:
        """The number, (1,)."""
        return [row.astype(np.float32) for row in logits]


COMPONENT: type[kinds.Model] = Model
