"""Scripts that put no space between words: there a character, with the marks on it, counts as a word."""

from __future__ import annotations

import functools
import re

from acclimate.data.screening.personal_data import marks

UNSPACED: tuple[tuple[int, int], ...] = (
    (0x0E00, 0x0FFF),  # Thai, Lao, Tibetan
    (0x1000, 0x109F),  # Burmese
    (0x1780, 0x17FF),  # Khmer
    (0x1950, 0x19DF),  # Tai Le, New Tai Lue
    (0x1A20, 0x1AAF),  # Tai Tham
    (0x3041, 0x312F),  # kana, bopomofo
    (0x31A0, 0x31FF),
    (0x3400, 0x4DBF),  # Han
    (0x4E00, 0x9FFF),
    (0xA9E0, 0xA9FF),  # more Burmese
    (0xAA60, 0xAADF),
    (0xF900, 0xFAFF),
    (0xFF66, 0xFF9F),  # kana of half width
    (0x20000, 0x3134F),
)
CHARACTERS = "".join(f"{chr(first)}-{chr(last)}" for first, last in UNSPACED)
"""The same as a character class of regular expressions."""
_ANY = re.compile(f"[{CHARACTERS}]")
_ASCII_WORD = re.compile(r"\b\w[\w.+-]*\b")


def has_unspaced(text: str) -> bool:
    """Whether a text holds a character of such a script."""
    return not text.isascii() and _ANY.search(text) is not None


def part_characters(text: str) -> str:
    """The text with a space between a character of such a script and a letter, digit or character beside it."""
    return _borders().sub(" ", text) if has_unspaced(text) else text


def words(text: str) -> list[str]:
    """Words of a text: letters, digits and marks with `.+-` inside; of scripts without spaces the characters."""
    return word_pattern(text).findall(text)


def word_pattern(text: str) -> re.Pattern[str]:
    """What finds the words of this text."""
    return _ASCII_WORD if text.isascii() else _any_word()


@functools.cache
def _any_word() -> re.Pattern[str]:
    sign = rf"(?![{CHARACTERS}])[\w{marks()}]"
    return re.compile(rf"(?![{marks()}])[{CHARACTERS}][{marks()}]*|{sign}(?:(?:(?![{CHARACTERS}])[\w.+{marks()}-])*{sign})?")


@functools.cache
def _borders() -> re.Pattern[str]:
    no_mark = rf"(?![{marks()}])"
    return re.compile(rf"(?<=[{CHARACTERS}])(?={no_mark}\w)|(?<=[^\s{CHARACTERS}])(?={no_mark}[{CHARACTERS}])")
