"""What a step reads: sources, streams, and the randomness of a batch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from acclimate.data.tokens.packing import PackedText, pack
from acclimate.protocols import Batch, Documents, Draw, PackedRows, keyed_generator
from acclimate.training.orders import InOrder, Shuffled
from acclimate.training.streams import Behind, DocumentSource, PackedSource, Stream, Streams, source_of

STARTS = np.cumsum([0, *np.random.default_rng(3).integers(1, 19, 100)])
NO_DRAW = Draw(0, "text", 0)


def text() -> PackedText:
    """Token n of the text is n, so that each can be found again; some tokens fill no row."""
    ids = np.arange(STARTS[-1], dtype=np.uint16)
    return pack(ids, STARTS[:-1], sequence_length=16, word_start_bits=np.packbits(ids % 3 == 0))


def document_of(tokens: Tensor) -> np.ndarray:
    return np.searchsorted(STARTS, tokens.numpy(), side="right")


@dataclass(frozen=True)
class Drawn(Batch):
    """The rows, and a number that is drawn for them."""

    ids_BT: Tensor
    number: Tensor


def drawn(view: PackedRows, draw: Draw) -> Drawn:
    return Drawn(view.ids_BT, torch.rand(1, generator=draw.generator()))


def stream(name: str, *, batch_size: int = 4, accumulation: int = 1, seed: int = 2, divisible: bool = True) -> Stream[PackedRows, Drawn]:
    source = PackedSource(text())
    return Stream(name, source, drawn, Shuffled(len(source), batch_size, seed), seed, accumulation, divisible)


def test_packed_rows_hold_the_text_its_own_segments_and_word_starts() -> None:
    source = PackedSource(text())
    assert len(source) == STARTS[-1] // 16
    view = source.view(np.array([3, 9, 40]), NO_DRAW)
    assert view.ids_BT[:, 0].tolist() == [48, 144, 640]
    for ids, segments in zip(view.ids_BT, view.segments_BT, strict=True):
        assert ids.tolist() == list(range(int(ids[0]), int(ids[0]) + 16))
        assert segments.tolist() == (document_of(ids) - document_of(ids)[0] + 1).tolist()
    assert torch.equal(view.word_starts(), view.ids_BT % 3 == 0)


def test_documents_are_whole_but_for_what_is_longer_than_a_row_and_the_short_ones_are_left_out() -> None:
    source = DocumentSource(text())
    whole_rows = len(text().ids) * 16
    lengths = np.minimum(np.diff(np.minimum(STARTS, whole_rows)), 16)
    assert len(source) == (lengths >= 8).sum() > 40
    found = source.view(np.arange(len(source)), NO_DRAW).ids
    assert [len(ids) for ids in found] == lengths[lengths >= 8].tolist()
    assert all(int(ids[0]) in STARTS and len(set(document_of(ids))) == 1 and ids.dtype == torch.int64 for ids in found)


def test_views_join_and_a_source_can_be_read_without_its_first_rows() -> None:
    for view, source in ((PackedRows, source_of(PackedRows, text())), (Documents, source_of(Documents, text()))):
        rest = Behind(source, 5)
        assert len(rest) == len(source) - 5 and len(Behind(source, 10**6)) == 0
        one, other = source.view(np.array([1, 2]), NO_DRAW), rest.view(np.array([0]), NO_DRAW)
        both, asked = one.join(other), source.view(np.array([1, 2, 5]), NO_DRAW)
        assert isinstance(both, view)
        if isinstance(both, PackedRows):
            assert torch.equal(both.ids_BT, asked.ids_BT) and torch.equal(both.segments_BT, asked.segments_BT)
            assert torch.equal(both.word_starts(), asked.word_starts())
        else:
            assert all(torch.equal(ours, wanted) for ours, wanted in zip(both.ids, asked.ids, strict=True))


def test_a_step_takes_each_streams_own_number_of_batches_and_names_their_rows() -> None:
    streams = Streams(4, [stream("a", accumulation=2), stream("b", batch_size=3, divisible=False)])
    window = streams.window(3)
    assert [(work.stream, work.index, work.batch.num_rows, work.divisible) for work in window] == [
        ("a", 6, 4, True),
        ("a", 7, 4, True),
        ("b", 3, 3, False),
    ]
    rows = streams.rows(3)
    for name in ("a", "b"):
        read = torch.cat([work.batch.ids_BT[:, 0] for work in window if work.stream == name]) // 16  # type: ignore[attr-defined]
        assert rows[name] == read.tolist()


def test_any_step_can_be_asked_for_at_once_and_is_the_same_beside_other_streams() -> None:
    alone, beside = Streams(9, [stream("a")]), Streams(9, [stream("b"), stream("a")])
    forwards = [alone.window(step)[0] for step in range(9)]
    for step in (8, 3, 0):
        for again in (alone.window(step)[0], beside.window(step)[1]):
            assert torch.equal(again.batch.ids_BT, forwards[step].batch.ids_BT)  # type: ignore[attr-defined]
            assert torch.equal(again.batch.number, forwards[step].batch.number)  # type: ignore[attr-defined]


def test_every_batch_of_every_stream_and_seed_draws_anew() -> None:
    batches = [stream(name, seed=seed).batch(index) for name in ("a", "b") for seed in (1, 2) for index in range(4)]
    assert len({float(batch.number) for batch in batches}) == 16
    draw = Draw(1, "a", 0)
    assert len({float(torch.rand(1, generator=draw.generator(*more))) for more in ((), (0,), (1,), (0, 0))}) == 4
    draws = {float(torch.rand(1, generator=keyed_generator(seed, step))) for seed in range(-2, 4) for step in range(4)}
    assert len(draws) == 24


def test_a_batch_is_told_how_far_the_run_is() -> None:
    source = PackedSource(text())
    told: list[tuple[int, float]] = []

    def make_batch(view: PackedRows, draw: Draw) -> Drawn:
        told.append((draw.index, draw.progress))
        return drawn(view, draw)

    streams = Streams(4, [Stream("a", source, make_batch, InOrder(len(source), 2), 0, 2)])
    for step in range(4):
        streams.window(step)
    assert told == [(0, 0.0), (1, 0.0), (2, 0.25), (3, 0.25), (4, 0.5), (5, 0.5), (6, 0.75), (7, 0.75)]
