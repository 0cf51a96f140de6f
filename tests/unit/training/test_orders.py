"""In which order rows are read."""

from __future__ import annotations

import numpy as np
import pytest

from acclimate.training import orders
from acclimate.training.orders import ByLength, InOrder, Order, Shuffled, epoch_order, shuffled_rows

LENGTHS = np.random.default_rng(0).integers(3, 120, 402)
ORDERS = {"shuffled": Shuffled(402, 6, 2), "in order": InOrder(402, 8), "by length": ByLength(LENGTHS, 8, 2)}
each_order = pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)


@each_order
def test_every_row_comes_once_an_epoch(order: Order) -> None:
    epoch = [order.rows(index) for index in range(order.batches_per_epoch)]
    assert sorted(np.concatenate(epoch)) == list(range(402))


@each_order
def test_any_batch_can_be_asked_for_at_once(order: Order) -> None:
    forwards = [order.rows(index) for index in range(order.batches_per_epoch)]
    for index in (order.batches_per_epoch - 1, 3, 0):
        assert np.array_equal(order.rows(index), forwards[index])


@pytest.mark.parametrize("order", [ORDERS["shuffled"], ORDERS["by length"]], ids=["shuffled", "by length"])
def test_another_epoch_and_another_seed_give_another_order(order: Order) -> None:
    other = Shuffled(402, 6, 3) if isinstance(order, Shuffled) else ByLength(LENGTHS, 8, 3)
    first, second, reseeded = (np.concatenate([found.rows(start + n) for n in range(20)]) for found, start in
                               ((order, 0), (order, order.batches_per_epoch), (other, 0)))  # fmt: skip
    assert not np.array_equal(first, second) and not np.array_equal(first, reseeded)


def test_rows_that_fill_no_batch_wait_for_the_next_epoch() -> None:
    order = Shuffled(10, 4, 0)
    assert order.batches_per_epoch == 2
    epochs = [np.concatenate([order.rows(2 * epoch), order.rows(2 * epoch + 1)]) for epoch in range(20)]
    assert all(len(set(rows)) == 8 for rows in epochs) and len({*np.concatenate(epochs)}) == 10


def test_rows_of_a_batch_are_of_similar_length() -> None:
    order = ByLength(LENGTHS, 4, 0)
    chosen = [LENGTHS[order.rows(index)] for index in range(order.batches_per_epoch)]
    assert LENGTHS.sum() / sum(int(lengths.max()) * len(lengths) for lengths in chosen) > 0.9


def test_a_batch_by_length_of_more_rows_than_there_are_holds_them_all() -> None:
    order = ByLength(np.array([5, 9, 3]), 4, 0)
    assert order.batches_per_epoch == 1 and all(sorted(order.rows(index)) == [0, 1, 2] for index in range(3))


@pytest.mark.parametrize("num_rows", [64, 65, 100, 128, 1000, 1003])
def test_an_epoch_too_large_for_one_permutation_still_holds_every_row_once(num_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orders, "_WHOLE_PERMUTATION_ROWS", 10)
    monkeypatch.setattr(orders, "_BLOCK_ROWS", 4)
    monkeypatch.setattr(orders, "_POOL_BLOCKS", 8)
    orders._pool_order.cache_clear()
    whole = [shuffled_rows(num_rows, 0, num_rows, seed=5, epoch=epoch) for epoch in range(3)]
    orders._pool_order.cache_clear()
    for order in whole:
        assert sorted(order.tolist()) == list(range(num_rows))
        assert order.tolist() != sorted(order.tolist())
    assert not np.array_equal(whole[0], whole[1])
    parts = [shuffled_rows(num_rows, start, min(start + 7, num_rows), seed=5, epoch=1) for start in range(0, num_rows, 7)]
    assert np.array_equal(np.concatenate(parts), whole[1])
    orders._pool_order.cache_clear()


def test_an_epoch_of_ordinary_size_is_one_permutation() -> None:
    assert np.array_equal(shuffled_rows(1000, 40, 72, seed=1, epoch=2), epoch_order(1000, seed=1, epoch=2)[40:72])


def test_a_batch_of_a_hundred_million_rows_is_drawn_from_everywhere() -> None:
    rows = shuffled_rows(10**8, 3 * 10**7, 3 * 10**7 + 512, seed=1, epoch=0)
    assert len(set(rows.tolist())) == 512
    # a mean of 512 uniform draws strays from the middle by more than four standard errors once in ten thousand times
    assert abs(rows.mean() / 10**8 - 0.5) < 4 * 0.29 / 512**0.5
    assert len(set((rows // 256).tolist())) > 300
