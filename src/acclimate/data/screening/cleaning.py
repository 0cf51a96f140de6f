"""Text as the model should see it, and as duplicates are told by."""

from __future__ import annotations

import hashlib
import html
import itertools
import math
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from acclimate.errors import DataError
from acclimate.settings import Options

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b\u2060\ufeff]")
_SPACES = re.compile(r"[^\S\n]+")
_ODD_SPACE = re.compile(r"[^\S\n ]")
_MARKS = re.compile(r"[^\w\s\x00-\x7f]{32,}")  # combining marks are neither letters nor spaces; what else this finds is left as it is
_BLANK_LINES = re.compile(r"\n{3,}")

# A lead byte of UTF-8 (C2 to F4) and a following byte (80 to BF), both read as Latin-1 or Windows-1252; or a C1 control.
_READ_AS_1252 = "".join(bytes([byte]).decode("cp1252", "ignore") for byte in range(0x80, 0xA0))
_MOJIBAKE = re.compile(f"[\u00c2-\u00f4][\u0080-\u00bf{_READ_AS_1252}]|[\u0080-\u009f]")

_BLOCKS = (
    "address|article|aside|blockquote|body|br|center|dd|div|dl|dt|fieldset|figcaption|figure|footer|form|h[1-6]|head|header|hr|html|li|"
    "link|main|meta|nav|ol|option|p|pre|section|select|table|tbody|td|tfoot|th|thead|title|tr|ul"
)
_INLINES = (
    "a|abbr|acronym|b|big|button|cite|code|del|em|font|i|iframe|img|input|ins|kbd|label|mark|q|s|samp|script|small|span|strike|strong|"
    "style|sub|sup|textarea|tt|u|var"
)
_ATTRIBUTES = r"(?:\s[^<>]{0,2000})?"
_TAG = re.compile(rf"<(/?)({_BLOCKS}|{_INLINES}){_ATTRIBUTES}\s?/?>", re.IGNORECASE)
_BLOCK_TAG = re.compile(rf"</?(?:{_BLOCKS}){_ATTRIBUTES}\s?/?>", re.IGNORECASE)
_UNSEEN = re.compile(rf"<(?:(!--)|(script|style){_ATTRIBUTES}>|!doctype[^<>]*>)", re.IGNORECASE)
_UNSEEN_ENDS = {
    "!--": re.compile("-->"),
    **{name: re.compile(rf"</{name}\s?>", re.IGNORECASE) for name in ("script", "style")},
}
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|amp|lt|gt|quot|apos|nbsp);")
_MIN_TAGS = 4
"""Fewer tags than this are taken for a text about HTML, such as "put it into <b> and </b>"."""


class CleaningConfig(Options):
    """Which rules clean a text. They are applied in this order."""

    mojibake: bool = True
    html: bool = True
    control_characters: bool = True
    nfc: bool = True
    whitespace: bool = True


@dataclass(frozen=True)
class CleanedBatch:
    """Cleaned texts, and how many of them each rule that was on has changed."""

    texts: list[str]
    changed: dict[str, int]


def clean_batch(texts: Sequence[str], config: CleaningConfig) -> CleanedBatch:
    """Apply the rules that are on to every text, in the order of `RULES`.

    Without the rules `mojibake` and `html` the result is that of `clean_text`.
    """
    cleaned = list(texts)
    changed = {}
    for name in (name for name in RULES if getattr(config, name)):
        before, cleaned = cleaned, list(map(RULES[name], cleaned))
        changed[name] = sum(old != new for old, new in zip(before, cleaned, strict=True))
    return CleanedBatch(cleaned, changed)


def clean_text(text: str) -> str:
    """NFC, no control characters, single spaces, at most one blank line in a row, trimmed."""
    return normalize_spaces(compose(drop_control_characters(text)))


def repair_mojibake(text: str) -> str:
    """Mend UTF-8 that was read as Latin-1 or Windows-1252, line by line, by ftfy (https://ftfy.readthedocs.io).

    ftfy's own test reads 5 million characters a second; the guard before it 70 million. It lets ftfy see a line only where two
    neighbours could be two bytes of UTF-8, so mojibake of other encodings (MacRoman, Windows-1251) stays.
    """
    if text.isascii() or not _MOJIBAKE.search(text):
        return text
    from ftfy import fix_encoding

    return "\n".join(fix_encoding(line) if _MOJIBAKE.search(line) else line for line in text.split("\n"))


def strip_html(text: str) -> str:
    """Take HTML's own tags out of a page's remains, and decode left-over entities (once).

    A text is a page's remains when it has four tags that HTML knows, one of them a closing one; `<stdio.h>`, `<section>` in a path,
    `a < b` and a sentence about `<b>` and `</b>` stay. Block tags become line ends. Of the named entities only the six
    that escaping leaves behind are decoded: a text that names others is about HTML.
    """
    if "<" in text and _is_page(text):
        text = _TAG.sub("", _BLOCK_TAG.sub("\n", _drop_unseen(text)))
    return _ENTITY.sub(lambda match: html.unescape(match[0]), text) if "&" in text else text


def _drop_unseen(text: str) -> str:
    """Take out comments, scripts, style sheets and doctypes, each for a space; one that does not end stays.

    An end that was not found is not looked for again. One regular expression did that at each beginning: 80 kB of `<!--` took 9.3 s.
    """
    seen, position = [], 0
    ends = dict(_UNSEEN_ENDS)
    for start in _UNSEEN.finditer(text):
        name = (start[1] or start[2] or "").casefold()  # re.IGNORECASE takes the long s of `<\u017fcript>` for an s too
        if start.start() < position or (name and name not in ends):
            continue
        end = ends[name].search(text, start.end()) if name else start
        if end is None:
            del ends[name]
        else:
            seen.append(text[position : start.start()])
            position = end.end()
    return " ".join([*seen, text[position:]])


def _is_page(text: str) -> bool:
    closing = [bool(match[1]) for match in _TAG.finditer(text)]
    return len(closing) >= _MIN_TAGS and any(closing)


def drop_control_characters(text: str) -> str:
    """Plain line feeds; no control characters but tab and line end, no zero-width space, word joiner or byte order mark."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _CONTROL.sub("", text)


def compose(text: str) -> str:
    """Unicode's normal form C (https://unicode.org/reports/tr15/)."""
    return text if text.isascii() else unicodedata.normalize("NFC", _MARKS.sub(_in_order, text))


def _in_order(marks: re.Match[str]) -> str:
    """A run of combining marks in canonical order, which is the same text. Python sorts one by insertion: 1 MB of marks takes minutes."""
    signs = "".join(unicodedata.normalize("NFD", sign) for sign in marks[0])
    runs = itertools.groupby(signs, key=lambda sign: unicodedata.combining(sign) > 0)
    return "".join("".join(sorted(run, key=unicodedata.combining) if is_mark else run) for is_mark, run in runs)


def normalize_spaces(text: str) -> str:
    """Single spaces, none before a line end, at most one blank line in a row, trimmed."""
    if "  " in text or _ODD_SPACE.search(text):
        text = _SPACES.sub(" ", text)
    text = text.replace(" \n", "\n")
    return (_BLANK_LINES.sub("\n\n", text) if "\n\n\n" in text else text).strip()


RULES: dict[str, Callable[[str], str]] = {
    # Mojibake first: C1 controls are half of it. NFC after the control characters, which may stand between a letter and its accent.
    "mojibake": repair_mojibake,
    "html": strip_html,
    "control_characters": drop_control_characters,
    "nfc": compose,
    "whitespace": normalize_spaces,
}
"""Name of each rule, as in `CleaningConfig`, and what it does."""


def clean_value(value: Any) -> str:
    """The text in a cell, cleaned; a missing one is empty.

    Raises:
        ValueError: the cell holds no text but a list, a mapping or bytes.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, list | dict | bytes):
        raise ValueError(f"{str(value)[:60]} is a {type(value).__name__}, not text")
    return clean_text(str(value))


def clean_column(values: Sequence[Any], *, where: str) -> list[str]:
    """Every cell of a column, cleaned.

    Raises:
        DataError: with the number of cells that hold no text and the first rows at fault.
    """
    texts, wrong = [], []
    for row, value in enumerate(values, start=1):
        try:
            texts.append(clean_value(value))
        except ValueError as error:
            wrong.append(f"row {row}: {error}")
    if wrong:
        raise DataError(f"{where}: {len(wrong)} of {len(values)} cells hold no text: {'; '.join(wrong[:3])}")
    return texts


def duplicate_key(text: str) -> str:
    """What two texts share that differ in case and white space only."""
    return " ".join(text.lower().split())


def key_digest(text: str) -> str:
    """Names the group of all texts with one duplicate key, in 16 characters."""
    return hashlib.sha256(duplicate_key(text).encode()).hexdigest()[:16]
