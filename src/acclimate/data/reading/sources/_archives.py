"""Files inside a zip or tar archive, read one after the other and never unpacked to disk."""

from __future__ import annotations

import fnmatch
import lzma
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PureWindowsPath
from typing import IO, Any

from acclimate.data.reading.streams import MAX_GROWTH, Unpacked, counted, fault, opened

ENDINGS = (".zip", ".tar", ".tgz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst")
_BROKEN = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
    *(EOFError, OSError, LookupError, RuntimeError, ValueError),
)
_SHOWN = 10
_SYSTEM_FILES = {".ds_store", "thumbs.db", "desktop.ini"}

Listed = Iterator[tuple[str, bool, int, Callable[[], IO[bytes] | None]]]
"""Of each member that is no directory: its name, whether it is a plain file, its size, and what opens it."""


def is_system_file(name: str) -> bool:
    """Whether macOS or Windows put a file there by itself, such as `__MACOSX/._a.txt`; nobody means it as data."""
    parts = PureWindowsPath(name).parts
    return "__MACOSX" in parts or parts[-1:] == () or parts[-1].startswith("._") or parts[-1].lower() in _SYSTEM_FILES


def members(path: Path, pattern: str, *, where: str, max_member_bytes: int) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the members that match a pattern, in the archive's order; files of the system are left out.

    Args:
        pattern: as for directories; `**/` matches any number of directories, and none.
    Raises:
        DataError: broken or cut short; a member over the limit, that is no plain file, or whose name leads outside; an archive that
            unpacks to more than 200 times its size.
    """
    matches, refuse = pattern_regex(pattern).fullmatch, partial(fault, where, path)
    unpacked = Unpacked(path, where, advice="unpack it and name the directory")
    with _whole(path, where):
        for name, is_plain, size, open_member in _listed(path, where, unpacked):
            if not matches(name):
                continue
            _require_plain(name, is_plain, refuse)
            if size > max_member_bytes:
                problem = f"the member {name!r} is longer than {max_member_bytes:,} bytes, the limit of a record"
                raise refuse(f"{problem}; split it, or raise `max_record_bytes`")
            with open_member() as stream:  # type: ignore[union-attr]  # a plain file has one
                content = stream.read(max_member_bytes + 1)
            if len(content) != size:
                raise EOFError("it ends too early")
            yield name, content


def find_member(path: Path, wanted: str | None, endings: tuple[str, ...], *, where: str, max_growth: int = MAX_GROWTH) -> str:
    """The name of the member that is read as a table: the wanted one, or the only one of a known ending.

    Raises:
        DataError: the archive is not whole, or it holds no such member, or several.
    """
    with _whole(path, where):
        names = [name for name, *_ in _listed(path, where, Unpacked(path, where, max_growth=max_growth))]
    tables = [name for name in names if name.lower().endswith(endings) and (wanted is None or name == wanted)]
    if len(tables) == 1:
        return tables[0]
    shown = ", ".join(map(repr, (tables or names)[:_SHOWN])) + (" ..." if len(tables or names) > _SHOWN else "")
    if tables and wanted is None:
        raise fault(where, path, f"holds {len(tables)} tables: {shown}; name one of them by `member`")
    found = f"no member {wanted!r} that is a table" if wanted else "no table"
    raise fault(where, path, f"holds {found}; allowed: {', '.join(endings)}; present: {shown or 'nothing'}")


@contextmanager
def opened_member(path: Path, member: str, *, where: str, max_growth: int) -> Iterator[IO[bytes]]:
    """One member as a stream of bytes.

    Raises:
        DataError: it is broken, no plain file, or unpacks to too much.
    """
    refuse = partial(fault, where, path)
    with _whole(path, where):
        for name, is_plain, _size, open_member in _listed(path, where, Unpacked(path, where, max_growth=max_growth)):
            if name == member:
                _require_plain(name, is_plain, refuse)
                with open_member() as stream:  # type: ignore[union-attr]  # a plain file has one
                    yield counted(stream, Unpacked(path, where, max_growth=max_growth))
                return
    raise refuse(f"the member {member!r} was there when the archive was listed, and is gone")


@contextmanager
def _whole(path: Path, where: str) -> Iterator[None]:
    try:
        yield
    except _BROKEN as error:
        raise fault(where, path, f"not a whole archive ({error}); fetch or write it again") from None


def _require_plain(name: str, is_plain: bool, refuse: Callable[[str], Exception]) -> None:
    if not is_plain:
        problem = "a link, a device, encrypted, or packed by another method than deflate"
        raise refuse(f"the member {name!r} is {problem}; allowed are plain files")


def pattern_regex(pattern: str) -> re.Pattern[str]:
    """A pattern such as `**/*.txt` or `letters/*` for whole paths: `*` and `?` stay inside one directory, `**/` is any number of them."""
    known = {"**/": "(?:[^/]+/)*", "?": "[^/]"}
    pieces = re.findall(r"\*\*/|\*+|\?|\[!?\]?[^]/]*\]|.", pattern, re.DOTALL)
    regexes = [known.get(piece) or ("[^/]*" if piece[0] == "*" else fnmatch.translate(piece)[4:-3]) for piece in pieces]
    return re.compile("".join(regexes), re.DOTALL)


def _listed(path: Path, where: str, unpacked: Unpacked) -> Listed:
    """The members that somebody put there.

    Raises:
        DataError: a name leads outside, or the archive unpacks to too much.
    """
    for name, is_plain, size, open_member in (_zip_members if path.suffix.lower() == ".zip" else _tar_members)(path, where, unpacked):
        inside = PureWindowsPath(name)  # knows both kinds of slashes, and drives
        if inside.anchor or ".." in inside.parts:  # nothing is unpacked here, but such an archive is hostile
            raise fault(where, path, f"the member {name!r} leaves the archive's directory; allowed are plain names below it")
        if not is_system_file(name):
            yield name, is_plain, size, open_member


def _zip_members(path: Path, _where: str, unpacked: Unpacked) -> Listed:
    with zipfile.ZipFile(path) as file:
        for info in file.infolist():
            unpacked.add(info.file_size)
            is_link, is_encrypted = (info.external_attr >> 28) == 0o12, info.flag_bits & 1
            is_bounded = info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # zipfile unpacks others without a bound
            if not info.is_dir():
                yield info.filename, is_bounded and not is_link and not is_encrypted, info.file_size, partial(file.open, info)


class _Counted:
    """What tarfile reads its stream through, headers and all."""

    def __init__(self, stream: IO[bytes], unpacked: Unpacked) -> None:
        self._stream, self._unpacked = stream, unpacked

    def read(self, size: int) -> bytes:
        content = self._stream.read(size)
        self._unpacked.add(len(content))
        return content


def _tar_members(path: Path, where: str, unpacked: Unpacked) -> Listed:
    compression = {".tgz": ".gz", ".tbz2": ".bz2", ".txz": ".xz"}.get(path.suffix.lower())
    with opened(path, where=where, compression=compression) as stream:
        counted_stream: Any = _Counted(stream, unpacked)
        with tarfile.open(fileobj=counted_stream, mode="r|", errorlevel=2) as file:
            for info in file:
                if not info.isdir():
                    yield info.name, info.isreg(), info.size, partial(file.extractfile, info)
