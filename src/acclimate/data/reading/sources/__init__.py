"""Sources of raw material, one module per kind: `files`, `documents`, `huggingface`.

A kind holds `class Config(Options)`, `parts(config, data, *, where)` that lists its units of work in a stable order, and
`read_part(config, part, data, *, where)` that reads one of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from acclimate.data.reading.formats import Batch
from acclimate.data.reading.options import Encoding as Encoding
from acclimate.data.reading.options import RecordBytes as RecordBytes
from acclimate.settings import Options

KINDS = ("files", "documents", "huggingface")
_PART_BYTES = 128 << 20


@dataclass(frozen=True)
class Part:
    """One unit of work: small, comparable, made of JSON values, so that a worker can be sent it and a resumed run knows it again.

    Attributes:
        key: unique among a source's parts; names it in logs and scratch files. The bytes of local files are not looked at.
        name: of the file, directory or data set, for provenance.
        files: paths below data/ that it reads.
        start: first row, row group or document; from 0.
        stop: past the last one; None for all.
        size_bytes: about how much is to be read; 0 where that is not known.
    """

    key: str
    name: str
    files: tuple[str, ...] = ()
    start: int = 0
    stop: int | None = None
    size_bytes: int = 0


def consecutive_runs(sizes: Iterable[int], *, max_items: int | None = None) -> Iterator[tuple[int, int, int]]:
    """Neighbours taken together up to about 128 MiB, as opening a file costs time, or `max_items`: first, past the last, and bytes."""
    start, stop, num_bytes = 0, 0, 0
    for stop, size in enumerate(sizes, start=1):
        num_bytes += size
        if num_bytes >= _PART_BYTES or stop - start == max_items:
            yield start, stop, num_bytes
            start, num_bytes = stop, 0
    if start < stop:
        yield start, stop, num_bytes


@dataclass(frozen=True)
class SourceBatch:
    """Some records of a source, in its order.

    Attributes:
        name: the file or table they stand in.
        numbers: line, row or place of each in it, from 1.
        texts: as read, not cleaned; None where the cell holds nothing.
        ids: None where the source names no column of ids.
        groups: None where the source names no column of groups.
        problems: why a text could not be read, such as that of a scan; empty where it could. The row leaves by the rule `unreadable`.
    """

    name: str
    numbers: list[int]
    texts: list[Any]
    ids: list[Any] | None = None
    groups: list[Any] | None = None
    problems: list[str] | None = None

    def __len__(self) -> int:
        return len(self.numbers)


class TableColumns(Options):
    """Which columns of a table are taken for what."""

    text: str = "text"
    id: str | None = None
    group: str | None = Field(default=None, description="documents of one group never part between train and held-out")

    def wanted(self) -> list[str]:
        """Names in the table, each once."""
        return list(dict.fromkeys(name for name in (self.text, self.id, self.group) if name))

    def batch(self, name: str, found: Batch) -> SourceBatch:
        """A reader's batch with its columns in their places."""
        cells = found.columns
        return SourceBatch(
            name=name,
            numbers=found.numbers,
            texts=cells[self.text],
            ids=cells[self.id] if self.id else None,
            groups=cells[self.group] if self.group else None,
        )
