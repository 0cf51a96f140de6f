"""Layouts, one file each: how an annotation tool writes a table, read into the columns of a kind of task.

`layouts/conll.py` is the layout called `conll`: a `Layout` whose fields are its options. The file is the whole registration.
A task names it by `layout: conll` or `layout: {conll: {tag: 2}}`.

A layout gives the columns `text` and `label`, and every other field of the record under the name that the tool gave it, for `id`, `group`
and `split`. Spans of characters stand in `label` as the tool spells them; the kind of task turns them into words and tags.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from acclimate.data.leakage.splits import SPLIT_NAMES
from acclimate.data.reading.formats import WHOLE, Batch, Reading, in_batches
from acclimate.data.reading.formats import Record as Cells
from acclimate.data.reading.readers import find_files, iter_batches
from acclimate.data.reading.streams import COMPRESSIONS, fault, split_endings
from acclimate.settings import Options

FAMILY = "data.reading.layouts"
Record = tuple[int, dict[str, Any]]
"""Its number, as `Batch.numbers`, and its columns."""


class Layout(Options):
    """How the file of an annotation tool is read. Its fields are its options."""

    endings: ClassVar[tuple[str, ...]]
    """Of the files that it reads, in lower case; a compression may follow."""
    hints: ClassVar[Mapping[str, str]] = {}
    """What to do with a file of another ending."""

    def files(self, root: Path, name: str, *, where: str) -> list[Path]:
        """The files that a name or glob under `root` stands for, sorted. A layout of directories has its own.

        Raises:
            DataError: it leaves `root`, matches nothing, or its ending is another.
        """
        paths = find_files(root, name, where=where)
        for path in paths:
            ending = split_endings(path)[0]
            if ending not in self.endings:
                hint = f"{self.hints[ending]}; " if ending in self.hints else ""
                raise fault(where, path, f"{hint}this layout reads {', '.join(self.endings)}, each also before {', '.join(COMPRESSIONS)}")
        return paths

    @abstractmethod
    def records(self, reading: Reading) -> Iterator[Record]:
        """The records of one file, in its order.

        What is found out about the file, and what is left out of it, is logged.

        Args:
            reading: `columns` are those that the task reads, first those of its kind.
        Raises:
            DataError: by `reading.fault`, with the record's number.
        """


def read_layout(layout: Layout, reading: Reading) -> Iterator[Batch]:
    """The columns of a file that a layout reads, in batches.

    Raises:
        DataError: on the way: whatever the layout refuses, no record, or a column is missing.
    """
    has_rows = False
    for batch in _batches(layout)(reading):
        has_rows = True
        yield batch
    if not has_rows:
        raise reading.fault("no rows")


def _batches(layout: Layout) -> Any:
    @in_batches
    def read(reading: Reading) -> Iterator[Cells]:
        for number, record in layout.records(reading):
            if not record.keys() >= set(reading.columns):
                reading.require(list(record), suffix=f" (record {number})")
            yield number, [record[column] for column in reading.columns], 0

    return read


def whole_records(reading: Reading) -> Iterator[tuple[int, Any]]:
    """Number and JSON value of each record of a JSON or JSON Lines file."""
    for batch in iter_batches(reading.path, [WHOLE], where=reading.where, options=reading.options, max_rows=reading.max_rows):
        yield from zip(batch.numbers, batch.columns[WHOLE], strict=True)


def rows_of(reading: Reading, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number and cells of each row of a table of any format."""
    for batch in iter_batches(reading.path, list(columns), where=reading.where, options=reading.options, max_rows=reading.max_rows):
        for index, number in enumerate(batch.numbers):
            yield number, {column: cells[index] for column, cells in batch.columns.items()}


def require_split_column(reading: Reading, splits: Sequence[str]) -> None:
    """Refuse a task that would mix the splits of a directory.

    Raises:
        DataError: says how they are named.
    """
    if "split" not in reading.columns:
        files = ", ".join(f"{SPLIT_NAMES.get(name.lower(), name)}: {reading.path.name}/{name}" for name in splits)
        raise reading.fault(f"holds the splits {', '.join(splits)}; write `split: split` below the task, or `data: {{{files}}}`")


def chosen_field(record: Mapping[str, Any], names: Sequence[str], wanted: str | None, reading: Reading, number: int) -> str:
    """The field that is wanted, or the only one of `names` that is filled, or else one that is empty.

    Raises:
        DataError: there is none, or there are several.
    """
    allowed = [wanted] if wanted else names
    present = [name for name in allowed if name in record]
    filled = [name for name in present if record[name] not in (None, "", [], {})]
    if not present:
        raise reading.fault(f"record {number}: no {' or '.join(map(repr, allowed))}; present: {', '.join(map(str, record))}")
    if len(filled) > 1:
        both = " and ".join(map(repr, filled))
        raise reading.fault(f"record {number}: {both} are filled; choose one by the option `label` of the layout")
    return (filled or present)[0]
