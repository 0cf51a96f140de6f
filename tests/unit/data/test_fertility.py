"""Fertility: what a tokenizer makes of a domain's words, counted over a stream."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from acclimate.data.tokens.fertility import BrokenWord, Fertility, FertilityConfig, measure_fertility


def wordpiece(*words: str) -> Tokenizer:
    """Knows `words`, single letters and their continuations."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,"
    vocabulary = dict.fromkeys(["[UNK]", *letters, *(f"##{letter}" for letter in letters), *words])
    tokenizer = Tokenizer(models.WordPiece({token: number for number, token in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


KERNEL = wordpiece("the", "kernel", "load", "##s", "mod", "##ule", "##probe")


def test_the_counts_are_those_worked_out_by_hand() -> None:
    found = measure_fertility([["The kernel loads, the module.", "kernel ☃"], ["modprobe loads"]], KERNEL)
    # the kernel load ##s , the mod ##ule . | kernel [UNK] | mod ##probe load ##s
    assert (found.documents, found.words, found.tokens, found.unknown, found.split_words) == (3, 11, 15, 1, 4)
    assert found.tokens_per_word == pytest.approx(15 / 11)
    assert found.unknown_share == pytest.approx(1 / 15)
    assert found.split_share == pytest.approx(4 / 11)


def test_the_words_that_cost_the_most_tokens_come_first() -> None:
    found = measure_fertility([["Module module MODULE loads qemu"]], KERNEL)
    assert found.broken == (
        BrokenWord("module", 3, ("mod", "##ule")),
        BrokenWord("qemu", 1, ("q", "##e", "##m", "##u")),
        BrokenWord("loads", 1, ("load", "##s")),
    )


def test_a_known_vocabulary_has_fertility_one() -> None:
    found = measure_fertility([["the kernel, the load."]], KERNEL)
    assert (found.tokens_per_word, found.split_share, found.broken) == (1.0, 0.0, ())


def test_nothing_gives_zeros() -> None:
    assert measure_fertility([], KERNEL) == Fertility(0, 0, 0, 0, 0, ())
    assert measure_fertility([[""], []], KERNEL).tokens_per_word == 0


def test_a_byte_level_tokenizer_has_no_unknown_token_and_words_without_their_space() -> None:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: number for number, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    found = measure_fertility([["ab ☃"]], tokenizer)
    assert (found.words, found.tokens, found.unknown) == (2, 7, 0)
    assert [word.word for word in found.broken] == ["☃", "ab"]


@given(st.lists(st.text(st.sampled_from("abc .,☃éA "), max_size=30), max_size=8), st.integers(1, 4))
def test_sums_do_not_depend_on_how_the_stream_is_cut_into_batches(texts: list[str], size: int) -> None:
    whole = measure_fertility([texts], KERNEL)
    parts = measure_fertility([texts[start : start + size] for start in range(0, len(texts), size)], KERNEL)
    assert whole == parts
    encodings = [KERNEL.encode(text, add_special_tokens=False) for text in texts]
    assert whole.tokens == sum(len(encoding.ids) for encoding in encodings)
    assert whole.words == sum(len(set(encoding.word_ids)) for encoding in encodings)


def test_a_frequent_word_survives_the_limit_on_counted_words() -> None:
    batches = [[f"qemu word{number}x{other}" for other in range(20)] for number in range(20)]
    found = measure_fertility(batches, KERNEL, FertilityConfig(listed_words=3, max_counted_words=50))
    assert found.broken[0].word == "qemu" and found.broken[0].count == 400
    assert len(found.broken) == 3
    assert found.words == 800
