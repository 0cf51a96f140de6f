"""Quoted fields that run over line ends: they are legal in CSV, and what a lone quote makes of the rows after it looks like one."""

from __future__ import annotations

from dataclasses import dataclass

from acclimate.data.reading.formats import Reading
from acclimate.data.reading.formats.dialect import Dialect

_SAMPLE_ROWS = 500
_FEWEST_ROWS = 20
_MAX_SUSPECTS = 100
_ROWS_PER_VALUE = 5


@dataclass(frozen=True)
class _Suspect:
    """A record each line of which would be a full row if quotes were plain signs."""

    first_line: int
    last_line: int
    rows: list[list[str]]


class LongRecords:
    """Watches for rows that a lone quote swallows.

    A record is suspect where each of its lines, taken by itself, has the number of fields of a row. It is refused where the lines hold, in
    each column of few values, values that other rows have; or where nothing shows its commas to be those of a text. The latter does not
    count where there are columns of few values and the file has shown its quotes to be those of a CSV, by a quoted separator or line end.
    """

    def __init__(self, reading: Reading, dialect: Dialect) -> None:
        self._reading, self._separator, self._quote = reading, dialect.separator, dialect.quote
        self._is_quoted = dialect.quote == "none"
        self._is_plain, self._num_plain = self._is_quoted and reading.options.quote is None, 0
        self._sample = list[list[str]]()
        self._suspects = list[_Suspect]()

    def add(self, first_line: int, row: list[str], lines: list[str]) -> bool:
        """Look at one record and its lines; whether those of one line still say something new."""
        if len(lines) > 1:
            if lines[0].count(self._separator) == len(row) - 1 and self._is_suspect(first_line, row, lines):
                return True
            self._is_quoted = True
        elif not self._is_quoted and lines[0].count(self._separator) >= len(row):
            self._is_quoted = True
        if len(self._sample) < _SAMPLE_ROWS:
            self._sample.append(row)
            self._num_plain += self._is_plain and '"' in lines[0]
        return len(self._sample) < _SAMPLE_ROWS or not self._is_quoted

    def _is_suspect(self, first_line: int, row: list[str], lines: list[str]) -> bool:
        last_line = first_line + len(lines) - 1
        lines = [line for line in lines if not line.isspace()]
        is_suspect = len(row) > 1 and all(line.count(self._separator) == len(row) - 1 for line in lines)
        if is_suspect and len(self._suspects) < _MAX_SUSPECTS:
            rows = [[field.strip(self._quote) for field in line.rstrip("\r\n").split(self._separator)] for line in lines]
            self._suspects.append(_Suspect(first_line, last_line, rows))
        return is_suspect

    def check(self, num_long: int) -> None:
        """Log how many records run over several lines.

        Raises:
            DataError: one seems to have swallowed rows.
        """
        known = self._columns_of_few_values()
        for suspect in self._suspects if self._reading.options.quote is None else []:
            if _have_known_values(suspect.rows, known) or (not (self._is_quoted and known) and _are_no_prose(suspect.rows)):
                place = f"line {suspect.first_line}: a quoted field runs to line {suspect.last_line}"
                problem = f"{place}, and each of these lines could be a row"
                advice = "give `quote: none` if a quote is a plain sign, `quote: '\"'` if it is one record; or mend the quote"
                raise self._reading.fault(f"{problem}; {advice}")
        if self._num_plain:
            problem = f"a quote is kept as a plain sign in {self._num_plain} of the first {len(self._sample)} rows"
            self._reading.note(f"{problem}; `quote: '\"'` takes quotes around fields off")
        if num_long:
            self._reading.note(f"{num_long} records run over several lines by their quotes")

    def _columns_of_few_values(self) -> dict[int, set[str]]:
        if len(self._sample) < _FEWEST_ROWS:
            return {}
        values = {column: set(cells) for column, cells in enumerate(zip(*self._sample, strict=True))}
        return {column: known for column, known in values.items() if len(known) * _ROWS_PER_VALUE <= len(self._sample)}


def _have_known_values(rows: list[list[str]], known: dict[int, set[str]]) -> bool:
    """Whether lines of a record hold, in each column of few values, values that other rows have."""
    return bool(known) and all(row[column] in values for row in rows for column, values in known.items())


def _are_no_prose(rows: list[list[str]]) -> bool:
    """Whether nothing shows the separators to be a text's commas, which a space or a line end follows."""
    return all(field and not field[0].isspace() for row in rows for field in row[1:])
