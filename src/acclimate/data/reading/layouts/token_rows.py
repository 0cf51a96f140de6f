"""A table with a row for each word, such as the Groningen corpus on Kaggle."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any, ClassVar

from pydantic import Field

from acclimate.data.reading.formats import Reading
from acclimate.data.reading.layouts import Layout, Record, rows_of
from acclimate.data.reading.readers import FORMATS
from acclimate.data.reading.streams import split_endings

_LONG_SENTENCE = 250
logger = logging.getLogger(__name__)


class TokenRows(Layout):
    """Rows of a sentence, joined: words and tags as lists, and of every other column what its first row has."""

    sentence: str | list[str] = Field(
        default=[],
        description="column, or columns, whose change begins a sentence; an empty cell says the same as the one above. "
        "Without it, a row without word and tag, or a blank line of a CSV or TSV, ends one",
    )
    word: str | None = Field(default=None, description="column of the words; without it, the task's `text`")
    tag: str | None = Field(default=None, description="column of the tags; without it, the task's `label`")

    endings: ClassVar[tuple[str, ...]] = tuple(ending for ending in FORMATS if ending != ".txt")

    def records(self, reading: Reading) -> Iterator[Record]:
        """The sentences, each with the number of its first row."""
        word, tag = self.word or reading.columns[0], self.tag or reading.columns[1]
        keys = [self.sentence] if isinstance(self.sentence, str) else self.sentence
        others = [column for column in reading.columns if column not in (word, tag, "text", "label")]
        count, longest, seen = 0, 0, set[tuple[str, ...]]()
        again: list[str] = []
        for number, key, rows in _sentences(reading, keys, word, tag, list(dict.fromkeys([word, tag, *keys, *others]))):
            words, tags = [row[word] for row in rows], [row[tag] for row in rows]
            if key and key in seen:
                again.append(", ".join(key))
            seen.add(key)
            count, longest = count + 1, max(longest, len(rows))
            yield number, {**rows[0], word: words, tag: tags, "text": words, "label": tags}
        logger.info("%s: %s: %d sentences were joined of rows of a word each", reading.where, reading.path, count)
        if again:
            advice = "name a further column, `sentence: [document, sentence]`, or sort the rows"
            logger.warning("%s: %s: %d sentences begin anew, such as %s; %s", reading.where, reading.path, len(again), again[0], advice)
        if count == 1 and longest > _LONG_SENTENCE:
            hint = "`layout: {token_rows: {sentence: <column>}}` names the column that does"
            logger.warning("%s: %s: nothing parts the sentences: one of %d words was read; %s", reading.where, reading.path, longest, hint)


def _sentences(
    reading: Reading, keys: list[str], word: str, tag: str, columns: list[str]
) -> Iterator[tuple[int, tuple[str, ...], list[dict[str, Any]]]]:
    """Number of the first row, key and rows of each sentence."""
    has_lines = split_endings(reading.path)[0] in (".csv", ".tsv")
    rows: list[dict[str, Any]] = []
    key, before, first, last, size = tuple[str, ...](), [""] * len(keys), 0, 0, 0
    for number, row in rows_of(reading, columns):
        cells = ["" if _is_blank(row[name]) else str(row[name]).strip() for name in keys]
        is_blank = _is_blank(row[word]) and _is_blank(row[tag])
        is_new = any(cell and (cell != old or not above) for cell, old, above in zip(cells, key or cells, before, strict=True))
        after_blank = has_lines and not keys and bool(rows) and number > last + 1
        if rows and (is_blank or is_new or after_blank):
            yield first, key, rows
            rows, size = [], 0
        last, before = number, cells
        if is_blank:
            continue
        key = tuple(cell or old for cell, old in zip(cells, key or [""] * len(keys), strict=True))
        if _is_blank(row[tag]):
            raise reading.fault(f"row {number}: the word {str(row[word])[:40]!r} has no tag in column {tag!r}; write O for none")
        first, size = first if rows else number, size + len(str(row[word]))
        if size > reading.max_record_bytes:
            raise reading.too_long(f"row {first}", "sentence")
        rows.append(row)
    if rows:
        yield first, key, rows


def _is_blank(value: Any) -> bool:
    return value is None or value != value or (isinstance(value, str) and not value.strip())


COMPONENT: type[Layout] = TokenRows
