"""What counts as one text: looks hide no copy, and signs that say something keep texts apart."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acclimate.data.leakage.comparison import drop_line_marks, duplicate_key, fold, key_digest
from acclimate.data.leakage.contamination import DecontaminationConfig, EvaluationIndex, EvaluationText
from acclimate.data.leakage.hashing import hash_texts, hash_words
from acclimate.data.leakage.near_duplicates import DuplicatesConfig, fingerprints, sketch_similarity
from acclimate.data.leakage.pairs import pair_groups, pair_key, shared_texts
from acclimate.data.leakage.splits import split_of

CONFIG = DuplicatesConfig()
WORDS = st.lists(st.sampled_from(["office", "Straße", "été", "naïve", "work", "flow", "a", "7"]), min_size=1, max_size=20).map(" ".join)


def similarity(one: str, other: str) -> float:
    prints = fingerprints([one, other], CONFIG)
    (found,) = sketch_similarity(prints.sketches_DS[:1], prints.sketches_DS[1:], prints.sizes_D[:1], prints.sizes_D[1:])
    return float(found)


def is_contaminated(evaluated: str, document: str) -> bool:
    index = EvaluationIndex.build([EvaluationText("tables/t:test", "0", evaluated)], DecontaminationConfig())
    return bool(index.check([document]))


def disguised(text: str, draw: Any) -> str:
    """The same text as another program writes it."""
    for ways in (
        [str.upper, str.lower, str.title, str],
        [lambda t: unicodedata.normalize("NFD", t), lambda t: unicodedata.normalize("NFC", t)],
        [lambda t: t.replace("fi", "ﬁ").replace("fl", "ﬂ").replace("ff", "ﬀ"), str],
        [lambda t: t.replace("o", "o\u200b").replace("e", "\u00ade"), lambda t: f"\u200e{t}\ufeff", str],
        [lambda t: "".join(chr(ord(s) + 0xFEE0) if "a" <= s <= "z" else s for s in t), str],
        [lambda t: t.replace(" ", "\u00a0"), lambda t: t.replace(" ", "\n"), lambda t: f"  {t} ", str],
        [lambda t: t.replace("or", "o\u00ad\nr"), lambda t: t.replace("or", "o-\nr"), str],
    ):
        text = draw(st.sampled_from(ways))(text)
    return text


@settings(deadline=None, max_examples=300)
@given(WORDS, st.data())
def test_looks_hide_no_copy_from_any_of_the_three_comparisons(text: str, data: st.DataObject) -> None:
    copy = disguised(text, data.draw)
    assert duplicate_key(copy) == duplicate_key(text)
    assert hash_texts([copy]) == hash_texts([text])
    assert similarity(copy, text) == 1.0
    assert is_contaminated(text, copy)


@settings(deadline=None)
@given(st.text(max_size=30))
def test_folding_a_folded_text_changes_nothing(text: str) -> None:
    assert fold(fold(text)) == fold(text)
    assert duplicate_key(duplicate_key(text)) == duplicate_key(text)
    assert len(key_digest(text)) == 16


@settings(deadline=None)
@given(st.text(st.characters(max_codepoint=127), max_size=40))
def test_the_key_of_a_plain_text_is_what_it_was_so_that_its_split_is(text: str) -> None:
    if "-\n" not in text and "-\r" not in text and drop_line_marks(text) == text:
        assert duplicate_key(text) == " ".join(text.lower().split())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("How do I sort in C?", "How do I sort in C++?"),
        ("How do I sort in C?", "How do I sort in C#?"),
        ("How do I sort in C#?", "How do I sort in F#?"),
        ("It was -5 degrees", "It was 5 degrees"),
        ("It was -5 degrees", "It was +5 degrees"),
        ("the test is HIV+", "the test is HIV"),
        ("grade A+", "grade A"),
        ("rose by 5%", "rose by 5"),
        ("costs $5", "costs €5"),
        ("costs £5", "costs 5"),
        ("if a < b then", "if a > b then"),
        ("if a<b then", "if a>b then"),
        ("if a ≤ b then", "if a ≥ b then"),
        ("if a == b then", "if a != b then"),
        ("if ready then", "if !ready then"),
        ("x ∈ A", "x ∉ A"),
        ("What is 5 - 3?", "What is 5 * 3?"),
        ("What is 5 / 3?", "What is 5 - 3?"),
        ("What is 5 + 3?", "What is 5 3?"),
        ("I love it 😀", "I love it 😡"),
        ("I love it 😀", "I love it"),
        ("I love it 👍🏽", "I love it 👍🏿"),
        ("I love it :)", "I love it :("),
        ("I love it :-)", "I love it :-("),
        ("It works ✓", "It works ✗"),
    ],
)
@pytest.mark.parametrize("front", ["", "I would like to ask all of you, now that the day is over and all is said and done, one thing: "])
def test_texts_that_differ_by_a_sign_only_are_no_copies(one: str, other: str, front: str) -> None:
    assert duplicate_key(front + one) != duplicate_key(front + other)
    assert similarity(front + one, front + other) < CONFIG.threshold
    assert front or not (is_contaminated(one, other) or is_contaminated(other, one))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("see printf(3), now", "See printf (3) now!"),
        ("“quoted” — don\u2019t", '"quoted" - don\'t'),
        ("it is \u22125", "it is -5"),
        ("* item one\n* item two", "- item one\n- item two"),
        ("a → b", "a b"),
        ("foo->bar", "foo bar"),
        ("I ❤️ it", "I ❤ it"),
        ("| a | b |\n|---|---|", "a b"),
    ],
)
def test_texts_that_differ_by_signs_which_say_nothing_are_near_copies(one: str, other: str) -> None:
    assert similarity(one, other) == 1.0


def test_long_texts_are_near_copies_whatever_their_signs() -> None:
    long = " ".join(f"word{number}" for number in range(60))
    assert similarity(f"{long} 😀", f"{long} 😡") > CONFIG.threshold
    assert similarity(f"{long} in C++", f"{long} in C") > CONFIG.threshold


def test_the_signs_of_a_text_are_summed_up_by_themselves_and_in_a_batch() -> None:
    texts = ["C++ and C#", "plain", "", "😀", "5 -", "3", "a :", ") b"]
    marks = hash_words(texts).marks
    assert marks is not None
    alone = [found for text in texts if (found := hash_words([text]).marks) is not None]
    assert marks.tolist() == [int(found[0]) for found in alone]
    assert [mark > 0 for mark in marks.tolist()] == [True, False, False, True, False, False, False, False]


PAIRS = st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from("abcdef")), max_size=12)


@settings(deadline=None)
@given(PAIRS)
def test_pairs_with_one_first_text_and_pairs_turned_round_are_of_one_group(pairs: list[tuple[str, str]]) -> None:
    groups = dict(zip(pairs, pair_groups(pairs), strict=True))
    for one, group in groups.items():
        assert all(group == other_group for other, other_group in groups.items() if other[0] == one[0] or other == one[::-1])
        assert pair_key(one) == pair_key(one[::-1])
    turned = any(pair[::-1] in groups and pair[0] != pair[1] for pair in pairs)
    if not turned:
        assert all(group == key_digest(pair[0]) for pair, group in groups.items())  # as before: its split stays
    assert pair_groups(pairs[::-1])[::-1] == pair_groups(pairs)


def test_pairs_that_share_a_text_with_training_are_counted() -> None:
    assert shared_texts([("a", "b")], [("B ", "x"), ("x", "y"), ("a", "z")]) == 2


@settings(deadline=None)
@given(st.lists(st.text(max_size=8), max_size=30), st.randoms())
def test_the_split_of_a_group_depends_on_nothing_else(groups: list[str], random: Any) -> None:
    first = {group: split_of(group, dev_share=0.2, test_share=0.2, seed=1) for group in groups}
    random.shuffle(groups)
    assert first == {group: split_of(group, dev_share=0.2, test_share=0.2, seed=1) for group in groups}


WORDS_OF_A_MAIL = [f"word{number}" for number in range(40)]


@pytest.mark.parametrize("mark", ["> ", "> > ", ">> ", ">", "+ "])
def test_a_quoted_mail_or_a_diff_hides_no_copy(mark: str) -> None:
    lines = [" ".join(WORDS_OF_A_MAIL[start : start + 8]) for start in range(0, 40, 8)]
    text, quoted = "\n".join(lines), "\n".join(mark + line for line in lines)
    assert duplicate_key(quoted) == duplicate_key(text)
    assert hash_words([quoted]).values.tolist() == hash_words([text]).values.tolist()


def test_a_sign_before_a_number_is_no_mark_of_a_line() -> None:
    assert duplicate_key("+5 degrees") != duplicate_key("5 degrees")
