"""CSV (RFC 4180, https://www.rfc-editor.org/rfc/rfc4180) and TSV.

In .tsv a quote is a plain sign (https://www.iana.org/assignments/media-types/text/tab-separated-values) unless `quote` says otherwise.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from itertools import chain

from acclimate.data.reading.formats import Reading, Record, in_batches
from acclimate.data.reading.formats.dialect import Dialect, find_dialect
from acclimate.data.reading.formats.quoting import LongRecords

_SHOWN = 3
_HEAD_CHARS = 1 << 20
_HEAD_LINES = 200
_DECIMAL_COMMA = re.compile(r"\s*[+-]?(?:\d+|[1-9]\d{0,2}(?:\.\d{3})+)?(?:,\d+)?(?:[eE][+-]?\d+)?\s*")
_DECIMAL_POINT = re.compile(r"\s*[+-]?(?:\d{1,3}\.(?!\d{3}\s*$)\d+|\d{4,}\.\d+|0*\.\d+)\s*")
_HAS_DIGIT = re.compile(r"\d")
csv.field_size_limit(1 << 30)  # a record's size is bounded here, with its line named


@in_batches
def read_delimited(reading: Reading) -> Iterator[Record]:  # noqa: C901  # calls for each row would cost a tenth of the speed
    """Every cell a string. A row with more or fewer fields than the header stops all batches; the rest is only counted."""
    source = reading.lines(newline="")  # the csv module wants the ends of lines as they are
    head, is_all = _head(source)
    dialect = find_dialect(head, is_all, reading)
    first_line, record_chars, limit, pending = 1 + dialect.skipped, 0, reading.max_record_bytes, list[str]()

    def lines() -> Iterator[str]:
        nonlocal record_chars
        for line in chain(head[dialect.skipped :], source):
            record_chars += len(line)
            if record_chars > limit:
                raise reading.too_long(f"line {first_line}", "record", "; a quote that is never closed looks so")
            pending.append(line)
            yield line

    reader = dialect.reader(lines())
    width, wrong, long = dialect.width, _WrongRows(reading, dialect), LongRecords(reading, dialect)
    index = _index(reading, reading.options.header, dialect) if reading.options.header else []
    decimals = _DecimalCommas(reading) if reading.options.decimal == "," else None
    is_learning, is_wrong, stop, skipped = True, False, reading.head_rows, dialect.skipped
    separator, num_separators = dialect.separator, width - 1
    num_rows = num_blank = num_long = 0
    try:
        for row in reader:
            if len(row) == width and index:
                num_rows += 1
                if not is_wrong:
                    cells = [row[i] for i in index]
                    yield first_line, decimals.read(cells) if decimals else cells, record_chars
                if len(pending) > 1:
                    num_long += 1
                if is_learning or (len(pending) > 1 and pending[0].count(separator) == num_separators):
                    is_learning = long.add(first_line, row, pending) and is_learning
            elif not index and row:
                index = _index(reading, [name.strip() for name in row], dialect)
            elif row:
                is_wrong = wrong.add(first_line, row)
            else:
                num_blank += 1
                reading.check_blank(first_line, num_blank, num_rows)
            first_line, record_chars = reader.line_num + 1 + skipped, 0
            pending.clear()
            if num_rows == stop:
                break
    except csv.Error as error:
        problem = f"line {first_line}: not valid CSV ({error}); quote it, save it as JSONL"
        raise reading.fault(problem + ", or give `quote: none` where a quote is a plain sign" * (dialect.quote != "none")) from None
    wrong.check()
    long.check(num_long)
    if decimals:
        decimals.report()


def _head(source: Iterator[str]) -> tuple[list[str], bool]:
    """The first lines, and whether they are all."""
    head, num_chars = list[str](), 0
    for line in source:
        head.append(line)
        num_chars += len(line)
        if len(head) == _HEAD_LINES or num_chars >= _HEAD_CHARS:
            return head, False
    return head, True


def _index(reading: Reading, header: list[str], dialect: Dialect) -> list[int]:
    """Where the wanted columns stand."""
    reading.require(header, suffix=dialect.hint)
    return [header.index(column) for column in reading.columns]


class _WrongRows:
    """Rows that do not have the header's number of fields."""

    def __init__(self, reading: Reading, dialect: Dialect) -> None:
        self._reading, self._dialect = reading, dialect
        self.count = 0
        self._shown = list[str]()

    def add(self, line: int, row: list[str]) -> bool:
        """Count one; True."""
        self.count += 1
        if self.count <= _SHOWN:
            self._shown.append(f"line {line}: {len(row)} fields")
        return True

    def check(self) -> None:
        """Refuse the file where there are any."""
        if self.count:
            problem = f"{self.count} rows do not have the header's {self._dialect.width} fields: {'; '.join(self._shown)}"
            advice = "quote fields that hold the separator, and write empty fields too"
            if self._dialect.quote == "none":
                advice = "give `quote: '\"'` if quotes stand around fields that hold the separator or a line end, or save it as JSONL"
            raise self._reading.fault(f"{problem}; {advice}")


class _DecimalCommas:
    """Reads the numbers of rows, and counts those that have a decimal point all the same."""

    def __init__(self, reading: Reading) -> None:
        self._reading, self._num_points, self._example = reading, 0, ""

    def read(self, cells: list[str]) -> list[str]:
        """Cells with a decimal point in each number."""
        for cell in cells:
            if "." in cell and _DECIMAL_POINT.fullmatch(cell):
                self._num_points, self._example = self._num_points + 1, self._example or cell
        return [_with_point(cell) for cell in cells]

    def report(self) -> None:
        """Warn of decimal points."""
        if self._num_points:
            problem = f"{self._num_points} cells such as {self._example.strip()!r} have a decimal point, though `decimal` is a comma"
            self._reading.warn(f"{problem}; they are read with the point")


def _with_point(cell: str) -> str:
    """A number as the rest of the program writes it, where the whole cell is one: `1.234,5` becomes `1234.5`."""
    if _HAS_DIGIT.search(cell) and _DECIMAL_COMMA.fullmatch(cell):
        return cell.replace(".", "").replace(",", ".")
    return cell
