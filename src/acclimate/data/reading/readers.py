"""Find the files of a table or a text and read them batch by batch; whatever is wrong is one line that names the place."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from acclimate.data.reading.formats import MAX_BATCH_BYTES, MAX_BATCH_ROWS, Batch, Reading, TextBy
from acclimate.data.reading.options import ReadOptions
from acclimate.data.reading.sources._archives import ENDINGS as ARCHIVES
from acclimate.data.reading.sources._archives import find_member, is_system_file, opened_member
from acclimate.data.reading.streams import COMPRESSIONS, Unpacked, fault, one_line, split_endings
from acclimate.errors import DataError
from acclimate.redaction import redact

__all__ = ["FORMATS", "Batch", "find_files", "iter_batches", "join_batches", "read_rows", "resolve", "row_prefixes"]

TEXT_FORMATS = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".txt")
FORMATS = (".csv", ".tsv", ".jsonl", ".parquet", ".txt", ".json", ".ndjson", ".arrow", ".feather", ".xlsx", ".xlsm")
_OTHER_ARCHIVES = (".7z", ".rar")
_OF_LAYOUTS = (".conll", ".conllu", ".conllup", ".iob", ".iob2", ".bio", ".bioes")
_OFFICE = (".xls", ".xlsb", ".ods", ".numbers")
_ROW_BYTES = 64
"""What a cell takes beside its characters, at least."""
_SIGNATURES = {
    b"\x1f\x8b": "gzip data; call it so, such as .jsonl.gz",
    b"\x28\xb5\x2f\xfd": "zstd data; call it so, such as .jsonl.zst",
    b"BZh": "bzip2 data; call it so, such as .jsonl.bz2",
    b"\xfd7zXZ\0": "xz data; call it so, such as .jsonl.xz",
    b"PK\x03\x04": "a zip or a spreadsheet; call it .zip or .xlsx",
    b"\xd0\xcf\x11\xe0": "an old spreadsheet (.xls); save it as .xlsx or .csv",
    b"PAR1": "Parquet; call it .parquet",
    b"ARROW1": "Arrow data; call it .arrow",
    b"%PDF-": "a PDF, which only the source `documents` reads",
}
"""How files begin that are no text."""
_DVC_OBJECT = re.compile(r"/files/md5/[0-9a-f]{2}/[0-9a-f]{30}$")


def resolve(root: Path, name: str, *, where: str) -> list[Path]:
    """The files a name or glob under data/ stands for, sorted.

    Raises:
        DataError: it leaves data/, matches nothing, or its ending is not known.
    """
    paths = find_files(root, name, where=where)
    for path in paths:
        check_ending(path, where=where)
    return paths


def find_files(root: Path, name: str, *, where: str) -> list[Path]:
    """The files a name or glob under data/ stands for, of any ending, sorted.

    Raises:
        DataError: it leaves data/, also through a link, or matches nothing.
    """
    if "://" in name:
        raise DataError(one_line(f"{where}: {name!r} is a URL; bring the file below {root}/ by `dvc import-url` (docs/data.md)"))
    place = below(root, name, where=where)
    try:
        paths = (
            sorted(path for path in root.glob(name) if path.is_file() and not is_system_file(path.name))
            if any(c in name for c in "*?[")
            else [place]
        )
        is_file = [path.is_file() for path in paths]
    except (ValueError, NotImplementedError, re.error) as error:
        raise DataError(one_line(f"{where}: {name!r} is no file name or pattern ({error}); give a path below {root}/")) from None
    if not paths:
        raise DataError(one_line(f"{where}: no file matches {root / name}"))
    for path, is_there in zip(paths, is_file, strict=True):
        if not is_there:
            raise fault(where, path, "no such file" if not path.is_dir() else "a directory, where a file is wanted; such as " + f"{name}/*")
        refuse_link_outside(root, path, where=where)
    return paths


def below(root: Path, name: str, *, where: str) -> Path:
    """The path of a name under data/; one that leads out is refused."""
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise DataError(one_line(f"{where}: {name!r} leaves the data directory; give a path below {root}/"))
    return root / name


def refuse_link_outside(root: Path, path: Path, *, where: str) -> None:
    """Refuse a link that leads out of data/, but for DVC's own: it may link files to its cache (`cache.type symlink`)."""
    target = path.resolve()
    if not target.is_relative_to(root.resolve()) and not _DVC_OBJECT.search(target.as_posix()):
        raise fault(where, path, f"leaves the data directory: it is, or lies below, a link to {target}; put the file itself below {root}/")


def check_ending(path: Path, *, where: str) -> None:
    """Refuse a file whose format is not known.

    Raises:
        DataError: with the endings that are.
    """
    ending, compression = split_endings(path)
    if path.name.lower().endswith(ARCHIVES):
        return
    if ending in _OTHER_ARCHIVES:
        raise fault(where, path, f"an archive ({ending}{compression}) that is not read; unpack it, or write a .zip")
    if ending in _OFFICE:
        raise fault(where, path, f"a spreadsheet ({ending}) that is not read; save it as .xlsx or .csv")
    if ending in _OF_LAYOUTS:
        raise fault(where, path, f"{ending} is no table; give the `layout` that reads it, such as `layout: conll` (docs/data.md)")
    if ending not in FORMATS:
        shown = repr((Path(path.stem).suffix if compression else "") + path.suffix)
        also = ", ".join(COMPRESSIONS)
        raise fault(where, path, f"ending {shown} is not known; allowed: {', '.join(FORMATS)}; but for tables, also followed by {also}")
    if compression and ending not in TEXT_FORMATS:
        raise fault(where, path, f"{ending} is compressed inside and cannot be read through {compression}; unpack it")


def row_prefixes(paths: Sequence[Path], root: Path) -> list[str]:
    """What row ids of each file begin with: its name without ending, or its path where two files share a name."""
    stems = [Path(path.stem).stem if split_endings(path)[1] else path.stem for path in paths]
    count = Counter(stems)
    return [redact(stem if count[stem] == 1 else path.relative_to(root).as_posix()) for stem, path in zip(stems, paths, strict=True)]


def read_rows(path: Path, columns: list[str], *, where: str, options: ReadOptions | None = None, head_rows: int | None = None) -> Batch:
    """Read the named columns of one file, each as a list; all of it is held, or about `head_rows` rows.

    Raises:
        DataError: empty, not of its encoding, malformed at a line, or a column is missing.
    """
    max_rows = head_rows or MAX_BATCH_ROWS
    return join_batches(iter_batches(path, columns, where=where, options=options, max_rows=max_rows, head_rows=head_rows), columns)


def join_batches(batches: Iterable[Batch], columns: Sequence[str]) -> Batch:
    """Several batches as one."""
    table = Batch({column: [] for column in columns}, [])
    for batch in batches:
        for column, cells in batch.columns.items():
            table.columns[column] += cells
        table.numbers.extend(batch.numbers)
    return table


def iter_batches(
    path: Path,
    columns: list[str],
    *,
    where: str,
    options: ReadOptions | None = None,
    text_by: TextBy = "blank_line",
    max_rows: int = MAX_BATCH_ROWS,
    max_bytes: int = MAX_BATCH_BYTES,
    row_groups: tuple[int, int] | None = None,
    head_rows: int | None = None,
) -> Iterator[Batch]:
    """Read the named columns of one file in batches of about `max_bytes`, in its order.

    Held at a time: one batch, one record that may be as long as `options.max_record_bytes`, and what the format itself needs
    (Parquet: a page of each column; Arrow: one record batch where its buffers are compressed).

    Args:
        options: what the file does not say of itself, such as its encoding.
        text_by: what one document of a text file is: lines up to a blank one, all of it, or each line.
        row_groups: of Parquet, only these (first, past the last).
        head_rows: stop after about so many, and check what was read as at the end of the file.
    Raises:
        DataError: on the way: empty, cut short, not of its encoding, malformed at a line, or a column is missing.
    """
    check_ending(path, where=where)
    reading = Reading(
        path, list(dict.fromkeys(columns)), where, options or ReadOptions(), text_by, max_rows, max_bytes, row_groups, head_rows=head_rows
    )
    return _checked(reading)


def _checked(reading: Reading) -> Iterator[Batch]:
    try:
        is_empty = reading.path.stat().st_size == 0
    except OSError as error:
        raise reading.fault(f"cannot be read ({error.strerror})") from None
    if is_empty:
        raise reading.fault("the file is empty")
    _refuse_other_content(reading)
    reading = _inside(reading)
    unpacked = Unpacked(reading.path, reading.where, max_growth=reading.options.max_growth)
    is_packed = reading.member or reading.path.suffix.lower() not in TEXT_FORMATS
    num_rows = 0
    for batch in _format_reader(reading.ending)(reading):
        num_rows += len(batch)
        if is_packed:
            unpacked.add(_ROW_BYTES * len(batch) * len(batch.columns))
        yield batch
        if reading.head_rows and num_rows >= reading.head_rows:
            break
    if not num_rows and reading.row_groups is None:
        raise reading.fault("no rows")


def _refuse_other_content(reading: Reading) -> None:
    """Name what a file is that is called a text and begins as something else."""
    ending, compression = split_endings(reading.path)
    if ending not in TEXT_FORMATS or compression or reading.path.name.lower().endswith(ARCHIVES):
        return
    with reading.path.open("rb") as file:
        begins = file.read(8)
    for sign, what in _SIGNATURES.items():
        if begins.startswith(sign):
            raise reading.fault(f"it is called {ending}, but holds {what}")


def _inside(reading: Reading) -> Reading:
    """The member of an archive that is to be read, in place of the archive."""
    if not reading.path.name.lower().endswith(ARCHIVES):
        if reading.options.member:
            raise reading.fault("`member` names a file in an archive, and this is none; leave it out")
        return reading
    limits: dict[str, Any] = {"where": reading.where, "max_growth": reading.options.max_growth}
    member = find_member(reading.path, reading.options.member, TEXT_FORMATS, **limits)
    inside = replace(reading, member=member, opener=partial(opened_member, reading.path, member, **limits))
    if not reading.options.member:
        inside.note("read as its only table")
    return inside


def _format_reader(ending: str) -> Callable[[Reading], Iterator[Batch]]:
    from acclimate.data.reading.formats import columnar, delimited, json, spreadsheet, text

    return {
        ".csv": delimited.read_delimited,
        ".tsv": delimited.read_delimited,
        ".xlsx": spreadsheet.read_xlsx,
        ".xlsm": spreadsheet.read_xlsx,
        ".json": json.read_json,
        ".jsonl": json.read_jsonl,
        ".ndjson": json.read_jsonl,
        ".txt": text.read_text,
        ".parquet": columnar.read_parquet,
        ".arrow": columnar.read_ipc,
        ".feather": columnar.read_ipc,
    }[ending]
