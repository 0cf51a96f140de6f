"""Which tokens of a batch see which: padded or packed rows, rows without their padding, or pieces of one long row on a GPU.

Everything but attention looks at each token by itself, so the other layers take tokens flat, (N, D); the classes here know where
rows and documents begin.

Shape suffixes: N tokens, B rows, T tokens of a row, P asked positions of the fullest row, Q queries of a row, M asked positions in all,
D width, H heads, E width of a head, S pieces.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

Kernel = Literal["eager", "sdpa"]


class Attention(Protocol):
    """Mixes values by how well queries and keys match; which tokens there are, it knows."""

    def everywhere(self, query_ND: Tensor, key_ND: Tensor, value_ND: Tensor, num_heads: int) -> Tensor:
        """(N, D)."""

    def at_asked(self, query_MD: Tensor, key_ND: Tensor, value_ND: Tensor, num_heads: int) -> Tensor:
        """For the asked positions alone, (M, D)."""


@dataclass(frozen=True)
class Positions:
    """Positions of a batch at which hidden states are wanted: ascending, then some that only fill their count up."""

    flat_M: Tensor
    """Indices into the flattened (B * T)."""
    column_BP: Tensor
    """Their columns, row by row, padded with 0 to the count of the fullest row."""
    slot_M: Tensor
    """Where each stands in the flattened (B * P)."""
    num_asked: int
    """How many of them are wanted."""


_COUNT_MULTIPLE = 64
"""oneDNN prepares and keeps its kernels for each count of rows that it has not met, at 0.5 to 1 ms each: a tenth of a step of BERT-tiny.
What it keeps lies between what is freed: with another count in each step, 128 steps of MiniLM grew from 2 to 5 GB."""
_WIDTH_MULTIPLE = 8


def positions_at(flat_M: np.ndarray, shape: tuple[int, int], *, fill: bool = False) -> Positions:
    """Describe positions of a (B, T) batch.

    Args:
        flat_M: ascending indices into the flattened batch.
        fill: ask for more positions, spread over the batch, up to a multiple of 64.
    """
    (num_rows, num_tokens), num_asked = shape, len(flat_M)
    if fill:
        flat_M = np.concatenate([flat_M, _others(flat_M, -num_asked % _COUNT_MULTIPLE, num_rows * num_tokens)])
    order = np.argsort(flat_M, kind="stable")
    row_M, column_M = np.divmod(flat_M[order], num_tokens)
    count_B = np.bincount(row_M, minlength=num_rows)
    width = max(1, int(count_B.max(initial=0)))
    width = min(num_tokens, width + -width % _WIDTH_MULTIPLE) if fill else width
    slot_M = row_M * width + np.arange(len(flat_M)) - (np.cumsum(count_B) - count_B)[row_M]
    column_BP = np.zeros(num_rows * width, dtype=np.int64)
    column_BP[slot_M] = column_M
    in_order_M = np.empty_like(slot_M)
    in_order_M[order] = slot_M
    return Positions(torch.from_numpy(flat_M), torch.from_numpy(column_BP).view(num_rows, width), torch.from_numpy(in_order_M), num_asked)


def _others(flat_M: np.ndarray, count: int, total: int) -> np.ndarray:
    """So many indices below `total` that are not in `flat_M`, or all there are, evenly spread."""
    is_other = np.ones(total, dtype=np.bool_)
    is_other[flat_M] = False
    others = np.flatnonzero(is_other)
    return others if len(others) <= count else others[np.arange(count) * len(others) // max(1, count)]


def first_positions(ids_BT: Tensor) -> Positions:
    """The first token of each row."""
    rows_B = torch.arange(ids_BT.shape[0], device=ids_BT.device)
    return Positions(rows_B * ids_BT.shape[1], torch.zeros_like(rows_B)[:, None], rows_B, len(rows_B))


def as_bias(allowed: Tensor) -> Tensor:
    """0 where attention is allowed, else a large negative number, float32."""
    return torch.zeros(allowed.shape, dtype=torch.float32, device=allowed.device).masked_fill_(~allowed, torch.finfo(torch.bfloat16).min)


@dataclass(frozen=True)
class RowAttention:
    """Over rows that are all as wide, N = B * T; a mask says who sees whom."""

    shape: tuple[int, int]
    allowed: Tensor
    """Broadcasts to (B, 1, Q, T): for `eager` 0 or a large negative number, for `sdpa` True or False."""
    kernel: Kernel
    asked: Positions | None = None

    def everywhere(self, query_ND: Tensor, key_ND: Tensor, value_ND: Tensor, num_heads: int) -> Tensor:
        """(N, D)."""
        return self._attend(self._rows(query_ND), key_ND, value_ND, self.allowed, num_heads).flatten(0, 1)

    def at_asked(self, query_MD: Tensor, key_ND: Tensor, value_ND: Tensor, num_heads: int) -> Tensor:
        """(M, D)."""
        assert self.asked is not None
        asked, allowed = self.asked, self.allowed
        num_rows, width = asked.column_BP.shape
        query_BPD = query_MD.new_zeros(num_rows * width, query_MD.shape[-1]).index_copy(0, asked.slot_M, query_MD).view(num_rows, width, -1)
        if allowed.shape[2] > 1:
            allowed = allowed.gather(2, asked.column_BP[:, None, :, None].expand(-1, -1, -1, allowed.shape[3]))
        return self._attend(query_BPD, key_ND, value_ND, allowed, num_heads).flatten(0, 1)[asked.slot_M]

    def _rows(self, tokens_ND: Tensor) -> Tensor:
        return tokens_ND.view(*self.shape, tokens_ND.shape[-1])

    def _attend(self, query_BQD: Tensor, key_ND: Tensor, value_ND: Tensor, allowed: Tensor, num_heads: int) -> Tensor:
        query_BHQE, key_BHTE, value_BHTE = (
            part.view(*part.shape[:2], num_heads, -1).transpose(1, 2) for part in (query_BQD, self._rows(key_ND), self._rows(value_ND))
        )
        if self.kernel == "sdpa":
            mixed_BHQE = functional.scaled_dot_product_attention(query_BHQE, key_BHTE, value_BHTE, attn_mask=allowed)
        else:
            scores_BHQT = query_BHQE @ key_BHTE.transpose(-1, -2) * query_BHQE.shape[-1] ** -0.5 + allowed
            mixed_BHQE = scores_BHQT.softmax(-1, dtype=torch.float32).to(value_BHTE.dtype) @ value_BHTE
        return mixed_BHQE.transpose(1, 2).flatten(2)


@dataclass(frozen=True)
class Pieces:
    """Where the texts begin that a batch holds one behind the other."""

    start_S: Tensor
    """First token of each, and their total behind the last: (S + 1,) int32."""
    longest: int
    """No text is longer."""
    asked_S: Tensor | None = None
    """The same of the asked positions."""
    num_asked: int = 0
    """The last of `asked_S`; queries behind it fill their count up."""


def packed_pieces(segments: np.ndarray, flat_M: np.ndarray) -> Pieces:
    """The documents' pieces of packed rows.

    Args:
        segments: (B, T) document numbers; neighbours of one number in a row are one piece.
        flat_M: the asked positions, ascending indices into the flattened batch.
    """
    begins = np.ones(segments.shape, dtype=np.bool_)
    np.not_equal(segments[:, 1:], segments[:, :-1], out=begins[:, 1:])
    starts = np.append(np.flatnonzero(begins), segments.size)
    asked = np.searchsorted(flat_M, starts)
    return Pieces(torch.from_numpy(starts.astype(np.int32)), segments.shape[1], torch.from_numpy(asked.astype(np.int32)), len(flat_M))


@dataclass(frozen=True)
class RealTokens:
    """The tokens of padded rows without their padding; places are indices into the flattened (B * T)."""

    flat_N: Tensor
    """What is computed, ascending: the real tokens, and of the padding what fills their count up to a multiple of 64."""
    first_B: Tensor
    """Where in `flat_N` the first token of each row stands."""
    exact_N: Tensor
    """The real tokens alone."""
    pieces: Pieces
    """The rows in `exact_N`; the first token of each is asked for."""


def real_tokens(lengths: np.ndarray, width: int) -> RealTokens:
    """Describe rows of such lengths, padded to `width` at their ends."""
    is_real = np.arange(width) < lengths[:, None]
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    exact_N = np.flatnonzero(is_real)
    missing = -len(exact_N) % _COUNT_MULTIPLE
    flat_N = np.sort(np.concatenate([exact_N, np.flatnonzero(~is_real)[:missing]])) if missing else exact_N
    first_B = np.searchsorted(flat_N, np.arange(len(lengths)) * width)
    pieces = Pieces(torch.from_numpy(starts), width, torch.arange(len(lengths) + 1, dtype=torch.int32), len(lengths))
    return RealTokens(torch.from_numpy(flat_N), torch.from_numpy(first_B), torch.from_numpy(exact_N), pieces)


class _Pad(torch.autograd.Function):
    """Tokens to their places in padded rows, zeros between; backward takes them out again."""

    @staticmethod
    def forward(ctx: Any, tokens_ND: Tensor, flat_N: Tensor, slots: int) -> Tensor:
        ctx.save_for_backward(flat_N)
        return tokens_ND.new_zeros(slots, tokens_ND.shape[-1]).index_copy_(0, flat_N, tokens_ND)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (flat_N,) = ctx.saved_tensors
        return gradients[0].index_select(0, flat_N), None, None


class _Unpad(torch.autograd.Function):
    """The way back; index_select's own backward would add where a copy is enough."""

    @staticmethod
    def forward(ctx: Any, padded: Tensor, flat_N: Tensor) -> Tensor:
        ctx.save_for_backward(flat_N)
        ctx.slots = len(padded)
        return padded.index_select(0, flat_N)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (flat_N,) = ctx.saved_tensors
        return gradients[0].new_zeros(ctx.slots, gradients[0].shape[-1]).index_copy_(0, flat_N, gradients[0]), None


def pad(tokens_ND: Tensor, flat_N: Tensor, shape: tuple[int, int]) -> Tensor:
    """Put tokens into their places in padded rows, (B, T, D), zeros elsewhere."""
    padded: Tensor = _Pad.apply(tokens_ND, flat_N, shape[0] * shape[1])  # type: ignore[no-untyped-call]
    return padded.view(*shape, tokens_ND.shape[-1])


@dataclass(frozen=True)
class UnpaddedAttention:
    """Over real tokens: they stand in padded rows for the attention's two products alone."""

    rows: RowAttention
    flat_N: Tensor
    """Their places in the flattened (B * T)."""

    def everywhere(self, query_ND: Tensor, key_ND: Tensor, value_ND: Tensor, num_heads: int) -> Tensor:
        """(N, D)."""
        mixed = self.rows.everywhere(self._pad(query_ND), self._pad(key_ND), self._pad(value_ND), num_heads)
        tokens_ND: Tensor = _Unpad.apply(mixed, self.flat_N)  # type: ignore[no-untyped-call]
        return tokens_ND

    def at_asked(self, query_MD: Tensor, key_ND: Tensor, value_ND: Tensor, num_heads: int) -> Tensor:
        """(M, D)."""
        return self.rows.at_asked(query_MD, self._pad(key_ND), self._pad(value_ND), num_heads)

    def _pad(self, tokens_ND: Tensor) -> Tensor:
        return pad(tokens_ND, self.flat_N, self.rows.shape).flatten(0, 1)


@dataclass(frozen=True)
class VarlenAttention:
    """Flash attention over pieces of unequal length (Dao 2023, https://arxiv.org/abs/2307.08691); needs CUDA and 16-bit numbers."""

    pieces: Pieces

    def everywhere(self, query_ND: Tensor, key_ND: Tensor, value_ND: Tensor, num_heads: int) -> Tensor:
        """(N, D)."""
        return self._attend(query_ND, key_ND, value_ND, self.pieces.start_S, num_heads)

    def at_asked(self, query_MD: Tensor, key_ND: Tensor, value_ND: Tensor, num_heads: int) -> Tensor:
        """(M, D)."""
        assert self.pieces.asked_S is not None
        num_asked = self.pieces.num_asked
        mixed = self._attend(query_MD[:num_asked], key_ND, value_ND, self.pieces.asked_S, num_heads)
        return functional.pad(mixed, (0, 0, 0, len(query_MD) - num_asked))

    def _attend(self, query: Tensor, key_ND: Tensor, value_ND: Tensor, query_starts: Tensor, num_heads: int) -> Tensor:
        from torch.nn.attention.varlen import varlen_attn

        heads = [part.view(len(part), num_heads, -1) for part in (query, key_ND, value_ND)]
        longest, starts = self.pieces.longest, self.pieces.start_S
        mixed: Tensor = varlen_attn(heads[0], heads[1], heads[2], query_starts, starts, longest, longest)  # type: ignore[assignment]
        return mixed.flatten(1)
