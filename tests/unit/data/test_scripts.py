"""Words of any script: runs of letters, or characters where no space stands between words."""

# ruff: noqa: RUF001 - the signs of other scripts are what is tested
from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acclimate.data.screening.scripts import has_unspaced, part_characters, words


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("GPU显卡，很好。", ["GPU", "显", "卡", "很", "好"]),
        ("ก้าว ไทย", ["ก้", "า", "ว", "ไ", "ท", "ย"]),
        ("日本語テスト", ["日", "本", "語", "テ", "ス", "ト"]),
        ("ភាសាខ្មែរ", ["ភា", "សា", "ខ្", "មែ", "រ"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("naïve x86_64, open(2), a.b.", ["naïve", "x86_64", "open", "2", "a.b"]),
        ("한국어 문장", ["한국어", "문장"]),
    ],
)
def test_words_of_a_script(text: str, right: list[str]) -> None:
    assert words(text) == right


@given(st.text(st.characters(max_codepoint=0x2FF)))
def test_words_of_latin_letters_are_those_of_scikit_learn_s_usual_pattern(text: str) -> None:
    assert words(text) == re.findall(r"(?u)\b\w[\w.+-]*\b", text)


@given(st.text(st.sampled_from("ab1 .中日ก้\u1780\u17d2")))
def test_parting_adds_spaces_alone_and_once(text: str) -> None:
    parted = part_characters(text)
    assert parted.replace(" ", "") == text.replace(" ", "")
    assert part_characters(parted) == parted
    assert has_unspaced(text) or parted == text
