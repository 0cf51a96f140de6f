"""Unpadded rows and packed pieces against rows that a mask tells apart."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from acclimate.backbones.fast.attention import (
    Pieces,
    RowAttention,
    UnpaddedAttention,
    VarlenAttention,
    packed_pieces,
    positions_at,
    real_tokens,
)
from acclimate.backbones.fast.rows import block_mask
from acclimate.backbones.loading import load_backbone
from acclimate.backbones.post_norm import PostNorm
from acclimate.protocols import keyed_generator

HEADS, WIDTH = 2, 16
LENGTHS = np.array([7, 90, 33, 1])


def tensors(rows: int, seed: int = 1) -> list[Tensor]:
    generator = keyed_generator(seed)
    return [torch.randn(rows, WIDTH, generator=generator, requires_grad=True) for _ in range(3)]


def test_real_tokens_are_ascending_and_their_count_is_filled_up() -> None:
    real = real_tokens(LENGTHS, 90)
    rows_of = real.exact_N // 90
    assert torch.bincount(rows_of).tolist() == LENGTHS.tolist()
    assert len(real.flat_N) == 192 and bool((real.flat_N.diff() > 0).all())
    assert torch.isin(real.exact_N, real.flat_N).all()
    assert real.flat_N[real.first_B].tolist() == [0, 90, 180, 270]
    assert real.pieces.start_S.tolist() == [0, 7, 97, 130, 131] and real.pieces.start_S.dtype == torch.int32


def test_rows_without_padding_are_taken_whole() -> None:
    real = real_tokens(np.array([5, 5]), 5)
    assert real.flat_N.tolist() == list(range(10)), "there is no padding to fill the count with"


def test_attention_over_unpadded_tokens_equals_that_over_padded_rows() -> None:
    real, shape = real_tokens(LENGTHS, 90), (4, 90)
    allowed = (torch.arange(90) < torch.from_numpy(LENGTHS)[:, None])[:, None, None, :]
    rows = RowAttention(shape, allowed, "sdpa", positions_at(np.arange(4) * 90, shape))
    padded = tensors(360)
    flat = [part.detach()[real.flat_N].requires_grad_() for part in padded]
    unpadded = UnpaddedAttention(rows, real.flat_N)
    is_real = torch.isin(real.flat_N, real.exact_N)
    ours, theirs = unpadded.everywhere(*flat, HEADS)[is_real], rows.everywhere(*padded, HEADS)[real.exact_N]
    torch.testing.assert_close(ours, theirs)
    weights = torch.randn(ours.shape, generator=keyed_generator(2))
    own, reference = torch.autograd.grad((ours * weights).sum(), flat), torch.autograd.grad((theirs * weights).sum(), padded)
    for left, right in zip(own, reference, strict=True):
        torch.testing.assert_close(left, right[real.flat_N])
    first = [flat[0][real.first_B], *flat[1:]], [padded[0][::90], *padded[1:]]
    torch.testing.assert_close(unpadded.at_asked(*first[0], HEADS), rows.at_asked(*first[1], HEADS))


SEGMENTS = torch.tensor([[1, 1, 1, 2, 2, 2, 2, 3], [1, 1, 1, 1, 1, 1, 1, 1], [4, 4, 5, 5, 5, 6, 6, 6]])
ASKED = np.array([1, 2, 5, 9, 14, 20, 23])


def test_pieces_are_the_runs_of_a_document_in_a_row() -> None:
    pieces = packed_pieces(SEGMENTS.numpy(), ASKED)
    assert pieces.start_S.tolist() == [0, 3, 7, 8, 16, 18, 21, 24]
    assert pieces.asked_S is not None and pieces.asked_S.tolist() == [0, 2, 3, 3, 5, 5, 6, 7]
    assert pieces.longest == 8


def one_by_one(query: Tensor, key: Tensor, value: Tensor, starts_q: Tensor, starts_k: Tensor, max_q: int, max_k: int) -> Tensor:
    """What varlen_attn computes, in its own words: each piece by itself; (tokens, heads, width of a head)."""
    assert starts_q.dtype == starts_k.dtype == torch.int32
    assert int(starts_q.diff().max()) <= max_q and int(starts_k.diff().max()) <= max_k
    out = []
    for (a, b), (c, d) in zip(pairwise(starts_q.tolist()), pairwise(starts_k.tolist()), strict=True):
        scores = torch.einsum("qhe,the->hqt", query[a:b], key[c:d]) * query.shape[-1] ** -0.5
        out.append(torch.einsum("hqt,the->qhe", scores.softmax(-1), value[c:d]))
    return torch.cat(out)


@pytest.fixture
def kernel_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel needs CUDA (test_varlen_kernel_gives_what_the_block_mask_gives has one)."""
    import torch.nn.attention.varlen

    monkeypatch.setattr(torch.nn.attention.varlen, "varlen_attn", one_by_one)


def masked_and_pieces() -> tuple[RowAttention, Pieces]:
    rows = RowAttention((3, 8), block_mask(SEGMENTS, additive=False), "sdpa", positions_at(ASKED, (3, 8)))
    return rows, packed_pieces(SEGMENTS.numpy(), ASKED)


@pytest.mark.usefixtures("kernel_in_words")
def test_pieces_of_packed_rows_give_what_the_block_mask_gives() -> None:
    rows, pieces = masked_and_pieces()
    query, key, value = tensors(24)
    varlen = VarlenAttention(pieces)
    torch.testing.assert_close(varlen.everywhere(query, key, value, HEADS), rows.everywhere(query, key, value, HEADS))
    torch.testing.assert_close(varlen.at_asked(query[ASKED], key, value, HEADS), rows.at_asked(query[ASKED], key, value, HEADS))


@pytest.mark.usefixtures("kernel_in_words")
@pytest.mark.parametrize("first_only", [False, True])
def test_an_encoder_gives_the_same_by_pieces_as_by_masks(tiny_encoder_dir: Path, monkeypatch: pytest.MonkeyPatch, first_only: bool) -> None:
    encoder = load_backbone(tiny_encoder_dir).train()
    ids = torch.randint(1000, 30000, (3, 8), generator=keyed_generator(3))
    pieces, at = packed_pieces(SEGMENTS.numpy(), ASKED), positions_at(ASKED, (3, 8)) if first_only else None
    lengths = np.array([8, 3, 6])
    mask, real = torch.arange(8) < torch.from_numpy(lengths)[:, None], real_tokens(lengths, 8)

    def both() -> list[Tensor]:
        in_rows = encoder.packed(ids, SEGMENTS, at=at, pieces=pieces)
        unpadded = encoder.padded(ids, mask, real=real, first_only=first_only)
        return [in_rows, unpadded if first_only else unpadded[mask]]

    expected = both()
    monkeypatch.setattr(PostNorm, "takes_varlen", True)
    for ours, theirs in zip(both(), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.gpu
def test_varlen_kernel_gives_what_the_block_mask_gives() -> None:
    rows, pieces = masked_and_pieces()

    def on_gpu(part: Any) -> Any:
        return part.to("cuda")

    pieces = Pieces(on_gpu(pieces.start_S), pieces.longest, on_gpu(pieces.asked_S))
    sixteen = [torch.randn(24, 64, generator=keyed_generator(seed)).bfloat16() for seed in range(3)]
    varlen = VarlenAttention(pieces)
    query, key, value = (on_gpu(part) for part in sixteen)
    expected = rows.everywhere(*(part.float() for part in sixteen), HEADS)
    torch.testing.assert_close(varlen.everywhere(query, key, value, HEADS).float().cpu(), expected, rtol=2e-2, atol=2e-2)
    asked = rows.at_asked(*(part.float() for part in (sixteen[0][ASKED], *sixteen[1:])), HEADS)
    torch.testing.assert_close(
        varlen.at_asked(query[on_gpu(torch.from_numpy(ASKED))], key, value, HEADS).float().cpu(), asked, rtol=2e-2, atol=2e-2
    )


def test_positions_that_fill_the_count_up_stand_behind_the_asked_ones_and_change_none() -> None:
    at, filled = positions_at(ASKED, (3, 8)), positions_at(ASKED, (3, 8), fill=True)
    assert filled.num_asked == len(ASKED) and filled.flat_M[:7].tolist() == ASKED.tolist()
    assert sorted(filled.flat_M.tolist()) == list(range(24)), "a batch of 24 has no 64: all of it"
    assert len(positions_at(np.arange(0, 4096, 7), (32, 128), fill=True).flat_M) == 640
    query, key, value = tensors(24)
    allowed = block_mask(SEGMENTS, additive=False)
    theirs = RowAttention((3, 8), allowed, "sdpa", at).at_asked(query[at.flat_M], key, value, HEADS)
    ours = RowAttention((3, 8), allowed, "sdpa", filled).at_asked(query[filled.flat_M], key, value, HEADS)
    torch.testing.assert_close(ours[:7], theirs)


@pytest.mark.usefixtures("kernel_in_words")
def test_pieces_pass_over_positions_that_fill_the_count_up() -> None:
    filled = positions_at(ASKED, (3, 8), fill=True)
    query, key, value = tensors(24)
    mixed = VarlenAttention(packed_pieces(SEGMENTS.numpy(), ASKED)).at_asked(query[filled.flat_M], key, value, HEADS)
    rows, _ = masked_and_pieces()
    torch.testing.assert_close(mixed[:7], rows.at_asked(query[ASKED], key, value, HEADS))
    assert mixed.shape == (24, WIDTH) and not mixed[7:].any()
