"""What ingest does to each text of a table or a corpus, by the files that serving carries: clean, then count or replace personal data."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from acclimate.data.screening import cleaning, personal_data
from acclimate.data.screening.options import CleaningConfig, PersonalDataConfig
from acclimate.errors import DataError

FILES = (Path(cleaning.__file__), Path(personal_data.__file__))
"""What serving needs to do the same; they travel inside the registered model."""
_PLACEHOLDER = re.compile(f"<(?:{'|'.join(kind.upper() for kind in personal_data.KINDS)})_*>")
Rewriting = Literal["text", "words", "in_place"]
"""How an input may be rewritten: freely; each word by itself, since each has a tag; or so that every character keeps its place."""


@dataclass
class TextCounts:
    """What happened to texts."""

    changed: Counter[str] = field(default_factory=Counter)
    """Texts that each cleaning rule changed."""
    personal: Counter[str] = field(default_factory=Counter)
    """Pieces of personal data by kind."""


def prepare(values: Sequence[Any], how: Rewriting, clean: CleaningConfig, personal: PersonalDataConfig, counts: TextCounts) -> list[Any]:
    """Raw texts, or lists of words, as the model shall see them: what serving does by `cleaning.clean` and `personal_data.redact`."""
    if how == "words":
        return _prepare_words(values, clean, personal, counts)
    return screen(values if how == "in_place" else cleaning.clean(values, clean.rules, counts.changed), personal, counts, how=how)


def screen(texts: Sequence[str], config: PersonalDataConfig, counts: TextCounts, *, how: Rewriting = "text") -> list[str]:
    """Count personal data, and replace it where the mode is `redact`."""
    holds = _count(texts, config, counts)
    return [
        personal_data.redact(text, config.replaced, keep_length=how == "in_place") if found else text
        for text, found in zip(texts, holds, strict=True)
    ]


def _prepare_words(
    rows: Sequence[Sequence[str]], clean: CleaningConfig, personal: PersonalDataConfig, counts: TextCounts
) -> list[list[str]]:
    words = iter(cleaning.clean([word for row in rows for word in row], clean.rules, counts.changed))
    cleaned = [[next(words) for _ in row] for row in rows]
    holds = _count(cleaned, personal, counts)
    return [personal_data.redact_words(row, personal.replaced) if found else row for row, found in zip(cleaned, holds, strict=True)]


def _count(texts: Sequence[Any], config: PersonalDataConfig, counts: TextCounts) -> list[bool]:
    """Whether each text, or list of words, holds something to replace."""
    if config.mode == "off":
        return [False] * len(texts)
    count = personal_data.count_in_words if texts and isinstance(texts[0], list) else personal_data.count_findings
    holds, found = count(texts, config.kinds)
    counts.personal.update(found)
    return holds


def holds_placeholder(text: str) -> bool:
    """Whether something was replaced in a text, or it holds what looks so."""
    return _PLACEHOLDER.search(text) is not None


def carried(clean: CleaningConfig, personal: PersonalDataConfig) -> dict[str, list[str]]:
    """What serving must know to do the same."""
    return {"cleaning": clean.rules, "redact": [*personal.replaced]}


def text_column(values: Sequence[Any], *, where: str) -> list[str]:
    """The text in every cell of a column, as it stands there; a missing one is empty.

    Raises:
        DataError: with the number of cells that hold no text but a list, a mapping or bytes, and the first rows at fault.
    """
    wrong = [
        f"row {row}: {str(value)[:60]} is a {type(value).__name__}, not text"
        for row, value in enumerate(values, start=1)
        if isinstance(value, list | dict | bytes)
    ]
    if wrong:
        raise DataError(f"{where}: {len(wrong)} of {len(values)} cells hold no text: {'; '.join(wrong[:3])}")
    return ["" if value is None or (isinstance(value, float) and math.isnan(value)) else str(value) for value in values]
