"""Directories that appear whole or not at all, JSON and CSV, and digests that agree with DVC's."""

from __future__ import annotations

import csv
import glob
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from acclimate.errors import DataError

MANIFEST = "manifest.json"
_BLOCK_BYTES = 1 << 20
_TOKEN_CHARS = 8


@contextmanager
def publish(*outs: Path) -> Iterator[list[Path]]:
    """Give a temporary sibling for each out; rename all of them at the end, drop them on any exception.

    A name that holds a suffix (`report.html`) is a file that the caller writes; any other is a directory that is made.
    """
    temporaries = [partial(out) for out in outs]
    for out, temporary in zip(outs, temporaries, strict=True):
        (temporary.parent if out.suffix else temporary).mkdir(parents=True, exist_ok=True)
    try:
        yield temporaries
    except BaseException:
        for temporary in temporaries:
            remove(temporary)
        raise
    for out, temporary in zip(outs, temporaries, strict=True):
        _put_in_place(temporary, out)


def _put_in_place(temporary: Path, out: Path) -> None:
    """Rename, after moving aside what was there: a kill while it is deleted, file by file, would leave half under the out's name."""
    before = out.with_name(f".{out.name}.before.partial")
    remove(before)
    if out.exists() or out.is_symlink():
        os.replace(out, before)
    os.replace(temporary, out)
    remove(before)


def partial(path: Path) -> Path:
    """A hidden name beside a path, for what is not whole yet; no two processes get the same, also where two have the same number."""
    return path.with_name(f".{path.name}.{secrets.token_hex(_TOKEN_CHARS // 2)}.partial")


def remove_partials(path: Path) -> None:
    """Delete what killed processes left half-written. Only the owner of the path's lock may call this."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.{'?' * _TOKEN_CHARS}.partial"):
        remove(left)


def remove(path: Path) -> None:
    """Delete a file or a directory, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text by rename: the file is whole at all times."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = partial(path)
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def write_json(path: Path, value: Any) -> None:
    """Write JSON by rename: sorted keys, floats as they are, a final newline. NaN is refused."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write CSV with a header, lines ended by a feed alone; a value that a row lacks stays empty."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        DataError: missing or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; has the stage that makes it run?") from None
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: line {error.lineno}: not valid JSON ({error.msg})") from None


def file_md5(path: Path) -> str:
    """MD5 of a file's bytes, as DVC records it."""
    return _file_digest(path, hashlib.md5(usedforsecurity=False))


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    return _file_digest(path, hashlib.sha256())


def copy_hashed(source: Path, target: Path) -> str:
    """Copy a file; gives the SHA-256 of the bytes copied. A file that is hashed and then read again may have changed in between."""
    digest = hashlib.sha256()
    with source.open("rb") as reading, target.open("wb") as writing:
        while block := reading.read(_BLOCK_BYTES):
            digest.update(block)
            writing.write(block)
    return digest.hexdigest()


def _file_digest(path: Path, digest: hashlib._Hash) -> str:
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def dvc_md5(path: Path) -> str:
    """The md5 that DVC 3 writes to dvc.lock for a file or a directory. A contract test compares it with dvc.lock."""
    return digest_of(files_md5(path))


def files_md5(path: Path) -> dict[str, str]:
    """The md5 of each file of a directory by its relative path, byte code left out, as .dvcignore says; of a file its own, as `""`.

    Raises:
        DataError: there is neither.
    """
    if path.is_file():
        return {"": file_md5(path)}
    if not path.is_dir():
        raise DataError(f"{path}: no such file or directory")
    return {
        file.relative_to(path).as_posix(): file_md5(file)
        for file in path.rglob("*")
        if file.is_file() and file.suffix != ".pyc" and "__pycache__" not in file.parts
    }


def digest_of(files: Mapping[str, str]) -> str:
    """DVC's md5 of a file or a directory from what `files_md5` gives.

    A directory's is the md5 of the JSON list of its files' md5 and relative path, followed by `.dir`.
    """
    if "" in files:
        return files[""]
    entries = [{"md5": files[name], "relpath": name} for name in sorted(files)]
    return hashlib.md5(json.dumps(entries, sort_keys=True).encode(), usedforsecurity=False).hexdigest() + ".dir"


def write_manifest(directory: Path, *, stage: str, params: dict[str, Any], inputs: dict[str, str]) -> None:
    """Say what a directory was made from and what is in it. Holds nothing that differs between two equal runs."""
    files = {
        file.relative_to(directory).as_posix(): {"bytes": file.stat().st_size, "sha256": file_sha256(file)}
        for file in sorted(directory.rglob("*"))
        if file.is_file() and file.name != MANIFEST
    }
    write_json(directory / MANIFEST, {"stage": stage, "params": params, "inputs_md5": inputs, "files": files})
