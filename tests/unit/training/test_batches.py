"""Labelled rows of unequal length as padded batches."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from acclimate.protocols import Term
from acclimate.training.batches import TASK_LOSS, LabelledBatch, by_length, make_labelled_batch, pad_rows


def ragged(lengths: list[int]) -> SimpleNamespace:
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ids = np.arange(1, offsets[-1] + 1, dtype=np.int32)
    return SimpleNamespace(ids=ids, type_ids=ids % 2, offsets=offsets)


class PerRow(Term):
    def counts(self, batch: LabelledBatch) -> dict[str, int]:
        return {"per_row": batch.num_rows}


def a_term_for_each_token(encoded: SimpleNamespace) -> object:
    def collate(rows: np.ndarray, width: int) -> tuple[Tensor, np.ndarray]:
        return torch.tensor(rows)[:, None].expand(-1, width), encoded.offsets[rows + 1] - encoded.offsets[rows]

    return collate


def batch_of(lengths: list[int], rows: list[int], pad_id: int = 0) -> LabelledBatch:
    encoded = ragged(lengths)
    return make_labelled_batch(encoded, np.array(rows), a_term_for_each_token(encoded), pad_id, [PerRow()])  # type: ignore[arg-type]


def test_padding_changes_no_token() -> None:
    lengths, rows = [5, 9, 3, 12], [3, 0, 2]
    encoded, batch = ragged(lengths), batch_of(lengths, rows, pad_id=7)
    assert batch.ids_BT.shape == (3, 16) and batch.num_tokens == 20
    for row, ids, types, mask in zip(rows, batch.ids_BT, batch.type_ids_BT, batch.mask_BT.bool(), strict=True):
        wanted = slice(encoded.offsets[row], encoded.offsets[row + 1])
        assert ids[mask].tolist() == encoded.ids[wanted].tolist() and ids[~mask].eq(7).all()
        assert types[mask].tolist() == encoded.type_ids[wanted].tolist() and types[~mask].eq(0).all()


def test_a_batch_counts_the_terms_of_the_tasks_loss_and_of_further_ones_also_in_parts() -> None:
    batch = batch_of([5, 9, 3, 12], [3, 0, 2])
    assert batch.counts() == {TASK_LOSS: 20, "per_row": 3}
    part = batch.part(1, 3)
    assert part.counts() == {TASK_LOSS: 8, "per_row": 2} and part.num_tokens == 8
    assert part.rows.tolist() == [0, 2] and part.targets[:, 0].tolist() == [0, 2]
    for name in ("ids_BT", "mask_BT", "type_ids_BT", "terms_B"):
        assert torch.equal(getattr(part, name), getattr(batch, name)[1:])


def test_a_part_knows_where_its_own_real_tokens_are() -> None:
    batch, alone = batch_of([5, 12, 3], [0, 1, 2]), batch_of([5, 12], [0, 1])
    part = batch.part(0, 2)
    assert part.real is not None and alone.real is not None
    assert all(torch.equal(ours, wanted) for ours, wanted in zip(vars(part.real).values(), vars(alone.real).values(), strict=True)
               if isinstance(ours, Tensor))  # fmt: skip


def test_inference_batches_hold_every_row_once_and_keep_to_their_size() -> None:
    encoded = ragged([10, 50, 3, 7, 64, 64, 1])
    batches = list(by_length(encoded, tokens_per_batch=128))
    assert sorted(np.concatenate(batches)) == list(range(7))
    assert all(len(rows) * np.diff(encoded.offsets)[rows].max() <= 128 for rows in batches)


@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=6), spare=st.one_of(st.none(), st.integers(0, 12)))
def test_padding_ends_at_the_longest_row_that_there_can_be(lengths: list[int], spare: int | None) -> None:
    """A multiple of 8 may lie beyond an encoder's positions."""
    most = None if spare is None else max(lengths) + spare
    ids_BT, mask_BT, _ = pad_rows(ragged(lengths), np.arange(len(lengths)), 0, longest=most)
    assert mask_BT.sum(1).tolist() == lengths
    multiple = -(-max(lengths) // 8) * 8
    assert ids_BT.shape[1] == (multiple if most is None else min(multiple, most))
