"""The fast back-end gives the reference's ids, or the reference does the work."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from acclimate.data.tokens.encoding import load_tokenizer
from acclimate.data.tokens.fast_tokenizer import (
    BackendFailedError,
    BackendUnfitError,
    CheckedEncoder,
    NanotokenEncoder,
    ReferenceEncoder,
    TokenBatch,
    make_encoder,
    sample_documents,
    word_start_ids,
)

SNAPSHOT = Path(__file__).parents[3] / "data" / "debian"
SPECIALS = ["[CLS]", "[SEP]", "[MASK]", "[PAD]", "[UNK]", "[cls]", "[ MASK ]", "##a", "[", "]"]
# Control characters, joiners, combining marks, folding and width, halves of Hangul, CJK, beyond the first plane.
AWKWARD = "\x00\x0b\x0c\x1c\x85\xad\u0130\u0301\u0345\u03a3\u03c2\u1e9e\u200b\u200d\u2028\ufeff\ufb00\ufffd\uff21"
AWKWARD += "\u1100\u1161\uac01\u4e00\u30a2\U0001f468\U0002f800\U000e0041"


@pytest.fixture(scope="module")
def tokenizer(minilm_dir: Path) -> Tokenizer:
    return load_tokenizer(minilm_dir)


@pytest.fixture(scope="module")
def reference(tokenizer: Tokenizer) -> ReferenceEncoder:
    return ReferenceEncoder(tokenizer, word_start_ids(tokenizer))


@pytest.fixture(scope="module")
def fast(tokenizer: Tokenizer) -> NanotokenEncoder:
    pytest.importorskip("nanotoken")
    return NanotokenEncoder(tokenizer, word_start_ids(tokenizer))


def test_no_control_token_is_read_from_a_text(tokenizer: Tokenizer, reference: ReferenceEncoder, fast: NanotokenEncoder) -> None:
    texts = ["a [MASK] b", "[SEP][PAD]", "rare words are [UNK]; [CLS]", "x[MASK]y", "</s> <mask>"]
    found, special = fast.encode(texts), [token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special]
    assert_equal(found, reference.encode(texts), texts)
    inside = np.concatenate([row[1:-1] for row in np.split(found.ids, found.offsets[1:-1])])
    assert not np.isin(inside, [tokenizer.token_to_id(name) for name in special]).any()


def cased(minilm_dir: Path) -> Tokenizer:
    """The same vocabulary, letters and accents kept."""
    from tokenizers.normalizers import BertNormalizer

    tokenizer = load_tokenizer(minilm_dir)
    tokenizer.normalizer = BertNormalizer(lowercase=False, strip_accents=False)
    return tokenizer


def byte_level_bpe() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=280, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator(["the cat sat on the mat"] * 9, trainer)
    return tokenizer


def assert_equal(found: TokenBatch, expected: TokenBatch, texts: list[str]) -> None:
    if np.array_equal(found.ids, expected.ids) and np.array_equal(found.offsets, expected.offsets):
        assert np.array_equal(found.word_starts, expected.word_starts)
        return
    rows = zip(texts, np.split(found.ids, found.offsets[1:-1]), np.split(expected.ids, expected.offsets[1:-1]), strict=True)
    raise AssertionError([(ascii(text), a.tolist(), b.tolist()) for text, a, b in rows if not np.array_equal(a, b)][:3])


@pytest.mark.slow
def test_every_document_of_the_corpus_gets_the_references_ids(fast: NanotokenEncoder, reference: ReferenceEncoder) -> None:
    texts = pq.read_table(SNAPSHOT / "corpus.parquet", columns=["text"])["text"].to_pylist()
    assert len(texts) == 39_277
    for start in range(0, len(texts), 4000):
        part = texts[start : start + 4000]
        assert_equal(fast.encode(part), reference.encode(part), part)


@pytest.mark.parametrize("keep_case", [False, True])
def test_characters_of_every_block_get_the_references_ids_inside_and_between_words(minilm_dir: Path, keep_case: bool) -> None:
    pytest.importorskip("nanotoken")
    tokenizer = cased(minilm_dir) if keep_case else load_tokenizer(minilm_dir)
    starts = word_start_ids(tokenizer)
    fast, reference = NanotokenEncoder(tokenizer, starts), ReferenceEncoder(tokenizer, starts)
    points = [*range(0x3400), *range(0x3400, 0xD800, 16), *range(0xF900, 0x12000), *range(0x1AFF0, 0x20000), *range(0x2F800, 0x2FA20)]
    points += [*range(0x12000, 0x1AFF0, 16), *range(0xE000, 0xF900, 64), *range(0xE0000, 0xE0200), 0x10FFFF]
    texts = [f"e{chr(point)}d {chr(point)}-A{chr(point)}" for point in points]
    assert_equal(fast.encode(texts), reference.encode(texts), texts)


ODD_TEXT = st.lists(
    st.one_of(
        st.sampled_from([*SPECIALS, *AWKWARD, " ", "\n", "e", "hello"]),
        st.characters(exclude_categories=["Cs"]),
        st.text(st.characters(exclude_categories=["Cs"])),
    ),
    max_size=40,
).map("".join)


@given(texts=st.lists(ODD_TEXT, min_size=1, max_size=20))
@settings(deadline=None, max_examples=300)
def test_odd_text_gets_the_references_ids(fast: NanotokenEncoder, reference: ReferenceEncoder, texts: list[str]) -> None:
    assert_equal(fast.encode(texts), reference.encode(texts), texts)


def test_words_around_the_longest_that_the_model_takes_get_the_references_ids(fast: NanotokenEncoder, reference: ReferenceEncoder) -> None:
    texts = [unit * count for unit in ("a", "é", "\ufb00", "\uac01", "\u4e00", "e\u0301") for count in (33, 34, 50, 51, 99, 100, 101, 4000)]
    texts += ["", " ", "\x00", "a\x00b", "x" * 2_000_000, "[MASK]" * 3000]
    assert_equal(fast.encode(texts), reference.encode(texts), texts)


def test_long_random_documents_in_one_batch_and_in_several_get_the_references_ids(
    fast: NanotokenEncoder, reference: ReferenceEncoder
) -> None:
    draw = random.Random(0)
    pieces = [*SPECIALS, *AWKWARD, " ", " ", "\t", "word", "Ünïcode", "x86_64"]
    texts = ["".join(draw.choices(pieces, k=draw.randrange(2000))) for _ in range(60)]
    expected = reference.encode(texts)
    assert_equal(fast.encode(texts), expected, texts)
    assert np.concatenate([fast.encode([text]).ids for text in texts]).tolist() == expected.ids.tolist()


def test_half_a_surrogate_pair_is_refused_rather_than_replaced(fast: NanotokenEncoder) -> None:
    with pytest.raises(BackendFailedError, match="UnicodeEncodeError"):
        fast.encode(["a\ud800"])


def test_word_starts_told_by_ids_equal_the_word_numbers_of_the_tokenizer(tokenizer: Tokenizer) -> None:
    texts = pq.read_table(SNAPSHOT / "heldout.parquet")["text"].to_pylist()
    by_ids = ReferenceEncoder(tokenizer, word_start_ids(tokenizer)).encode(texts)
    by_numbers = ReferenceEncoder(tokenizer, None).encode(texts)
    assert np.array_equal(by_ids.ids, by_numbers.ids)
    assert np.array_equal(by_ids.word_starts, by_numbers.word_starts)


def test_a_byte_level_vocabulary_gets_its_word_starts_from_word_numbers() -> None:
    batch = make_encoder(byte_level_bpe(), "reference").encode(["the mat, the cat"])
    assert int(batch.word_starts.sum()) == 5
    assert batch.word_starts[0]


def test_a_tokenizer_that_is_not_wordpiece_is_refused_by_the_fast_back_end() -> None:
    with pytest.raises(BackendUnfitError, match="this one is BPE"):
        make_encoder(byte_level_bpe(), "auto")


def test_a_part_that_nanotoken_does_not_know_is_refused(minilm_dir: Path) -> None:
    from tokenizers.normalizers import Replace

    pytest.importorskip("nanotoken")
    tokenizer = load_tokenizer(minilm_dir)
    tokenizer.normalizer = Replace("a", "b")
    with pytest.raises(BackendUnfitError, match="does not take this tokenizer"):
        make_encoder(tokenizer, "nanotoken")


class OneWrongId:
    """An encoder that gets one document wrong, as an alpha package might."""

    name = "wrong 0"

    def __init__(self, right: ReferenceEncoder, wrong_text: str) -> None:
        self._right = right
        self._wrong_text = wrong_text

    def encode(self, texts: list[str]) -> TokenBatch:
        batch = self._right.encode(texts)
        ids = batch.ids.copy()
        for number, text in enumerate(texts):
            if text.startswith(self._wrong_text):
                ids[batch.offsets[number] + 1] += 1
        return replace(batch, ids=ids)


@pytest.mark.parametrize("wrong", ["naïve text", "naïve text" + " more" * 3000], ids=["short", "long"])
def test_one_wrong_id_in_a_sampled_document_is_found(reference: ReferenceEncoder, wrong: str) -> None:
    texts = ["plain text"] * 50 + [wrong] + ["plain text"] * 50
    with pytest.raises(BackendFailedError, match="other ids"):
        CheckedEncoder(OneWrongId(reference, "naïve"), reference).encode(texts)
    assert_equal(CheckedEncoder(reference, reference).encode(texts), reference.encode(texts), texts)


def test_the_sample_holds_documents_from_everywhere_and_some_beyond_ascii() -> None:
    texts = ["plain"] * 100
    assert sample_documents(texts) == [0, 25, 50, 75]
    texts[33] = "é"
    assert sample_documents(texts) == [0, 25, 33, 50, 75]
    assert sample_documents([]) == []
