"""The name in a cell: one spelling for each label, group, id and split, whatever format or program the cell comes from."""

from __future__ import annotations

import re
import unicodedata
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

import numpy as np

IGNORABLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
"""Unicode's Default_Ignorable_Code_Point (https://www.unicode.org/reports/tr44/), which show nothing, as a class of `re`."""
_UNSEEN = re.compile(f"[{IGNORABLE}\\x00-\\x08\\x0e-\\x1b\\x7f-\\x84\\x86-\\x9f]")
_JOINERS = "\u200c\u200d"
_JOINING = re.compile(f"(?<=[^\x00-\x7f{_JOINERS}])[{_JOINERS}](?=[^\x00-\x7f{_JOINERS}])")
"""A joiner that shapes Persian and Indic words and emoji; between other signs it shows nothing."""
_WHOLE = re.compile(r"-?(?:0|[1-9][0-9]*)\.0+")
_SHORT = 64
_NOTHING = frozenset({"", "nan", "NaN", "NaT", "<NA>", "None", "null", "NULL"})


def is_missing(value: Any) -> bool:
    """A cell that holds nothing, not even an empty text: None, NaN, NaT."""
    return value is None or bool(isinstance(value, float | Decimal | datetime | np.generic) and value != value)


def is_blank(value: Any) -> bool:
    """A cell that holds no name."""
    return is_missing(value) or (isinstance(value, str) and not value.strip())


def name_of(value: Any) -> str:
    """The name in a cell; an empty one where it holds nothing.

    Names are equal for 5, 5.0, "5" and "5.0", for true, True and "TRUE", and for texts that differ only in Unicode's composed and
    decomposed forms, in signs that show nothing, or in white space. Case counts.

    Raises:
        ValueError: the cell holds a list, a mapping or bytes.
    """
    if type(value) is str:
        return _spelled_again(value) if len(value) <= _SHORT else _spelled(value)
    if is_missing(value):
        return ""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, list | tuple | set | dict | bytes):
        raise ValueError(f"{str(value)[:60]} is a {type(value).__name__}, and names nothing")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, Decimal) and value.is_finite():  # `normalize` would round to 28 digits
        value = f"{value:f}".rstrip("0").rstrip(".") if "." in f"{value:f}" else f"{value:f}"
    return _spelled(str(value))


@lru_cache(maxsize=1 << 14)
def _spelled_again(text: str) -> str:
    """Remembers short names: a tag stands in most rows."""
    return _spelled(text)


def _spelled(text: str) -> str:
    if not text.isascii():
        text = unicodedata.normalize("NFC", " ".join(text.split()))
        text = unicodedata.normalize("NFC", _drop_unseen(text))
    elif not text.isprintable():
        text = _UNSEEN.sub("", text)
    text = " ".join(text.split())
    if _WHOLE.fullmatch(text):
        whole = text.partition(".")[0]
        return "0" if whole == "-0" else whole
    return text.lower() if text.lower() in ("true", "false") else text


def _drop_unseen(text: str) -> str:
    joining = {match.start() for match in _JOINING.finditer(text)} if any(joiner in text for joiner in _JOINERS) else ()
    return _UNSEEN.sub(lambda match: match[0] if match.start() in joining else "", text)


def is_nothing(name: str) -> bool:
    """Whether a name is what programs write for an empty cell, such as `nan`."""
    return name in _NOTHING
