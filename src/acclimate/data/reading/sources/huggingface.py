"""Hugging Face data sets: from the hub at a pinned revision, streamed, or a directory that `save_to_disk` wrote.

Reads data only: the library no longer runs a data set's own code, and the option for it is never passed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from acclimate.data.reading.formats import MAX_BATCH_BYTES, Batch
from acclimate.data.reading.readers import below, refuse_link_outside
from acclimate.data.reading.sources import Part, SourceBatch, TableColumns
from acclimate.data.reading.streams import fault, first_line

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset, IterableDataset

_PART_ROWS = 100_000
_BATCH_ROWS = 1000
_HUB_VARIABLES = "HF_TOKEN"


class Config(TableColumns):
    """Which data set, at which revision, and what its columns are."""

    source: Literal["hub", "directory"] = "hub"
    name: str = Field(description="hub id such as `nyu-mll/glue`, or a directory below data/ that `save_to_disk` wrote, by `source`")
    subset: str | None = Field(default=None, description="hub only: the configuration, such as `rte`")
    split: str | None = Field(default="train", description="null: a directory that holds one data set and no splits")
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")] | None = Field(default=None, description="hub only: the full commit")

    @model_validator(mode="after")
    def _pinned(self) -> Config:
        if self.source == "hub" and not self.revision:
            raise ValueError("source `hub` needs `revision`: the full 40-digit commit, so that the run can be made again")
        if self.source == "hub" and not self.split:
            raise ValueError("source `hub` needs `split`, such as train")
        if self.source == "directory" and (self.revision or self.subset):
            raise ValueError("`revision` and `subset` belong to source `hub`, not to `directory`")
        return self


def parts(config: Config, data: Path, *, where: str) -> list[Part]:
    """Ranges of 100,000 rows of a directory; of the hub's data set, its shards.

    Raises:
        DataError: no such data set, split or column, or the hub does not answer.
    """
    name = _full_name(config)
    if config.source == "directory":
        num_rows = _from_disk(config, data, where).num_rows
        starts = range(0, num_rows, _PART_ROWS)
        return [Part(f"{name}[{i}:{min(i + _PART_ROWS, num_rows)}]", name, (), i, min(i + _PART_ROWS, num_rows)) for i in starts]
    num_shards = _from_hub(config, where).num_shards
    return [Part(f"{name}@{config.revision}[{index}]", f"{name}[{index}]", (), index, index + 1) for index in range(num_shards)]


def _full_name(config: Config) -> str:
    return "/".join(part for part in (config.name, config.subset, config.split) if part)


def _from_disk(config: Config, data: Path, where: str) -> Dataset:
    """Memory-mapped; nothing is copied."""
    import pyarrow as pa
    from datasets import DatasetDict, load_from_disk

    directory = below(data, config.name, where=where)
    refuse_link_outside(data, directory, where=where)
    for path in sorted(directory.rglob("*")):
        refuse_link_outside(data, path, where=where)
    try:
        found = load_from_disk(str(directory))
    except FileNotFoundError as error:
        raise fault(where, directory, f"no data set that save_to_disk wrote ({first_line(error)})") from None
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise fault(where, directory, f"not a whole data set ({first_line(error)}); write it again") from None
    if isinstance(found, DatasetDict):
        if config.split not in found:
            raise fault(where, directory, f"no split {config.split!r}; present: {', '.join(found)}")
        found = found[config.split]
    elif config.split not in (None, "train"):
        raise fault(where, directory, f"no split {config.split!r}: the directory holds one data set without splits; leave `split` out")
    _require(config, list(found.column_names), where, str(directory))
    return found


def _from_hub(config: Config, where: str) -> IterableDataset:
    from datasets import load_dataset

    place = f"{config.name} at {config.revision}"
    try:
        found = load_dataset(config.name, config.subset, split=config.split, revision=config.revision, streaming=True)
    except (OSError, ValueError, RuntimeError) as error:  # the hub's own errors are OSErrors, the library's ValueErrors
        if os.environ.get("HF_HUB_OFFLINE") in ("1", "true", "TRUE", "yes", "on"):
            raise fault(where, place, "cannot be had while HF_HUB_OFFLINE is set; unset it, or give a directory") from None
        hint = f"is the name right, the network there, and {_HUB_VARIABLES} set if the data set is not public?"
        raise fault(where, place, f"cannot be had from the hub ({first_line(error)}); {hint}") from None
    if found.column_names is not None:  # known for typed formats only
        _require(config, list(found.column_names), where, place)
    return found


def _require(config: Config, present: list[str], where: str, place: str) -> None:
    missing = [column for column in config.wanted() if column not in present]
    if missing:
        raise fault(where, place, f"no column {missing[0]!r}; present: {', '.join(present)}")


def read_part(config: Config, part: Part, data: Path, *, where: str) -> Iterator[SourceBatch]:
    """Batches of one part; numbers are rows, of the data set for a directory, of the shard for the hub.

    Raises:
        DataError: see `parts`; or a row lacks a column.
    """
    if config.source == "directory":
        dataset = _from_disk(config, data, where)
        stop = dataset.num_rows if part.stop is None else min(part.stop, dataset.num_rows)
        columns, number = config.wanted(), part.start + 1
        arrow = dataset.select_columns(columns).select(range(part.start, stop)).with_format("arrow")
        found: Iterator[Any] = (table.to_pydict() for piece in arrow.iter(_BATCH_ROWS) for table in _small(piece))
    else:
        number = 1
        stream = _from_hub(config, where)
        shard = stream.shard(num_shards=stream.num_shards, index=part.start)
        found = shard.iter(_BATCH_ROWS)
    yield from _batches(config, part, found, number, where)


def _small(table: pa.Table) -> Iterator[pa.Table]:
    """Slices of about a batch's bytes: a thousand rows of a megabyte each must not be held twice."""
    rows = max(1, table.num_rows * MAX_BATCH_BYTES // max(1, table.nbytes))
    return (table.slice(start, rows) for start in range(0, table.num_rows, rows))


def _batches(config: Config, part: Part, found: Iterator[Any], number: int, where: str) -> Iterator[SourceBatch]:
    try:
        for cells in found:
            _require(config, list(cells), where, part.name)
            columns = {column: list(cells[column]) for column in config.wanted()}
            num_rows = len(columns[config.text])
            yield config.batch(part.name, Batch(columns, list(range(number, number + num_rows))))
            number += num_rows
    except (OSError, ValueError, RuntimeError) as error:
        raise fault(where, part.name, f"row {number} or after cannot be read ({first_line(error)})") from None
