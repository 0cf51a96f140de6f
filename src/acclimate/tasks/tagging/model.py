"""Softmax over tags, on the first sub-token of each word.

Shapes: B rows, T tokens, C tags, K words of a row that were not cut off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from acclimate import kinds
from acclimate.data.tokens.encoding import Encoded, encode_words

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import Tensor, nn


IGNORE = -100
"""Target of a token that is not predicted, as torch's cross_entropy has it."""


class Model:
    """Cross-entropy over words."""

    per_token: ClassVar[bool] = True
    task_class: ClassVar[str] = "TokenClassification"
    problem_type: ClassVar[str | None] = None

    def encode(self, inputs: Sequence[kinds.Input], tokenizer: Tokenizer, *, max_length: int, options: Mapping[str, Any]) -> Encoded:
        """Words, cut at `max_length` tokens."""
        return encode_words(tokenizer, [row["words"] for row in inputs], max_length=max_length)

    def num_outputs(self, labels: Sequence[str] | None) -> int:
        """One a tag."""
        return len(labels or ())

    def gold(self, values: Sequence[Sequence[str]], labels: Sequence[str] | None) -> list[list[int]]:
        """Tag numbers of the words of each row."""
        number = {label: index for index, label in enumerate(labels or ())}
        return [[number[tag] for tag in tags] for tags in values]

    def standardization(self, values: Sequence[Any]) -> tuple[float, float]:
        """None."""
        return 0.0, 1.0

    def targets(
        self, gold: Sequence[Sequence[int]], encoded: Encoded, rows: NDArray[np.int64], width: int
    ) -> tuple[Tensor, NDArray[np.int64]]:
        """(B, T) int64, IGNORE but at the first sub-token of a kept word; a loss term for each of those."""
        import torch

        assert encoded.word_positions is not None
        targets_BT = np.full((len(rows), width), IGNORE, dtype=np.int64)
        for target_T, row in zip(targets_BT, rows, strict=True):
            positions = encoded.word_positions[row]
            target_T[positions] = gold[row][: len(positions)]
        return torch.from_numpy(targets_BT), (targets_BT != IGNORE).sum(axis=1)

    def head(self, width: int, num_outputs: int) -> nn.Module:
        """Linear."""
        from acclimate.backbones.heads import linear_head

        return linear_head(width, num_outputs)

    def row_losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy of each row, summed over its words."""
        from torch.nn.functional import cross_entropy

        losses = cross_entropy(outputs.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORE, reduction="none")
        return losses.view(targets.shape).sum(dim=1)

    def predictions(self, logits: Sequence[NDArray[np.float32]], encoded: Encoded) -> list[NDArray[np.float32]]:
        """The logits of the kept words, (K C,)."""
        return [row.astype(np.float32).ravel() for row in logits]


COMPONENT: type[kinds.Model] = Model
