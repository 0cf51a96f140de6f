"""The bytes of a file, decompressed as its ending says, and the names of encodings; every fault is one line with its place."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from acclimate.errors import DataError
from acclimate.errors import one_line as one_line

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bzip2", ".xz": "xz"}
DEFAULT_ENCODING = "utf-8-sig"
MAX_RECORD_BYTES = 16 << 20
MAX_GROWTH = 200
"""Text seldom shrinks to a twentieth, and a bomb to less than a thousandth; a file that grows more than this is refused."""
FREE_BYTES = 64 << 20
"""What unpacks to less than this is no bomb, however small the file."""
_BUFFER_BYTES = 64 << 10
_NO_FILE_ENCODINGS = {"idna", "punycode", "raw-unicode-escape", "undefined", "unicode-escape", "utf-7"}
"""Python knows them as text encodings; no file is written in them. UTF-7 also smuggles in half surrogate pairs."""


def fault(where: str, path: Path | str, problem: object) -> DataError:
    """The error that says where, which file and what; always one line."""
    return DataError(one_line(f"{where}: {path}: {problem}"))


def first_line(error: BaseException) -> str:
    """What an error says first, or its name where it says nothing."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def split_endings(path: Path) -> tuple[str, str]:
    """The format's ending and the compression's, in lower case: `a.JSONL.gz` gives `.jsonl` and `.gz`."""
    ending = path.suffix.lower()
    return (Path(path.stem).suffix.lower(), ending) if ending in COMPRESSIONS else (ending, "")


def check_encoding(name: str) -> str:
    """The encoding as Python knows it; UTF-8 always drops a byte order mark.

    Raises:
        ValueError: Python knows no text encoding of that name, or no file is written in it.
    """
    try:
        io.TextIOWrapper(io.BytesIO(), name).read()
        found = codecs.lookup(name).name
        if found in _NO_FILE_ENCODINGS:
            raise LookupError(found)
    except (LookupError, ValueError):
        raise ValueError(f"{name!r} is no text encoding that Python knows; such as utf-8, utf-16, latin-1, cp1252, shift_jis") from None
    return DEFAULT_ENCODING if found == "utf-8" else found


class Unpacked:
    """Counts the bytes that a file unpacks to, and refuses a decompression bomb."""

    def __init__(self, path: Path, where: str, *, max_growth: int = MAX_GROWTH, advice: str = "raise `max_growth`, or unpack it") -> None:
        self._path, self._where, self._growth, self._advice = path, where, max_growth, advice
        self._allowed_bytes = max(FREE_BYTES, max_growth * path.stat().st_size)
        self._num_bytes = 0

    def add(self, num_bytes: int) -> None:
        """Count some more.

        Raises:
            DataError: that was too much.
        """
        self._num_bytes += num_bytes
        if self._num_bytes > self._allowed_bytes:
            problem = f"unpacks to more than {self._allowed_bytes:,} bytes, {self._growth} times its size: a decompression bomb, or no text"
            raise fault(self._where, self._path, f"{problem}; {self._advice}")


class CountedStream(io.RawIOBase):
    """A stream whose bytes are counted as they are read."""

    def __init__(self, stream: IO[bytes], unpacked: Unpacked) -> None:
        self._stream, self._unpacked = stream, unpacked

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer, and give the number of bytes."""
        num_bytes: int = self._stream.readinto(buffer)  # type: ignore[attr-defined]
        self._unpacked.add(num_bytes)
        return num_bytes


def counted(stream: IO[bytes], unpacked: Unpacked) -> io.BufferedReader:
    """A stream that refuses a bomb on the way."""
    return io.BufferedReader(CountedStream(stream, unpacked), _BUFFER_BYTES)


@contextmanager
def opened(path: Path, *, where: str, compression: str | None = None, max_growth: int | None = None) -> Iterator[IO[bytes]]:
    """Open a file for reading bytes, decompressed as its ending says; faults of the medium become one line.

    Args:
        compression: one of `COMPRESSIONS`, where the file's own ending does not say so.
        max_growth: times its size that a compressed file may unpack to; None where the caller counts.
    Raises:
        DataError: it cannot be read, is not of its compression, is cut short, or unpacks to too much.
    """
    kind = COMPRESSIONS.get(compression or path.suffix.lower(), "")
    try:
        with _OPEN[kind](path) as file:
            yield counted(file, Unpacked(path, where, max_growth=max_growth)) if kind and max_growth else file
    except (EOFError, zlib.error, lzma.LZMAError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # a broken stream has no number
            raise fault(where, path, f"cannot be read ({error.strerror})") from None
        raise fault(where, path, f"not a whole {kind} stream ({error}); fetch or write the file again") from None


def _open_zstd(path: Path) -> io.BufferedReader:
    """Open by pyarrow: its stream reports a file that is cut short, and reads several frames in a row."""
    return io.BufferedReader(pa.CompressedInputStream(pa.OSFile(str(path)), "zstd"))


_OPEN: dict[str, Any] = {
    "": partial(open, mode="rb", buffering=_BUFFER_BYTES),
    "gzip": gzip.open,
    "bzip2": bz2.open,
    "xz": lzma.open,
    "zstd": _open_zstd,
}
