"""Documents inside a zip or tar archive, read one after the other and never unpacked to disk."""

from __future__ import annotations

import fnmatch
import lzma
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, cast

from acclimate.data.streams import fault, opened, split_endings

ENDINGS = (".zip", ".tar", ".tgz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst")
MAX_RATIO = 200
"""Text seldom shrinks to a twentieth, and a bomb to less than a thousandth; an archive that grows more than this is refused."""
_FREE_BYTES = 64 << 20
"""An archive that unpacks to less than this is no bomb, whatever its ratio."""
_SHORT = {".tgz": ".gz", ".tbz2": ".bz2", ".txz": ".xz"}


@dataclass(frozen=True)
class Member:
    """One document of an archive: its name there, its place among the documents from 1, and its bytes."""

    name: str
    number: int
    content: bytes


def is_archive(path: Path) -> bool:
    """By its ending."""
    ending, compression = split_endings(path)
    return ending + compression in ENDINGS or ending in _SHORT


def members(path: Path, pattern: str, *, where: str, max_member_bytes: int) -> Iterator[Member]:
    """The members that match a pattern, in the archive's order.

    Args:
        pattern: as for directories; `**/` matches any number of directories, and none.
    Raises:
        DataError: broken, cut short, encrypted; a member that is a link or whose name leads outside; a member over the limit, or
            an archive that unpacks to more than 200 times its size.
    """
    found = _zip_members if path.suffix.lower() == ".zip" else _tar_members
    yield from found(_Archive(path, pattern, where, max_member_bytes))


class _Archive:
    """What holds for members of every kind of archive."""

    def __init__(self, path: Path, pattern: str, where: str, max_member_bytes: int) -> None:
        self.path, self.where, self._max_member_bytes = path, where, max_member_bytes
        self._pattern, self._number, self._total_bytes = pattern_regex(pattern), 0, 0
        self._allowed_bytes = max(_FREE_BYTES, MAX_RATIO * path.stat().st_size)

    def wants(self, name: str) -> bool:
        """Whether the member is to be read."""
        return self._pattern.fullmatch(name) is not None

    def check_name(self, name: str) -> None:
        """Refuse a name that would leave the directory it is unpacked in, though nothing is unpacked here: such an archive is hostile."""
        if ".." in PurePosixPath(name).parts or ".." in PureWindowsPath(name).parts or name.startswith("/") or PureWindowsPath(name).anchor:
            raise fault(self.where, self.path, f"the member {name!r} leaves the archive's directory; allowed are plain names below it")

    def check_size(self, name: str, num_bytes: int) -> None:
        """Refuse a member over the limit."""
        if num_bytes > self._max_member_bytes:
            problem = f"the member {name!r} is longer than {self._max_member_bytes:,} bytes, the limit of a record"
            raise fault(self.where, self.path, problem + "; split it, or raise `max_record_bytes`")

    def count(self, num_bytes: int) -> None:
        """Refuse a bomb: count what was unpacked."""
        self._total_bytes += num_bytes
        if self._total_bytes > self._allowed_bytes:
            problem = f"unpacks to more than {self._allowed_bytes:,} bytes, {MAX_RATIO} times its size: a decompression bomb, or no text"
            raise fault(self.where, self.path, problem + "; unpack it and name the directory")

    def member(self, name: str, content: bytes) -> Member:
        """The member, counted."""
        self.check_size(name, len(content))
        self._number += 1
        return Member(name, self._number, content)

    @property
    def read_limit(self) -> int:
        """One byte more than a member may have, so that sizes that lie are found out."""
        return self._max_member_bytes + 1


def pattern_regex(pattern: str) -> re.Pattern[str]:
    """A pattern such as `**/*.txt` or `letters/*` for whole paths: `*` and `?` stay inside one directory, `**/` is any number of them."""
    pieces = []
    for piece in re.findall(r"\*\*/|\*+|\?|\[!?\]?[^]/]*\]|.", pattern, re.DOTALL):
        if piece == "**/":
            pieces.append("(?:[^/]+/)*")
        elif piece.startswith("*"):
            pieces.append("[^/]*")
        elif piece == "?":
            pieces.append("[^/]")
        elif len(piece) > 1:
            pieces.append(fnmatch.translate(piece).removeprefix("(?s:").removesuffix(r")\Z"))
        else:
            pieces.append(re.escape(piece))
    return re.compile("".join(pieces), re.DOTALL)


def _zip_members(archive: _Archive) -> Iterator[Member]:
    try:
        with zipfile.ZipFile(archive.path) as file:
            for info in file.infolist():
                archive.check_name(info.filename)
                if info.is_dir() or not archive.wants(info.filename):
                    continue
                if (info.external_attr >> 28) == 0o12:
                    raise fault(archive.where, archive.path, f"the member {info.filename!r} is a link; allowed are plain files")
                if info.flag_bits & 1:
                    raise fault(archive.where, archive.path, f"the member {info.filename!r} is encrypted; unpack it and name the directory")
                archive.check_size(info.filename, info.file_size)
                with file.open(info) as stream:
                    content = stream.read(archive.read_limit)
                archive.count(len(content))
                yield archive.member(info.filename, content)
    except EOFError:
        raise fault(archive.where, archive.path, "the zip archive is cut short; fetch or write it again") from None
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, RuntimeError, ValueError, OSError) as error:
        raise fault(archive.where, archive.path, f"not a whole zip archive ({error}); fetch or write it again") from None


def _tar_members(archive: _Archive) -> Iterator[Member]:
    try:
        with _opened_tar(archive) as file:
            for info in file:
                archive.check_name(info.name)
                if info.isdir() or not archive.wants(info.name):
                    continue
                if not info.isreg():
                    raise fault(archive.where, archive.path, f"the member {info.name!r} is a link or a device; allowed are plain files")
                archive.check_size(info.name, info.size)
                stream = file.extractfile(info)
                assert stream is not None  # a plain file has one
                content = stream.read(archive.read_limit)
                if len(content) < info.size:
                    raise tarfile.ReadError("unexpected end of data")
                yield archive.member(info.name, content)
    except (tarfile.TarError, ValueError, OverflowError) as error:
        raise fault(archive.where, archive.path, f"not a whole tar archive ({error}); fetch or write it again") from None


@contextmanager
def _opened_tar(archive: _Archive) -> Iterator[tarfile.TarFile]:
    compression = _SHORT.get(archive.path.suffix.lower())
    with (
        opened(archive.path, where=archive.where, compression=compression) as stream,
        tarfile.open(fileobj=cast(IO[bytes], _Counted(stream, archive)), mode="r|", errorlevel=2) as file,
    ):
        yield file


class _Counted:
    """What tarfile reads from; every byte of it, also of headers and of members passed over, counts against a bomb."""

    def __init__(self, stream: IO[bytes], archive: _Archive) -> None:
        self._stream, self._archive = stream, archive

    def read(self, size: int) -> bytes:
        content = self._stream.read(size)
        self._archive.count(len(content))
        return content
