"""Documents inside a zip or tar archive, read one after the other and never unpacked to disk."""

from __future__ import annotations

import fnmatch
import lzma
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PureWindowsPath
from typing import IO, Any

from acclimate.data.reading.streams import fault, opened

ENDINGS = (".zip", ".tar", ".tgz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst")
MAX_RATIO = 200
"""Text seldom shrinks to a twentieth, and a bomb to less than a thousandth; an archive that grows more than this is refused."""
_FREE_BYTES = 64 << 20
"""An archive that unpacks to less than this is no bomb, whatever its ratio."""
_BROKEN = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, OSError, RuntimeError, ValueError)

Listed = Iterator[tuple[str, bool, int, Callable[[], IO[bytes] | None]]]
"""Of each member that is no directory: its name, whether it is a plain file, its size, and what opens it."""


def members(path: Path, pattern: str, *, where: str, max_member_bytes: int) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the members that match a pattern, in the archive's order.

    Args:
        pattern: as for directories; `**/` matches any number of directories, and none.
    Raises:
        DataError: broken or cut short; a member over the limit, that is no plain file, or whose name leads outside; an archive that
            unpacks to more than 200 times its size.
    """
    matches, refuse = pattern_regex(pattern).fullmatch, partial(fault, where, path)
    try:
        for name, is_plain, size, open_member in (_zip_members if path.suffix.lower() == ".zip" else _tar_members)(path, where):
            inside = PureWindowsPath(name)  # knows both kinds of slashes, and drives
            if inside.anchor or ".." in inside.parts:  # nothing is unpacked here, but such an archive is hostile
                raise refuse(f"the member {name!r} leaves the archive's directory; allowed are plain names below it")
            if not matches(name):
                continue
            if not is_plain:
                raise refuse(
                    f"the member {name!r} is a link, a device, encrypted, or packed by another method than deflate; allowed are plain files"
                )
            if size > max_member_bytes:
                problem = f"the member {name!r} is longer than {max_member_bytes:,} bytes, the limit of a record"
                raise refuse(f"{problem}; split it, or raise `max_record_bytes`")
            with open_member() as stream:  # type: ignore[union-attr]  # a plain file has one
                content = stream.read(max_member_bytes + 1)
            if len(content) != size:
                raise EOFError("it ends too early")
            yield name, content
    except _BROKEN as error:
        raise refuse(f"not a whole archive ({error}); fetch or write it again") from None


def pattern_regex(pattern: str) -> re.Pattern[str]:
    """A pattern such as `**/*.txt` or `letters/*` for whole paths: `*` and `?` stay inside one directory, `**/` is any number of them."""
    known = {"**/": "(?:[^/]+/)*", "?": "[^/]"}
    pieces = re.findall(r"\*\*/|\*+|\?|\[!?\]?[^]/]*\]|.", pattern, re.DOTALL)
    regexes = [known.get(piece) or ("[^/]*" if piece[0] == "*" else fnmatch.translate(piece)[4:-3]) for piece in pieces]
    return re.compile("".join(regexes), re.DOTALL)


class _Unpacked:
    """Counts the bytes that an archive unpacks to, and refuses a bomb; tarfile reads its stream through it, headers and all."""

    def __init__(self, path: Path, where: str, stream: IO[bytes] | None = None) -> None:
        self._path, self._where, self._stream, self._num_bytes = path, where, stream, 0
        self._allowed_bytes = max(_FREE_BYTES, MAX_RATIO * path.stat().st_size)

    def add(self, num_bytes: int) -> None:
        self._num_bytes += num_bytes
        if self._num_bytes > self._allowed_bytes:
            problem = f"unpacks to more than {self._allowed_bytes:,} bytes, {MAX_RATIO} times its size: a decompression bomb, or no text"
            raise fault(self._where, self._path, problem + "; unpack it and name the directory")

    def read(self, size: int) -> bytes:
        assert self._stream is not None
        content = self._stream.read(size)
        self.add(len(content))
        return content


def _zip_members(path: Path, where: str) -> Listed:
    unpacked = _Unpacked(path, where)
    with zipfile.ZipFile(path) as file:
        for info in file.infolist():
            unpacked.add(info.file_size)
            is_link, is_encrypted = (info.external_attr >> 28) == 0o12, info.flag_bits & 1
            is_bounded = info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # zipfile unpacks others without a bound
            if not info.is_dir():
                yield info.filename, is_bounded and not is_link and not is_encrypted, info.file_size, partial(file.open, info)


def _tar_members(path: Path, where: str) -> Listed:
    compression = {".tgz": ".gz", ".tbz2": ".bz2", ".txz": ".xz"}.get(path.suffix.lower())
    with opened(path, where=where, compression=compression) as stream:
        counted: Any = _Unpacked(path, where, stream)
        with tarfile.open(fileobj=counted, mode="r|", errorlevel=2) as file:
            for info in file:
                if not info.isdir():
                    yield info.name, info.isreg(), info.size, partial(file.extractfile, info)
