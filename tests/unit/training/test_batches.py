"""Batches by step number."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from acclimate.data.packing import pack
from acclimate.errors import ConfigError
from acclimate.training import batches as batches_module
from acclimate.training.batches import PackedBatches, RaggedBatches, by_length, epoch_order, shuffled_rows, step_generator
from acclimate.training.schedules import learning_rate_factor


def ragged(lengths: list[int]) -> SimpleNamespace:
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ids = np.arange(offsets[-1], dtype=np.int32)
    return SimpleNamespace(ids=ids, type_ids=np.zeros_like(ids), offsets=offsets)


def ragged_batches(lengths: list[int], **changes: object) -> RaggedBatches:
    settings = {"rows_per_batch": 4, "accumulation": 1, "epochs": 2.0, "seed": 0, "pad_id": 0, **changes}
    return RaggedBatches(ragged(lengths), lambda rows, _: (torch.tensor(rows), len(rows)), **settings)  # type: ignore[arg-type]


def test_every_row_comes_once_an_epoch() -> None:
    batches = ragged_batches(list(np.random.default_rng(0).integers(3, 40, 30)))
    rows = np.concatenate([batch.rows for step in range(batches.batches_per_epoch) for batch in batches.window(step)])
    assert sorted(rows) == list(range(30))


def test_rows_of_a_batch_are_of_similar_length() -> None:
    lengths = [int(n) for n in np.random.default_rng(1).integers(3, 120, 400)]
    batches = ragged_batches(lengths)
    tokens = padded = 0
    for step in range(batches.batches_per_epoch):
        for batch in batches.window(step):
            tokens += batch.num_tokens
            padded += batch.ids_BT.numel()
    assert tokens / padded > 0.9


def test_padding_changes_no_token() -> None:
    batches = ragged_batches([5, 9, 3, 12])
    batch = batches.window(0)[0]
    for row, ids, mask in zip(batch.rows, batch.ids_BT, batch.mask_BT, strict=True):
        assert ids[mask.bool()].tolist() == batches.encoded.ids[batches.encoded.offsets[row] : batches.encoded.offsets[row + 1]].tolist()


def test_any_step_can_be_asked_for_at_once() -> None:
    ids = np.arange(64, dtype=np.uint16).reshape(16, 4)
    batches = PackedBatches(
        ids, np.ones_like(ids), lambda i, _, g: (i, torch.rand(1, generator=g)), rows_per_batch=4, accumulation=1, steps=9, seed=2
    )
    forwards = [batches.window(step)[0] for step in range(9)]
    for step in (8, 3, 0):
        assert torch.equal(batches.window(step)[0][0], forwards[step][0])
        assert torch.equal(batches.window(step)[0][1], forwards[step][1])


def test_a_window_holds_rows_of_the_text_and_their_own_segments() -> None:
    starts = np.cumsum([0, *np.random.default_rng(3).integers(1, 9, 200)])
    ids = np.arange(starts[-1], dtype=np.uint16)
    packed = pack(ids, starts[:-1], tokens_per_row=8)
    batches = PackedBatches(packed.ids, packed.segments, lambda i, s, _: (i, s), rows_per_batch=5, accumulation=2, steps=4, seed=1)
    for ids_BT, segments_BT in batches.window(3):
        for row, segments in zip(ids_BT.numpy(), segments_BT.numpy(), strict=True):
            assert row.tolist() == list(range(row[0], row[0] + 8)) and row[0] % 8 == 0
            document = np.searchsorted(starts, row, side="right")
            assert segments.tolist() == (document - document[0] + 1).tolist()


@pytest.mark.parametrize("num_rows", [64, 65, 100, 128, 1000, 1003])
def test_an_epoch_too_large_for_one_permutation_still_holds_every_row_once(num_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches_module, "_WHOLE_PERMUTATION_ROWS", 10)
    monkeypatch.setattr(batches_module, "_BLOCK_ROWS", 4)
    monkeypatch.setattr(batches_module, "_POOL_BLOCKS", 8)
    batches_module._pool_order.cache_clear()
    whole = [shuffled_rows(num_rows, 0, num_rows, seed=5, epoch=epoch) for epoch in range(3)]
    batches_module._pool_order.cache_clear()
    for order in whole:
        assert sorted(order.tolist()) == list(range(num_rows))
        assert order.tolist() != sorted(order.tolist())
    assert not np.array_equal(whole[0], whole[1])
    parts = [shuffled_rows(num_rows, start, min(start + 7, num_rows), seed=5, epoch=1) for start in range(0, num_rows, 7)]
    assert np.array_equal(np.concatenate(parts), whole[1])
    batches_module._pool_order.cache_clear()


def test_an_epoch_of_ordinary_size_is_one_permutation() -> None:
    assert np.array_equal(shuffled_rows(1000, 40, 72, seed=1, epoch=2), epoch_order(1000, seed=1, epoch=2)[40:72])


def test_a_batch_of_a_hundred_million_rows_is_drawn_from_everywhere() -> None:
    rows = shuffled_rows(10**8, 3 * 10**7, 3 * 10**7 + 512, seed=1, epoch=0)
    assert len(set(rows.tolist())) == 512
    # a mean of 512 uniform draws strays from the middle by more than four standard errors once in ten thousand times
    assert abs(rows.mean() / 10**8 - 0.5) < 4 * 0.29 / 512**0.5
    assert len(set((rows // 256).tolist())) > 300


def test_a_pretraining_batch_of_more_rows_than_there_are_is_refused() -> None:
    ids = np.zeros((7, 4), dtype=np.uint16)
    with pytest.raises(ConfigError) as refused:
        PackedBatches(ids, ids, lambda *_: None, rows_per_batch=8, accumulation=1, steps=9, seed=2)
    assert str(refused.value) == "pretrain.rows_per_batch is 8, but the corpus packs into 7 rows; lower it or give more text"


def test_a_fine_tuning_batch_of_more_rows_than_there_are_holds_them_all_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    batches = ragged_batches([5, 9, 3], rows_per_batch=4, epochs=3.0)
    assert caplog.messages == ["finetune.rows_per_batch is 4, but there are 3 training rows: every batch holds all of them"]
    assert batches.steps == 3
    assert all(sorted(batches.rows(step)) == [0, 1, 2] for step in range(3))


def test_a_fine_tuning_step_of_more_batches_than_the_whole_run_has_is_refused() -> None:
    assert ragged_batches([4] * 30, rows_per_batch=4, epochs=1.5, accumulation=12).steps == 1
    with pytest.raises(ConfigError) as refused:
        ragged_batches([4] * 30, rows_per_batch=4, epochs=1.5, accumulation=13)
    assert str(refused.value) == (
        "finetune.accumulation is 13, but the whole run has 12 batches (8 an epoch, finetune.epochs 1.5); lower it or train for longer"
    )


@pytest.mark.parametrize(("accumulation", "warned"), [(1, False), (2, False), (4, False), (3, True), (5, True)])
def test_a_fine_tuning_step_of_batches_of_two_epochs_is_told(accumulation: int, warned: bool, caplog: pytest.LogCaptureFixture) -> None:
    batches = ragged_batches([4] * 30, rows_per_batch=4, epochs=4.0, accumulation=accumulation)
    said = f"finetune.accumulation is {accumulation}, an epoch has 8 batches: a step then takes batches of two epochs now and then"
    assert caplog.messages == [said] * warned
    epochs = [{(step * accumulation + part) // 8 for part in range(accumulation)} for step in range(batches.steps)]
    assert any(len(found) == 2 for found in epochs) == warned


def test_one_epoch_that_ends_with_a_whole_step_is_not_told_of_two(caplog: pytest.LogCaptureFixture) -> None:
    assert ragged_batches([4] * 30, rows_per_batch=4, epochs=1.0, accumulation=7).steps == 1
    assert caplog.messages == []


def test_usual_batches_warn_of_nothing(caplog: pytest.LogCaptureFixture) -> None:
    ragged_batches([4] * 30)
    assert caplog.messages == []


def test_inference_batches_hold_every_row_once_and_keep_to_their_size() -> None:
    encoded = ragged([10, 50, 3, 7, 64, 64, 1])
    batches = list(by_length(encoded, tokens_per_batch=128))
    assert sorted(np.concatenate(batches)) == list(range(7))
    assert all(len(rows) * np.diff(encoded.offsets)[rows].max() <= 128 for rows in batches)


def test_generators_differ_by_key() -> None:
    draws = {float(torch.rand(1, generator=step_generator(seed, step))) for seed in range(4) for step in range(4)}
    assert len(draws) == 16


def test_the_rate_rises_then_falls_and_is_never_zero() -> None:
    factors = [learning_rate_factor(step, steps=20, warmup_steps=4, schedule="linear") for step in range(20)]
    assert factors[:4] == sorted(factors[:4]) and factors[4] == 1.0
    assert factors[4:] == sorted(factors[4:], reverse=True) and min(factors) > 0
