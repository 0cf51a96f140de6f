"""Readers of file formats, one module each: a file in, batches of records out."""

from __future__ import annotations

import codecs
import difflib
import io
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial, wraps
from pathlib import Path
from typing import IO, Any, Literal

from acclimate.data.reading.options import ReadOptions
from acclimate.data.reading.streams import DEFAULT_ENCODING, fault, one_line, opened, split_endings
from acclimate.errors import DataError

MAX_BATCH_ROWS = 4096
MAX_BATCH_BYTES = 16 << 20
WHOLE = "*"
"""Named as the only column: the JSON value of a record as it is."""
_SHOWN_COLUMNS = 20
_SHOWN_CHARS = 60
_BLANK_LINES = 1_000_000
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig", ("utf-8-sig",)),
    (codecs.BOM_UTF32_LE, "utf-32", ("utf-32", "utf-32-le")),
    (codecs.BOM_UTF16_LE, "utf-16", ("utf-16", "utf-16-le")),
    (codecs.BOM_UTF16_BE, "utf-16", ("utf-16", "utf-16-be")),
)
"""A byte order mark, the encoding that it stands for, and the ones that may be given with it; 32 bits before 16, which begin alike."""
logger = logging.getLogger(__name__)

TextBy = Literal["blank_line", "file", "line"]
Record = tuple[int, Sequence[Any], int]
"""Its number, its cells and its size."""


@dataclass(frozen=True)
class Batch:
    """Some records of one file, in its order.

    Attributes:
        columns: a list of cells for each column that was asked for.
        numbers: where each record begins: its first line (CSV, TSV, JSONL, text) or its row (JSON, Parquet, Arrow), from 1.
    """

    columns: dict[str, list[Any]]
    numbers: list[int]

    def __len__(self) -> int:
        return len(self.numbers)


@dataclass(frozen=True)
class Reading:
    """How one file is read; what every format's reader is given."""

    path: Path
    columns: list[str]
    where: str
    options: ReadOptions
    text_by: TextBy = "blank_line"
    max_rows: int = MAX_BATCH_ROWS
    max_bytes: int = MAX_BATCH_BYTES
    row_groups: tuple[int, int] | None = None
    member: str = ""
    opener: Callable[[], AbstractContextManager[IO[bytes]]] | None = None
    head_rows: int | None = None

    @property
    def encoding(self) -> str:
        """The name of the text's encoding."""
        return self.options.encoding

    @property
    def max_record_bytes(self) -> int:
        """The size of the longest record that is read."""
        return self.options.max_record_bytes

    @property
    def ending(self) -> str:
        """The format's ending, in lower case; a text that is given a separator is a table."""
        ending = split_endings(Path(self.member) if self.member else self.path)[0]
        return ".csv" if ending == ".txt" and self.options.separator else ending

    @property
    def place(self) -> str:
        """The file, and the member of an archive."""
        return f"{self.path}: member {self.member!r}" if self.member else str(self.path)

    def open(self) -> AbstractContextManager[IO[bytes]]:
        """Its bytes, decompressed."""
        return self.opener() if self.opener else opened(self.path, where=self.where, max_growth=self.options.max_growth)

    def note(self, found: str) -> None:
        """Log what was found out of the file by itself."""
        logger.info("%s", one_line(f"{self.where}: {self.place}: {found}"))

    def warn(self, found: str) -> None:
        """Log what may be read otherwise than it was meant."""
        logger.warning("%s", one_line(f"{self.where}: {self.place}: {found}"))

    def fault(self, problem: object) -> DataError:
        """The error that names this file."""
        return fault(self.where, self.place, problem)

    def check_blank(self, line: int, num_blank: int, num_records: int) -> None:
        """Refuse a file of blank lines: reading them takes time and gives nothing."""
        if num_blank > _BLANK_LINES and num_blank > self.options.max_growth * num_records:
            problem = f"line {line}: {num_blank:,} blank lines so far and {num_records:,} records"
            raise self.fault(f"{problem}: a bomb, or no table; take the blank lines out, or raise `max_growth`")

    def too_long(self, place: str, what: str, hint: str = "") -> DataError:
        """The error for a record over the limit."""
        problem = f"the {what} that begins here is longer than {self.max_record_bytes:,} bytes, the limit of a record"
        return self.fault(f"{place}: {problem}; split it, or raise `max_record_bytes`{hint}")

    def has_nul(self, line: int) -> DataError:
        """The error for text with a NUL."""
        return self.fault(f"line {line}: a NUL byte, which no text holds; the file is UTF-16 (give its `encoding`), not text, or damaged")

    def encoding_of(self, file: IO[bytes]) -> str:
        """The encoding by the byte order mark, where there is one.

        Raises:
            DataError: the mark is not that of the `encoding` that was given.
        """
        head = file.peek(4) if isinstance(file, io.BufferedReader) else b""
        for mark, encoding, fitting in _MARKS:
            if head.startswith(mark):
                if self.encoding not in (DEFAULT_ENCODING, *fitting):
                    raise self.fault(
                        f"begins with the byte order mark of {encoding.removesuffix('-sig')}; leave `encoding: {self.encoding}` out"
                    )
                if encoding != DEFAULT_ENCODING and self.encoding == DEFAULT_ENCODING:
                    self.note(f"read as {encoding}, by its byte order mark")
                return encoding
        return self.encoding

    def undecodable(self, error: UnicodeDecodeError, first_line: int) -> DataError:
        """The error for a byte that is not of the encoding; `first_line` is that of the bytes that were to be decoded."""
        line = first_line + error.object[: error.start].decode(error.encoding, "replace").count("\n")
        is_utf8 = self.encoding == DEFAULT_ENCODING
        advice = "is not UTF-8; save the file as UTF-8 or give its" if is_utf8 else f"is not {self.encoding}; give the file's own"
        return self.fault(f"line {line}: byte {error.object[error.start]:#04x} {advice} `encoding`")

    def lines(self, newline: str = "\n", source: AbstractContextManager[IO[bytes]] | None = None) -> Iterator[str]:
        """The lines of the text, each with its end.

        Args:
            newline: what ends a line, as for `open`: an empty string allows for the carriage return of old Macs.
            source: the bytes, where they are not those of `path`.
        Raises:
            DataError: with its line: a byte that is not of the encoding, a NUL, or a line over the limit.
        """
        number, limit = 0, self.max_record_bytes + 1
        with source or self.open() as file:
            text = io.TextIOWrapper(file, self.encoding_of(file), newline=newline)
            try:
                for number, line in enumerate(iter(partial(text.readline, limit + 1), ""), start=1):
                    if "\0" in line or len(line) > limit:
                        raise self.has_nul(number) if "\0" in line else self.too_long(f"line {number}", "line")
                    yield line
            except UnicodeDecodeError as error:
                raise self.undecodable(error, number + 1) from None
            except UnicodeError as error:
                raise self.fault(f"line {number + 1} or after: not {self.encoding} ({error}); give the file's own `encoding`") from None
            finally:
                text.detach()  # who opened the file closes it

    def whole(self, source: AbstractContextManager[IO[bytes]] | None = None) -> str:
        """All of the text as one record. Arguments and errors as `lines`."""
        lines, size = [], 0
        for line in self.lines(source=source):
            lines.append(line)
            size += len(line)
            if size > self.max_record_bytes:
                raise self.too_long("line 1", "document")
        return "".join(lines)

    def require(self, present: Sequence[str], suffix: str = "") -> None:
        """Refuse a file that lacks a column or has it twice."""
        for column in self.columns:
            if column not in present:
                nearest = difflib.get_close_matches(column, present, n=1)
                hint = f"did you mean {nearest[0]!r}? " if nearest else ""
                more = f", and {len(present) - _SHOWN_COLUMNS} more" if len(present) > _SHOWN_COLUMNS else ""
                shown = [name if len(name) <= _SHOWN_CHARS else f"{name[:_SHOWN_CHARS]}..." for name in present[:_SHOWN_COLUMNS]]
                raise self.fault(f"no column {column!r}; {hint}present: {', '.join(shown)}{more}{suffix}")
            if present.count(column) > 1:
                raise self.fault(f"column {column!r} stands there twice{suffix}; rename one")


class Collector:
    """Gathers records until a batch is full."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._start()

    def _start(self) -> None:
        self._columns: dict[str, list[Any]] = {column: [] for column in self._reading.columns}
        self._cells = list(self._columns.values())
        self._numbers: list[int] = []
        self._bytes = 0

    def add(self, number: int, cells: Sequence[Any], size: int) -> bool:
        """Take one record; True when the batch is full."""
        for cell_list, value in zip(self._cells, cells, strict=True):
            cell_list.append(value)
        self._numbers.append(number)
        self._bytes += size
        return self._bytes >= self._reading.max_bytes or len(self._numbers) >= self._reading.max_rows

    def extend(self, numbers: Sequence[int], columns: Sequence[list[Any]], size: int) -> bool:
        """Take several records; True when the batch is full."""
        for cell_list, values in zip(self._cells, columns, strict=True):
            cell_list += values
        self._numbers += numbers
        self._bytes += size
        return self._bytes >= self._reading.max_bytes or len(self._numbers) >= self._reading.max_rows

    def is_full_with(self, num_rows: int) -> bool:
        """Whether so many more rows would be too many."""
        return bool(self) and len(self._numbers) + num_rows > self._reading.max_rows

    def __bool__(self) -> bool:
        return bool(self._numbers)

    def take(self) -> Batch:
        """What was gathered; begins anew."""
        batch = Batch(self._columns, self._numbers)
        self._start()
        return batch


def in_batches(read: Callable[[Reading], Iterator[Record]]) -> Callable[[Reading], Iterator[Batch]]:
    """Make a reader of records one of batches."""

    @wraps(read)
    def read_batches(reading: Reading) -> Iterator[Batch]:
        collector = Collector(reading)
        for number, cells, size in read(reading):
            if collector.add(number, cells, size):
                yield collector.take()
        if collector:
            yield collector.take()

    return read_batches
