"""Text as the model should see it, and as duplicates are told by."""

from __future__ import annotations

import hashlib
import math
import re
import unicodedata
from collections.abc import Sequence
from typing import Any

from acclimate.errors import DataError

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b\u2060\ufeff]")
_SPACES = re.compile(r"[^\S\n]+")
_BLANK_LINES = re.compile(r"\n{3,}")


def clean_text(text: str) -> str:
    """NFC, no control characters, single spaces, at most one blank line in a row, trimmed."""
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    text = _CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    text = _SPACES.sub(" ", text).replace(" \n", "\n")
    return _BLANK_LINES.sub("\n\n", text).strip()


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
