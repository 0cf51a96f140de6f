"""Labelled rows of unequal length as padded batches.

Shape suffixes: B rows, T tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch import Tensor

from acclimate.backbones.fast.attention import RealTokens, real_tokens
from acclimate.protocols import Batch, Term
from acclimate.training.streams import as_int64

_LENGTH_MULTIPLE = 8
IGNORE = -100
"""Target of a token that is not predicted, as torch's cross_entropy has it."""
TASK_LOSS = "task"


@dataclass(frozen=True)
class LabelledBatch(Batch):
    """Rows of unequal length, padded to the longest (a multiple of 8)."""

    ids_BT: Tensor
    mask_BT: Tensor
    type_ids_BT: Tensor
    targets: Tensor
    """(B, ...), as the kind's loss reads them."""
    terms_B: Tensor
    """How many terms the loss of each row sums."""
    rows: np.ndarray
    real: RealTokens | None = None
    """Where the real tokens are."""
    terms: tuple[Term, ...] = ()
    """Further terms of the loss."""

    def counts(self) -> dict[str, int]:
        """Terms of the task's loss, and of each further one."""
        counts = {TASK_LOSS: int(self.terms_B.sum())}
        for term in self.terms:
            counts |= term.counts(self)
        return counts

    @property
    def num_tokens(self) -> int:
        """Real tokens."""
        return int(self.mask_BT.sum())

    def part(self, start: int, stop: int) -> LabelledBatch:
        """Some of the rows, padded as they are."""
        tensors = (self.ids_BT, self.mask_BT, self.type_ids_BT, self.targets, self.terms_B)
        ids_BT, mask_BT, type_ids_BT, targets, terms_B = (tensor[start:stop] for tensor in tensors)
        real = real_tokens(mask_BT.sum(1).numpy(), mask_BT.shape[1])
        return LabelledBatch(ids_BT, mask_BT, type_ids_BT, targets, terms_B, self.rows[start:stop], real, self.terms)


class Rows(Protocol):
    """Encoded rows, ragged (see acclimate.data.tokens.encoding.Encoded)."""

    @property
    def ids(self) -> np.ndarray:
        """Token ids, flat."""

    @property
    def type_ids(self) -> np.ndarray:
        """Type ids, flat."""

    @property
    def offsets(self) -> np.ndarray:
        """Where each row starts, (rows + 1,)."""


def pad_rows(encoded: Rows, rows: np.ndarray, pad_id: int, *, longest: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Ids, mask and type ids of the given rows, each (B, T) int64.

    Args:
        longest: no row has more tokens; padding does not go beyond, where an encoder may have no positions.
    """
    starts, ends = encoded.offsets[rows], encoded.offsets[rows + 1]
    lengths = ends - starts
    width = -(-int(lengths.max()) // _LENGTH_MULTIPLE) * _LENGTH_MULTIPLE
    width = width if longest is None else min(width, longest)
    columns = np.arange(width)
    mask = columns[None, :] < lengths[:, None]
    index = np.where(mask, starts[:, None] + columns[None, :], 0)
    ids = np.where(mask, encoded.ids[index], pad_id)
    type_ids = np.where(mask, encoded.type_ids[index], 0)
    return as_int64(ids), as_int64(mask), as_int64(type_ids)


CollateTargets = Callable[[np.ndarray, int], tuple[Tensor, np.ndarray]]
"""(row numbers, padded width) -> the targets, and how many loss terms each row has, (B,) int64."""


def make_labelled_batch(
    encoded: Rows, rows: np.ndarray, collate_targets: CollateTargets, pad_id: int, terms: Sequence[Term] = (), *, longest: int | None = None
) -> LabelledBatch:
    """Pad rows and collate their targets."""
    ids_BT, mask_BT, type_ids_BT = pad_rows(encoded, rows, pad_id, longest=longest)
    targets, terms_B = collate_targets(rows, ids_BT.shape[1])
    real = real_tokens(encoded.offsets[rows + 1] - encoded.offsets[rows], ids_BT.shape[1])
    return LabelledBatch(ids_BT, mask_BT, type_ids_BT, targets, as_int64(terms_B), rows, real, tuple(terms))


def by_length(encoded: Rows, *, tokens_per_batch: int) -> Iterator[np.ndarray]:
    """Row numbers in batches of similar length and about equal padded size, for inference; longest first."""
    lengths = np.diff(encoded.offsets)
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        count = max(1, tokens_per_batch // int(max(1, lengths[order[start]])))
        yield order[start : start + count]
        start += count
