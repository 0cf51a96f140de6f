"""What parts the fields of a delimited file: as the options say, or as its header shows beyond doubt; what was found is logged."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from acclimate.data.reading.formats import Reading

_SEPARATORS = (",", ";", "\t", "|")
_SHOWN = {",": '","', ";": '";"', "\t": "tab", "|": '"|"'}
_EXCEL_LINE = re.compile(r'"?sep=([^"\'\r\n\0])"?[\r\n]*', re.IGNORECASE)
"""The first line by which Excel tells the separator."""


@dataclass(frozen=True)
class Dialect:
    """How the fields of a file are parted.

    Attributes:
        quote: around fields; `none` where a quote is a plain sign.
        skipped: lines before the header.
        width: fields of each row.
        hint: what an error about columns adds.
    """

    separator: str
    quote: str
    skipped: int = 0
    width: int = 0
    hint: str = ""
    skips_blanks: bool = False
    """Whether blanks before a field are no part of it."""

    def reader(self, lines: Iterable[str]) -> Any:
        """The csv module's reader of these lines."""
        if self.quote == "none":
            return csv.reader(lines, delimiter=self.separator, quoting=csv.QUOTE_NONE, strict=True)
        blanks = self.skips_blanks
        return csv.reader(lines, delimiter=self.separator, quotechar=self.quote, strict=True, skipinitialspace=blanks)


def find_dialect(head: list[str], is_all: bool, reading: Reading) -> Dialect:
    """How a file is read.

    Args:
        head: its first lines.
        is_all: whether there are no more.
    Raises:
        DataError: `header` names the columns of a file whose first line does so too.
    """
    given = reading.options.separator
    named = _EXCEL_LINE.fullmatch(head[0]) if head else None
    if named and not given:
        reading.note(f"read with separator {named[1]!r}, as its first line says")
    skipped = 1 if named else 0
    separator = given or (named[1] if named else "\t" if reading.ending == ".tsv" else ",")
    rows = _Head(separator, head[skipped:], is_all, reading)
    hint = "" if reading.options.header else "; if its first line is a row, name the columns by `header: [...]`"
    if reading.options.header and rows.rows[:1] == [reading.options.header]:
        raise reading.fault(f"line {skipped + 1}: the names that `header` gives stand there themselves; leave `header` out")
    if not (given or named or rows.has_columns()):
        others = [_Head(sign, head, is_all, reading) for sign in _SEPARATORS if sign != separator]
        fitting = [other for other in others if other.has_columns() and other.is_even()]
        if len(fitting) == 1:
            rows = fitting[0]
            reading.note(f"read with separator {rows.separator!r}, found in its first lines; `separator` sets another")
        elif looks := [f"`separator: {_SHOWN[other.separator]}`" for other in others if other.has_columns()]:
            hint = f"; its first line looks parted otherwise: give {' or '.join(looks)}"
    if rows.num_over:
        reading.note(f"{rows.num_over} separators over at the end of each row are left out")
    blanks = rows.quote != "none" and rows.separator != " " and rows.is_quoted_after_blanks()
    if blanks:
        reading.note("blanks between a separator and a quote are left out")
    if rows.quote == "none" and reading.options.quote is None and (num_quoted := rows.num_quoted()):
        reading.warn(f"{num_quoted} cells of its head begin and end with a quote, which is read as a sign; `quote: '\"'` takes quotes off")
    return Dialect(rows.separator, rows.quote, skipped, rows.width, hint, blanks)


class _Head:
    """The first rows of a file, as one separator parts them."""

    def __init__(self, separator: str, lines: list[str], is_all: bool, reading: Reading) -> None:
        is_tsv = reading.ending == ".tsv" and separator == "\t"
        self.separator, self.quote = separator, reading.options.quote or ("none" if is_tsv else '"')
        self._wanted, self._header = reading.columns, reading.options.header
        self.rows, self._is_broken = list[list[str]](), False
        try:
            for row in Dialect(separator, self.quote).reader(lines):
                if row:
                    self.rows.append([cell.strip() for cell in row])
        except csv.Error:  # said with its line once the reader gets there; or the head ends in a record
            self._is_broken = is_all
        if not is_all and len(self.rows) > 2:
            self.rows.pop()
        self._names = self._header or (self.rows[0] if self.rows else [])
        data = self.rows if self._header else self.rows[1:]
        width = len(data[0]) if data else 0
        self.num_over = width - len(self._names) if width > len(self._names) and not any(data[0][len(self._names) :]) else 0
        self.width = len(self._names) + self.num_over

    def has_columns(self) -> bool:
        """Whether each wanted column stands in the header once; of a file without one, whether its first row has as many fields."""
        if self._header:
            return bool(self.rows) and len(self.rows[0]) == self.width
        return all(self._names.count(column) == 1 for column in self._wanted)

    def is_quoted_after_blanks(self) -> bool:
        """Whether cells begin with a quote, after blanks, and end with one."""
        cells = [cell for row in self.rows for cell in row[1:]]
        return any(len(cell) > 1 and cell[0] == cell[-1] == self.quote for cell in cells)

    def num_quoted(self) -> int:
        """Cells that begin and end with a quote."""
        return sum(len(cell) > 1 and cell[0] == cell[-1] == '"' for row in self.rows for cell in row)

    def is_even(self) -> bool:
        """Whether there are rows, and all have the same number of fields."""
        data = self.rows if self._header else self.rows[1:]
        return bool(data) and not self._is_broken and all(len(row) == self.width for row in data)
