"""Packing: no padding, nothing lost but the last partial row, documents kept apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from acclimate.data.encoding import encode_texts, encode_words, load_tokenizer
from acclimate.data.packing import pack, tokenize_stream

SNAPSHOT = Path(__file__).parents[3] / "data" / "debian"


@pytest.fixture(scope="module")
def texts() -> list[str]:
    found: list[str] = pq.read_table(SNAPSHOT / "heldout.parquet")["text"].to_pylist()
    return found


def test_rows_hold_every_token_in_order(minilm_dir: Path, texts: list[str]) -> None:
    stream = tokenize_stream(load_tokenizer(minilm_dir), texts, min_document_tokens=4)
    packed = pack(stream, tokens_per_row=128, vocabulary_size=30522)
    assert packed.ids_RT.dtype == np.uint16
    assert packed.ids_RT.size + packed.dropped_tokens == len(stream.ids)
    assert np.array_equal(packed.ids_RT.ravel(), stream.ids[: packed.ids_RT.size])
    assert packed.ids_RT.size / len(stream.ids) > 0.99


def test_a_segment_holds_one_document(minilm_dir: Path, texts: list[str]) -> None:
    stream = tokenize_stream(load_tokenizer(minilm_dir), texts, min_document_tokens=4)
    packed = pack(stream, tokens_per_row=64, vocabulary_size=30522)
    documents_RT = stream.documents[: packed.ids_RT.size].reshape(packed.ids_RT.shape)
    for documents, segments in zip(documents_RT, packed.segments_RT, strict=True):
        assert segments[0] == 1
        assert np.array_equal(np.diff(documents) != 0, np.diff(segments) == 1)


def test_word_starts_told_by_ids_equal_the_word_numbers_of_the_tokenizer(minilm_dir: Path, texts: list[str]) -> None:
    tokenizer = load_tokenizer(minilm_dir)
    stream = tokenize_stream(tokenizer, texts, min_document_tokens=1)
    numbers = [[-1 if n is None else n for n in encoding.word_ids] for encoding in tokenizer.encode_batch(texts)]
    expected = [n >= 0 and n != before for row in numbers for before, n in zip([-1, *row], row, strict=False)]
    assert stream.word_starts.tolist() == expected


def test_a_byte_level_vocabulary_gets_its_word_starts_from_word_numbers() -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=280, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator(["the cat sat on the mat"] * 9, trainer)
    stream = tokenize_stream(tokenizer, ["the mat, the cat"], min_document_tokens=1)
    assert stream.num_words == 5
    assert stream.word_starts[0]


def test_documents_below_the_minimum_are_counted(minilm_dir: Path) -> None:
    stream = tokenize_stream(load_tokenizer(minilm_dir), ["one", "one two three", ""], min_document_tokens=4)
    assert (stream.num_documents, stream.num_too_short, len(stream.ids)) == (1, 2, 5)


def test_ids_equal_those_of_transformers(minilm_dir: Path, texts: list[str]) -> None:
    from transformers import AutoTokenizer

    reference = AutoTokenizer.from_pretrained(str(minilm_dir))
    ours = encode_texts(load_tokenizer(minilm_dir), texts, max_tokens=64)
    theirs = reference(texts, truncation=True, max_length=64)["input_ids"]
    assert [ours.row(i).tolist() for i in range(len(texts))] == theirs
    assert ours.truncated == sum(len(ids) > 64 for ids in reference(texts)["input_ids"])
    pairs = texts[::-1]
    ours = encode_texts(load_tokenizer(minilm_dir), texts, pairs, max_tokens=48)
    theirs = reference(texts, pairs, truncation="longest_first", max_length=48)
    assert [ours.row(i).tolist() for i in range(len(texts))] == theirs["input_ids"]
    assert ours.type_ids.tolist() == [t for row in theirs["token_type_ids"] for t in row]


def test_each_word_is_found_at_its_first_sub_token(minilm_dir: Path) -> None:
    tokenizer = load_tokenizer(minilm_dir)
    words = ["pthread_create", "returns", "\u200b", "EAGAIN", ""]
    encoded = encode_words(tokenizer, [words], max_tokens=64)
    assert encoded.word_positions is not None
    assert len(encoded.word_positions[0]) == len(words)
    assert tokenizer.id_to_token(int(encoded.row(0)[encoded.word_positions[0][1]])) == "returns"


def test_a_row_of_nothing_is_counted(minilm_dir: Path) -> None:
    assert encode_texts(load_tokenizer(minilm_dir), ["", "word"], max_tokens=8).only_special == 1
