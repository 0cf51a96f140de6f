"""Read a table or a text file; whatever is wrong with it is one line that names the place."""

from __future__ import annotations

import csv
import difflib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from acclimate.errors import DataError

FORMATS = (".csv", ".tsv", ".jsonl", ".parquet", ".txt")
_SHOWN = 3
csv.field_size_limit(1 << 30)


def resolve(root: Path, name: str, *, where: str) -> list[Path]:
    """The files a name or glob under data/ stands for, sorted.

    Raises:
        DataError: it leaves data/, matches nothing, or its ending is not known.
    """
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise DataError(f"{where}: {name!r} leaves the data directory; give a path below {root}/")
    paths = sorted(path for path in root.glob(name) if path.is_file()) if any(c in name for c in "*?[") else [root / name]
    if not paths:
        raise DataError(f"{where}: no file matches {root / name}")
    for path in paths:
        if not path.is_file():
            raise DataError(f"{where}: {path}: no such file")
        if path.suffix.lower() not in FORMATS:
            raise DataError(f"{where}: {path}: ending {path.suffix!r} is not known; allowed: {', '.join(FORMATS)}")
    return paths


def row_prefixes(paths: Sequence[Path], root: Path) -> list[str]:
    """What row ids of each file begin with: its name without ending, or its path where two files share a name."""
    stems = [path.stem for path in paths]
    return [stem if stems.count(stem) == 1 else path.relative_to(root).as_posix() for stem, path in zip(stems, paths, strict=True)]


def read_rows(path: Path, columns: list[str], *, where: str) -> dict[str, list[Any]]:
    """Read the named columns of one file, each as a list.

    Raises:
        DataError: empty, not UTF-8, malformed at a line, or a column is missing.
    """
    if path.stat().st_size == 0:
        raise DataError(f"{where}: {path}: the file is empty")
    reader = {".csv": _read_csv, ".tsv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet, ".txt": _read_text}[
        path.suffix.lower()
    ]
    table = reader(path, columns, where)
    if not next(iter(table.values()), []):
        raise DataError(f"{where}: {path}: no rows")
    return table


def cell(table: dict[str, list[Any]], column: str | None, index: int) -> str:
    """An optional cell as a string; an empty one where there is none."""
    value = table[column][index] if column else None
    return "" if value is None else str(value).strip()


def _require(columns: list[str], present: list[str], path: Path, where: str) -> None:
    for column in columns:
        if column not in present:
            nearest = difflib.get_close_matches(column, present, n=1)
            hint = f"did you mean {nearest[0]!r}? " if nearest else ""
            raise DataError(f"{where}: {path}: no column {column!r}; {hint}present: {', '.join(present)}")
    repeated = {name for name in present if present.count(name) > 1}
    if repeated & set(columns):
        raise DataError(f"{where}: {path}: column {sorted(repeated & set(columns))[0]!r} stands there twice")


def _decode(path: Path, where: str) -> str:
    raw = path.read_bytes()
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise DataError(f"{where}: {path}: line {line}: byte {raw[error.start]:#04x} is not UTF-8; save the file as UTF-8") from None


def _read_csv(path: Path, columns: list[str], where: str) -> dict[str, list[Any]]:
    reader = csv.reader(
        io.StringIO(_decode(path, where), newline=""), delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True
    )
    try:
        header = [name.strip() for name in next(reader, [])]
        _require(columns, header, path, where)
        index = [header.index(column) for column in columns]
        table: dict[str, list[Any]] = {column: [] for column in columns}
        ragged = []
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                ragged.append(f"line {reader.line_num}: {len(row)} fields")
                continue
            for column, position in zip(columns, index, strict=True):
                table[column].append(row[position])
    except csv.Error as error:
        raise DataError(f"{where}: {path}: line {reader.line_num}: not valid CSV ({error}); quote it, or save it as JSONL") from None
    if ragged:
        shown = "; ".join(ragged[:_SHOWN]) + "; quote fields that hold the separator"
        raise DataError(f"{where}: {path}: {len(ragged)} rows do not have the header's {len(header)} fields: {shown}")
    return table


def _read_jsonl(path: Path, columns: list[str], where: str) -> dict[str, list[Any]]:
    table: dict[str, list[Any]] = {column: [] for column in columns}
    for number, line in enumerate(_decode(path, where).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{where}: {path}: line {number}: not valid JSON ({error.msg} at column {error.colno})") from None
        if not isinstance(row, dict):
            raise DataError(f"{where}: {path}: line {number}: expected an object, found {type(row).__name__}")
        try:
            _require(columns, list(row), path, where)
        except DataError as error:
            raise DataError(f"{error} (line {number})") from None
        for column in columns:
            table[column].append(row[column])
    return table


def _read_parquet(path: Path, columns: list[str], where: str) -> dict[str, list[Any]]:
    try:
        file = pq.ParquetFile(path)
        _require(columns, file.schema_arrow.names, path, where)
        table = file.read(columns=columns)
    except pa.ArrowException as error:
        raise DataError(f"{where}: {path}: not a whole Parquet file ({str(error).splitlines()[0]})") from None
    return {column: table[column].to_pylist() for column in columns}


def _read_text(path: Path, columns: list[str], where: str) -> dict[str, list[Any]]:
    """Documents set apart by blank lines, as the column `text`."""
    _require(columns, ["text"], path, where)
    documents = [part.strip() for part in _decode(path, where).replace("\r\n", "\n").split("\n\n")]
    return {"text": [document for document in documents if document]}
