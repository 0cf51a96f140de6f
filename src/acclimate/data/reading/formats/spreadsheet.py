"""Excel's .xlsx (ECMA-376), a row at a time; a merged cell counts for each row that it covers."""

from __future__ import annotations

import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from typing import IO, Any

from acclimate.data.reading.formats import Reading, Record, in_batches
from acclimate.data.reading.streams import Unpacked, first_line

_ERRORS = {"#N/A", "#REF!", "#DIV/0!", "#VALUE!", "#NAME?", "#NUM!", "#NULL!", "#SPILL!", "#CALC!"}
_MERGED = re.compile(rb'<(?:\w+:)?mergeCell\s+ref="\$?([A-Z]{1,3})\$?(\d{1,7}):\$?([A-Z]{1,3})\$?(\d{1,7})"')
_CHUNK_BYTES = 1 << 18
_BROKEN = (
    *(zipfile.BadZipFile, zlib.error, EOFError, OSError, struct.error),
    *(ArithmeticError, AttributeError, LookupError, RuntimeError, SyntaxError, TypeError, ValueError),
)
"""What openpyxl raises for a file that is not whole; the parser of XML raises a SyntaxError."""

Cells = dict[int, Any]
"""The values of a row, by their column from 1."""


@in_batches
def read_xlsx(reading: Reading) -> Iterator[Record]:
    """Values as Excel stores them: numbers as numbers, dates as ISO 8601. Rows without any value are left out; errors are empty cells."""
    import openpyxl

    num_records = 0
    try:
        _refuse_bomb(reading)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of styles and drawings, which are not read
            book = openpyxl.load_workbook(reading.path, read_only=True, data_only=True, keep_links=False)
            sheet = _find_sheet(book, reading)
            for record in _records(sheet, reading):
                num_records += 1
                yield record
                if num_records == reading.head_rows:
                    break
            book.close()
    except _BROKEN as error:
        raise reading.fault(f"not a whole .xlsx file ({first_line(error)}); save it again, as .xlsx or as CSV") from None


def _refuse_bomb(reading: Reading) -> None:
    unpacked = Unpacked(reading.path, reading.where, max_growth=reading.options.max_growth, advice="raise `max_growth`, or save it as CSV")
    with zipfile.ZipFile(reading.path) as file:
        for info in file.infolist():
            unpacked.add(info.file_size)
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # zipfile unpacks others without a bound
                raise zipfile.BadZipFile(f"{info.filename} is packed by another method than deflate")
        for name in file.namelist():
            if name.endswith(".xml"):
                with file.open(name) as source:
                    _refuse_long_tokens(source, name, reading)


def _refuse_long_tokens(source: IO[bytes], name: str, reading: Reading) -> None:
    """Expat before 2.6 reads a comment or a tag again with each piece of it (CVE-2023-52425): 64 MB would take minutes."""
    rest = b""
    while chunk := source.read(_CHUNK_BYTES):
        if b"<!" in rest + chunk:
            raise reading.fault(f"{name} has a comment or a declaration, as no spreadsheet program writes it; save it again, or as CSV")
        if b"<" not in chunk and len(chunk) == _CHUNK_BYTES:
            raise reading.fault(f"{name} has {_CHUNK_BYTES:,} bytes without a tag, where a cell holds 32,767 characters; save it as CSV")
        rest = chunk[-1:]


def _find_sheet(book: Any, reading: Reading) -> Any:
    """The sheet that is named, or the only one that has the columns."""
    sheets = {sheet.title: sheet for sheet in book.worksheets}
    wanted = reading.options.sheet
    shown = ", ".join(map(repr, sheets))
    if wanted is not None:
        found = sheets.get(str(wanted)) or (book.worksheets[wanted - 1] if isinstance(wanted, int) and wanted <= len(sheets) else None)
        if found is None:
            raise reading.fault(f"no sheet {wanted!r}; present: {shown}")
        return found
    if len(sheets) == 1:
        return book.worksheets[0]
    fitting = [sheet for sheet in sheets.values() if set(reading.columns) <= set(_header(sheet, reading))]
    if len(fitting) != 1:
        raise reading.fault(f"{len(fitting)} of {len(sheets)} sheets have the columns that are read; name one by `sheet`: {shown}")
    reading.note(f"read sheet {fitting[0].title!r}, the only one with the columns; `sheet` names another")
    return fitting[0]


def _header(sheet: Any, reading: Reading) -> list[str]:
    if reading.options.header:
        return reading.options.header
    for _, cells in _rows(sheet):
        if cells:
            return _names(cells)
    return []


def _names(cells: Cells) -> list[str]:
    return ["" if cells.get(column) is None else str(cells[column]).strip() for column in range(1, max(cells) + 1)]


def _rows(sheet: Any) -> Iterator[tuple[int, Cells]]:
    """Number and values of each row that has some. Not by `iter_rows`, which makes up every row and cell up to the last."""
    from openpyxl.worksheet._reader import WorkSheetParser

    book = sheet.parent
    with sheet._get_source() as source:
        parser = WorkSheetParser(
            source,
            sheet._shared_strings,
            data_only=True,
            epoch=book.epoch,
            date_formats=book._date_formats,
            timedelta_formats=book._timedelta_formats,
        )
        for number, cells in parser.parse():
            yield number, {cell["column"]: cell["value"] for cell in cells if cell["value"] is not None and cell["value"] != ""}


def _records(sheet: Any, reading: Reading) -> Iterator[Record]:
    rows = _rows(sheet)
    header = reading.options.header or next((_names(cells) for _, cells in rows if cells), [])
    if not header:
        return
    reading.require(header, suffix=f" (sheet {sheet.title!r}); if its first row is data, name the columns by `header: [...]`")
    index = [header.index(column) + 1 for column in reading.columns]
    merged = _Merged(sheet, index)
    num_errors, num_empty, seen = 0, 0, set[int]()
    for number, cells in rows:
        if not cells:
            num_empty += 1
            continue
        merged.fill(number, cells)
        values = [_value(cells.get(column)) for column in index]
        num_errors += sum(type(value) is str and value in _ERRORS for value in values)
        values = [None if type(value) is str and value in _ERRORS else value for value in values]
        seen.update(column for column, value in zip(index, values, strict=True) if value is not None)
        size = sum(len(value) for value in values if type(value) is str)
        if size > reading.max_record_bytes:
            raise reading.too_long(f"row {number}", "record")
        yield number, values, size
    empty = [header[column - 1] for column in index if column not in seen]
    if empty and not reading.head_rows:
        problem = f"column {empty[0]!r} holds no value (sheet {sheet.title!r}); a formula has none until Excel has saved the file"
        raise reading.fault(f"{problem}; save it by Excel, or leave the column out")
    if num_empty or num_errors or merged.num_filled:
        filled = f"{merged.num_filled} cells take a merged cell's value"
        reading.note(f"{num_empty} empty rows are left out; {num_errors} errors such as #N/A are read as empty cells; {filled}")


class _Merged:
    """Values of cells that were merged downwards; the file has them in the first row alone."""

    def __init__(self, sheet: Any, wanted: list[int]) -> None:
        self.num_filled = 0
        self._ends: dict[tuple[int, int], int] = {}
        self._open: dict[int, tuple[int, Any]] = {}
        for first, top, last, bottom in _merged_ranges(sheet):
            if first == last and first in wanted and bottom > top:
                self._ends[first, top] = bottom

    def fill(self, number: int, cells: Cells) -> None:
        """Give a row the values of merged cells that reach into it."""
        if not self._ends:
            return
        for column, (bottom, value) in list(self._open.items()):
            if number > bottom:
                del self._open[column]
            else:
                cells[column] = value
                self.num_filled += 1
        for column in list(cells):
            if bottom := self._ends.get((column, number), 0):
                self._open[column] = (bottom, cells[column])


def _merged_ranges(sheet: Any) -> Iterator[tuple[int, int, int, int]]:
    """First column and row, last column and row. They stand behind the rows, so the sheet is read through for them first."""
    from openpyxl.utils import column_index_from_string

    rest = b""
    with sheet._get_source() as source:
        while chunk := source.read(_CHUNK_BYTES):
            text = rest + chunk
            for match in _MERGED.finditer(text):
                yield column_index_from_string(match[1].decode()), int(match[2]), column_index_from_string(match[3].decode()), int(match[4])
            rest = text[text.rfind(b"<") :] if b"<" in text[-200:] else b""


def _value(value: Any) -> Any:
    if isinstance(value, datetime):
        midnight = value.hour == value.minute == value.second == value.microsecond == 0
        return value.date().isoformat() if midnight else value.isoformat()
    return value.isoformat() if isinstance(value, date | time) else str(value) if isinstance(value, timedelta) else value
