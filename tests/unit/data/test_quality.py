"""Quality heuristics: each rule at its threshold, the presets, and measures that equal plain counting."""

from __future__ import annotations

from collections import Counter
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from acclimate.data.screening.quality import (
    DUPLICATE_GRAMS,
    PRESETS,
    RULES,
    TOP_GRAMS,
    QualityConfig,
    QualityThresholds,
    RuleName,
    _Batch,
    judge_batch,
)

PROSE = (
    "The driver reads the table of devices that the firmware hands over, and binds to each device that it knows. "
    "You can load it with modprobe, and have it print what it found by setting debug to one. "
    "If a device does not answer within a second the driver resets the bus, waits, and tries again three times. "
    "After that it gives up, writes a line to the kernel log, and leaves the device to be claimed by another module."
)
SHORT = "library for reading maps\nThis package holds the development files."


def first_rule(text: str, **settings: object) -> str | None:
    return judge_batch([text], QualityConfig(**{"preset": "off", **settings}))[0]


@pytest.mark.parametrize("preset", list(PRESETS))
def test_prose_passes_every_preset_but_c4_s_five_sentences(preset: str) -> None:
    assert judge_batch([PROSE], QualityConfig(preset=preset)) == ["few_sentences" if preset == "c4" else None]


def test_two_sentences_pass_the_light_preset_and_not_gopher_s_fifty_words() -> None:
    assert judge_batch([SHORT], QualityConfig()) == [None]
    assert judge_batch([SHORT], QualityConfig(preset="gopher")) == ["too_few_words"]


@pytest.mark.parametrize(
    ("setting", "limit", "breaks", "passes", "rule"),
    [
        ("min_words", 3, "two words", "three words here", "too_few_words"),
        ("max_words", 3, "one two three four", "one two three", "too_many_words"),
        ("min_mean_word_chars", 3, "a bb c", "aaa bbb", "short_words"),
        ("max_mean_word_chars", 10, "a" * 12 + " " + "b" * 10, "a" * 10, "long_words"),
        ("max_symbols_per_word", 0.1, "# one two three", "# " + "word " * 9, "many_symbols"),
        ("max_symbols_per_word", 0.1, "and… so… on", "so on… " + "word " * 9, "many_symbols"),
        ("max_bullet_line_share", 0.5, "- a\n• b\nc", "- a\nb", "bullet_lines"),
        ("max_ellipsis_line_share", 0.3, "a...\nb\nc…", "a…\nb\nc\nd", "ellipsis_lines"),
        ("min_alphabetic_word_share", 0.8, "a 1 2 b", "a b c d 5", "few_alphabetic_words"),
        ("min_stop_words", 2, "The the THE end", "The cat (and dog)", "few_stop_words"),
        ("max_duplicate_line_share", 0.3, "x\nx\ny", "x\ny\nz\nx", "duplicate_lines"),
        ("max_duplicate_line_char_share", 0.2, "long line\nb\nlong line\nc", "x\na long line\nx\ny", "duplicate_line_chars"),
        ("max_duplicate_paragraph_share", 0.3, "x\n\nx\n\ny", "x\n\ny", "duplicate_paragraphs"),
        ("max_duplicate_paragraph_char_share", 0.2, "long one\n\nx\n\ny\n\nlong one", "x\n\nx\n\nlonger ones", "duplicate_paragraph_chars"),
        ("min_sentences", 2, "One sentence, of 3.5 words.", "One. Two?", "few_sentences"),
        ("min_terminal_line_share", 0.5, "menu\nhome\nDone.", "Done.\nmenu", "few_terminal_lines"),
        ("max_javascript_line_share", 0.3, "Please enable JavaScript\nok", "a\nb\nc\njavascript", "javascript"),
        ("max_curly_brackets", 0, "f() { }", "f()", "curly_bracket"),
        ("max_lorem_ipsum", 0, "Lorem Ipsum dolor sit amet", "a Polish version of lorem ipsum", "lorem_ipsum"),
    ],
)
def test_a_rule_breaks_beyond_its_threshold_and_not_at_it(setting: str, limit: float, breaks: str, passes: str, rule: str) -> None:
    assert first_rule(breaks, **{setting: limit}) == rule
    assert first_rule(passes, **{setting: limit}) is None


def test_the_first_rule_in_order_is_named() -> None:
    assert first_rule("{ 1 2", min_words=10, max_curly_brackets=0) == "too_few_words"
    assert first_rule("{ 1 2", min_words=1, max_curly_brackets=0) == "curly_bracket"


def test_a_rule_of_a_preset_can_be_moved_and_switched_off() -> None:
    assert judge_batch([SHORT], QualityConfig(preset="gopher", min_words=3)) == ["few_stop_words"]
    assert judge_batch([SHORT], QualityConfig(preset="gopher", rules_off=["too_few_words", "few_stop_words"])) == [None]


def test_repetition_does_not_judge_a_short_document() -> None:
    text = "yes and no " * 5
    assert first_rule(text, max_top_gram_shares=[0.2, 0.18, 0.16]) == "top_2_gram"
    assert first_rule(text, max_top_gram_shares=[0.2, 0.18, 0.16], min_words_for_repetition=20) is None


def test_unknown_settings_and_wrong_lengths_are_refused() -> None:
    with pytest.raises(ValidationError, match="min_word"):
        QualityConfig(min_word=3)
    with pytest.raises(ValidationError, match="rules_off"):
        QualityConfig(rules_off=["few_word"])
    with pytest.raises(ValidationError, match="at least 3"):
        QualityConfig(max_top_gram_shares=[0.2])


def test_every_threshold_has_a_rule_and_every_rule_can_be_named() -> None:
    assert [rule.name for rule in RULES] == list(get_args(RuleName))
    assert {rule.threshold for rule in RULES} == set(QualityThresholds.model_fields) - {"min_words_for_repetition"}


def counted_shares(text: str) -> tuple[dict[int, float], dict[int, float]]:
    """The same measures by plain counting."""
    words = text.split()
    top, duplicate = {}, {}
    for size in (*TOP_GRAMS, *DUPLICATE_GRAMS):
        grams = [tuple(words[start : start + size]) for start in range(len(words) - size + 1)]
        counts = Counter(grams)
        most = max(counts.values(), default=0)
        top[size] = max((len(" ".join(gram)) * most for gram in counts if counts[gram] == most > 1), default=0) / max(1, len(text))
        covered, seen = set(), set()
        for start, gram in enumerate(grams):
            if gram in seen:
                covered |= set(range(start, start + size))
            seen.add(gram)
        duplicate[size] = sum(len(words[place]) for place in covered) / max(1, len(text))
    return {size: top[size] for size in TOP_GRAMS}, {size: duplicate[size] for size in DUPLICATE_GRAMS}


@given(st.lists(st.lists(st.sampled_from(["a", "bb", "ccc", "é", " ", "\n"]), max_size=60).map(" ".join), min_size=1, max_size=4))
def test_shares_of_n_grams_equal_plain_counting(texts: list[str]) -> None:
    top, duplicate = _Batch(texts).gram_shares
    for row, text in enumerate(texts):
        expected_top, expected_duplicate = counted_shares(text)
        assert {size: top[size][row] for size in TOP_GRAMS} == pytest.approx(expected_top)
        assert {size: duplicate[size][row] for size in DUPLICATE_GRAMS} == pytest.approx(expected_duplicate)


@given(st.lists(st.text(st.sampled_from("ab# .…-•\n\t é1"), max_size=40), max_size=6), st.sampled_from(list(PRESETS)))
def test_a_verdict_does_not_depend_on_the_other_documents_of_the_batch(texts: list[str], preset: str) -> None:
    config = QualityConfig(preset=preset)
    assert judge_batch(texts, config) == [judge_batch([text], config)[0] for text in texts]


def test_words_are_counted_as_split_counts_them() -> None:
    texts = ["", "  ", " one  two\tthree\n", "ein Wört größer"]
    batch = _Batch(texts)
    assert batch.num_words.tolist() == [len(text.split()) for text in texts]
    np.testing.assert_allclose(batch.mean_word_chars, [0, 0, 11 / 3, 13 / 3])
