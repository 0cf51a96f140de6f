"""A directory that `save_to_disk` of `datasets` wrote: one data set, or one for each split."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import orjson
import pyarrow as pa

from acclimate.data.reading.formats import Reading
from acclimate.data.reading.layouts import Layout, Record, require_split_column, rows_of
from acclimate.data.reading.readers import below, refuse_link_outside
from acclimate.data.reading.streams import fault

_SPLITS, _STATE = "dataset_dict.json", "state.json"


class SavedDataset(Layout):
    """Its columns are the data set's, classes by their names; `split` is the split's name where the directory holds several."""

    endings: ClassVar[tuple[str, ...]] = ()

    def files(self, root: Path, name: str, *, where: str) -> list[Path]:
        """The directory itself.

        Raises:
            DataError: there is none, it leaves `root`, also by a link, or holds no such data set.
        """
        directory = below(root, name, where=where)
        for path in (directory, *sorted(directory.rglob("*"))):
            refuse_link_outside(root, path, where=where)
        if not any((directory / file).is_file() for file in (_SPLITS, _STATE)):
            raise fault(where, directory, f"no data set that save_to_disk wrote: neither {_SPLITS} nor {_STATE} lies in it")
        return [directory]

    def records(self, reading: Reading) -> Iterator[Record]:
        """Rows in the order of the splits and of their files, numbered through."""
        splits: dict[str | None, Path] = {None: reading.path}
        if (reading.path / _SPLITS).is_file():
            names = _json(reading, reading.path / _SPLITS, "splits", list)
            splits = {str(name): _inside(reading, reading.path, name) for name in names}
            require_split_column(reading, [str(name) for name in names])
        number = 0
        for split, directory in splits.items():
            own = {} if split is None else {"split": split}
            for file in _json(reading, directory / _STATE, "_data_files", list):
                path = _inside(reading, directory, file.get("filename") if isinstance(file, dict) else file)
                for cells in _rows(replace(reading, path=path), own):
                    number += 1
                    yield number, cells


def _rows(reading: Reading, own: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Rows of one file; a split without rows has a file without any, or an empty one."""
    columns = [column for column in reading.columns if column not in own]
    try:
        with pa.memory_map(str(reading.path)) as source, pa.ipc.open_stream(source) as stream:
            is_empty = all(batch.num_rows == 0 for batch in stream)
    except (pa.ArrowException, OSError):
        is_empty = False  # the reader says what is wrong
    if not is_empty:
        yield from ({**cells, **own} for _, cells in rows_of(reading, columns))


def _inside(reading: Reading, directory: Path, name: Any) -> Path:
    """A file or directory that the data set names, which lies in it."""
    if not isinstance(name, str) or name in ("", ".", "..") or PurePosixPath(name).name != name:
        raise reading.fault(f"names {name!r}, which is no plain name below it; write it again by save_to_disk")
    return directory / name


def _json(reading: Reading, path: Path, key: str, kind: type) -> Any:
    try:
        value = orjson.loads(path.read_bytes())[key]
    except (OSError, ValueError, LookupError, TypeError):
        value = None
    if not isinstance(value, kind):
        raise fault(reading.where, path, f"holds no {kind.__name__} {key!r}; write the data set again by save_to_disk")
    return value


COMPONENT: type[Layout] = SavedDataset
