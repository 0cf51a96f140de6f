"""Packing: no padding, nothing lost but the last partial row, documents kept apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acclimate.data.tokens.encoding import encode_texts, encode_words, load_tokenizer
from acclimate.data.tokens.fast_tokenizer import TokenBatch, make_encoder
from acclimate.data.tokens.packing import pack

SNAPSHOT = Path(__file__).parents[3] / "data" / "debian"


@pytest.fixture(scope="module")
def texts() -> list[str]:
    found: list[str] = pq.read_table(SNAPSHOT / "heldout.parquet")["text"].to_pylist()
    return found


@pytest.fixture(scope="module")
def batch(minilm_dir: Path, texts: list[str]) -> TokenBatch:
    return make_encoder(load_tokenizer(minilm_dir), "reference").encode(texts)


def test_rows_hold_every_token_in_order_with_less_than_one_percent_left_out(batch: TokenBatch) -> None:
    packed = pack(batch.ids, batch.offsets[:-1], sequence_length=128)
    assert np.array_equal(packed.ids.ravel(), batch.ids[: packed.ids.size])
    assert packed.ids.size / len(batch.ids) > 0.99
    assert len(batch.ids) - packed.ids.size < 128


@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=60), sequence_length=st.integers(1, 32), data=st.data())
@settings(deadline=None)
def test_segments_count_the_documents_of_a_row_from_one(lengths: list[int], sequence_length: int, data: st.DataObject) -> None:
    document = np.repeat(np.arange(len(lengths)), lengths)
    starts = np.cumsum([0, *lengths[:-1]])
    packed = pack(document.astype(np.uint16), starts, sequence_length=sequence_length)
    rows = len(packed.ids)
    expected = np.array([[1 + doc - row[0] for doc in row] for row in packed.ids.astype(int)]).reshape(rows, sequence_length)
    assert packed.segments.shape == packed.ids.shape
    assert np.array_equal(packed.segments[:], expected)
    chosen = np.array(data.draw(st.lists(st.integers(0, max(rows - 1, 0)), max_size=8 if rows else 0)), dtype=np.int64)
    assert np.array_equal(packed.segments[chosen], expected[chosen])
    head = packed.head(3)
    assert np.array_equal(head.ids, packed.ids[:3]) and np.array_equal(head.segments[:], expected[:3])


@given(tokens=st.integers(1, 200), sequence_length=st.integers(1, 40), seed=st.integers(0, 99))
@settings(deadline=None)
def test_word_starts_are_read_back_from_their_bits(tokens: int, sequence_length: int, seed: int) -> None:
    starts = np.random.default_rng(seed).random(tokens) < 0.7
    packed = pack(np.zeros(tokens, np.uint16), np.zeros(1, np.int64), sequence_length=sequence_length, word_start_bits=np.packbits(starts))
    assert packed.word_starts is not None
    assert np.array_equal(packed.word_starts[:].ravel(), starts[: packed.ids.size])
    head = packed.head(2)
    assert head.word_starts is not None
    assert np.array_equal(head.word_starts[:], packed.word_starts[:][:2])


def test_ids_equal_those_of_transformers(minilm_dir: Path, texts: list[str], batch: TokenBatch) -> None:
    from transformers import AutoTokenizer

    reference = AutoTokenizer.from_pretrained(str(minilm_dir))
    whole = reference(texts)["input_ids"]
    assert [batch.ids[a:b].tolist() for a, b in zip(batch.offsets, batch.offsets[1:], strict=False)] == whole
    ours = encode_texts(load_tokenizer(minilm_dir), texts, max_length=64)
    theirs = reference(texts, truncation=True, max_length=64)["input_ids"]
    assert [ours.row(i).tolist() for i in range(len(texts))] == theirs
    assert ours.truncated == sum(len(ids) > 64 for ids in whole)
    pairs = texts[::-1]
    ours = encode_texts(load_tokenizer(minilm_dir), texts, pairs, max_length=48)
    theirs = reference(texts, pairs, truncation="longest_first", max_length=48)
    assert [ours.row(i).tolist() for i in range(len(texts))] == theirs["input_ids"]
    assert ours.type_ids.tolist() == [t for row in theirs["token_type_ids"] for t in row]


def test_each_word_is_found_at_its_first_sub_token(minilm_dir: Path) -> None:
    tokenizer = load_tokenizer(minilm_dir)
    words = ["pthread_create", "returns", "\u200b", "EAGAIN", ""]
    encoded = encode_words(tokenizer, [words], max_length=64)
    assert encoded.word_positions is not None
    assert len(encoded.word_positions[0]) == len(words)
    assert tokenizer.id_to_token(int(encoded.row(0)[encoded.word_positions[0][1]])) == "returns"


def test_a_row_of_nothing_is_counted(minilm_dir: Path) -> None:
    assert encode_texts(load_tokenizer(minilm_dir), ["", "word"], max_length=8).only_special == 1
