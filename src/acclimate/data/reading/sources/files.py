"""Tables and text files below data/: CSV, TSV, JSON, JSONL, Parquet, Arrow and text, by name or glob."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from acclimate.data.reading.formats import TextBy
from acclimate.data.reading.options import ReadOptions
from acclimate.data.reading.readers import iter_batches, resolve
from acclimate.data.reading.sources import Part, SourceBatch, TableColumns, consecutive_runs
from acclimate.data.reading.streams import fault, split_endings

_MANY_LINES = 20
logger = logging.getLogger(__name__)


class Config(TableColumns, ReadOptions):
    """A file name or glob below data/, and what its columns are."""

    data: str
    text_by: TextBy = "blank_line"


def parts(config: Config, data: Path, *, where: str) -> list[Part]:
    """A part for each file, in the order of their paths; a Parquet file gives one for each 128 MiB of row groups.

    Raises:
        DataError: the path leaves data/, nothing matches, an ending is not known, or a Parquet file is not whole.
    """
    found = []
    for path in resolve(data, config.data, where=where):
        name = path.relative_to(data).as_posix()
        if split_endings(path)[0] == ".parquet":
            found += _parquet_parts(path, name)
        else:
            found.append(Part(name, name, (name,), size_bytes=path.stat().st_size))
    return found


def _parquet_parts(path: Path, name: str) -> list[Part]:
    try:
        metadata = pq.read_metadata(path)
        sizes = [metadata.row_group(index).total_byte_size for index in range(metadata.num_row_groups)]
    except (pa.ArrowException, OSError, UnicodeDecodeError):
        # The reader says what is wrong, in its own words, once it gets there.
        return [Part(name, name, (name,), size_bytes=path.stat().st_size)]
    if len(sizes) <= 1:
        return [Part(name, name, (name,), size_bytes=sum(sizes))]
    return [Part(f"{name}[{start}:{stop}]", name, (name,), start, stop, num_bytes) for start, stop, num_bytes in consecutive_runs(sizes)]


def read_part(config: Config, part: Part, data: Path, *, where: str) -> Iterator[SourceBatch]:
    """Batches of one part.

    Raises:
        DataError: see `readers.iter_batches`.
    """
    (path,) = resolve_part(part, data, where=where)
    batches = iter_batches(
        path,
        config.wanted(),
        where=where,
        options=config,
        text_by=config.text_by,
        row_groups=None if part.stop is None else (part.start, part.stop),
    )
    num_rows, text = 0, ""
    for batch in batches:
        num_rows += len(batch)
        text = str(batch.columns[config.text][0]) if num_rows == 1 else ""
        yield config.batch(part.name, batch)
    if config.text_by == "blank_line" and _is_line_by_line(path, text):
        logger.warning("%s: %s: one document of many lines; if each line is one, give `text_by: line`", where, path)


def line_by_line(config: Config, data: Path, *, where: str) -> list[str]:
    """Text files that give one document of many lines, and so may have wanted `text_by: line`."""
    found = []
    for part in parts(config, data, where=where) if config.text_by == "blank_line" else []:
        first = next(read_part(config, part, data, where=where))
        if len(first) == 1 and _is_line_by_line(data / part.files[0], str(first.texts[0])):
            found.append(part.name)
    return found


def _is_line_by_line(path: Path, text: str) -> bool:
    return split_endings(path)[0] == ".txt" and text.count("\n") >= _MANY_LINES


def resolve_part(part: Part, data: Path, *, where: str) -> list[Path]:
    """The files of a part; it may come from another process, or from a run before this one.

    Raises:
        DataError: one is gone.
    """
    paths = [data / name for name in part.files]
    for path in paths:
        if not path.is_file():
            raise fault(where, path, "the file was there when the parts were listed, and is gone")
    return paths
