"""Readers of file formats, one module each: a file in, batches of records out."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from acclimate.data.streams import DEFAULT_ENCODING, MAX_RECORD_BYTES, fault
from acclimate.errors import DataError

MAX_BATCH_ROWS = 4096
MAX_BATCH_BYTES = 16 << 20
_SHOWN_COLUMNS = 20

TextBy = Literal["blank_line", "file", "line"]


@dataclass(frozen=True)
class Batch:
    """Some records of one file, in its order.

    Attributes:
        columns: a list of cells for each column that was asked for.
        numbers: where each record begins: its first line (CSV, TSV, JSON, JSONL, text) or its row (Parquet, Arrow), from 1.
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
    encoding: str = DEFAULT_ENCODING
    text_by: TextBy = "blank_line"
    max_rows: int = MAX_BATCH_ROWS
    max_bytes: int = MAX_BATCH_BYTES
    max_record_bytes: int = MAX_RECORD_BYTES
    row_groups: tuple[int, int] | None = None

    def fault(self, problem: object) -> DataError:
        """The error that names this file."""
        return fault(self.where, self.path, problem)

    def require(self, present: Sequence[str], suffix: str = "") -> None:
        """Refuse a file that lacks a column or has it twice."""
        for column in self.columns:
            if column not in present:
                nearest = difflib.get_close_matches(column, present, n=1)
                hint = f"did you mean {nearest[0]!r}? " if nearest else ""
                more = f", and {len(present) - _SHOWN_COLUMNS} more" if len(present) > _SHOWN_COLUMNS else ""
                raise self.fault(f"no column {column!r}; {hint}present: {', '.join(present[:_SHOWN_COLUMNS])}{more}{suffix}")
            if present.count(column) > 1:
                raise self.fault(f"column {column!r} stands there twice{suffix}")


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
