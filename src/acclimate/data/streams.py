"""The bytes or the text of a file, block by block: decompressed as its ending says, decoded, every fault one line with its place."""

from __future__ import annotations

import bz2
import codecs
import gzip
import lzma
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

import pyarrow as pa

from acclimate.errors import DataError
from acclimate.errors import one_line as one_line

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bzip2", ".xz": "xz"}
DEFAULT_ENCODING = "utf-8-sig"
BLOCK_BYTES = 1 << 20
MAX_RECORD_BYTES = 16 << 20
_UTF8_BOM = codecs.BOM_UTF8


def fault(where: str, path: Path | str, problem: object) -> DataError:
    """The error that says where, which file and what; always one line."""
    return DataError(one_line(f"{where}: {path}: {problem}"))


def split_endings(path: Path) -> tuple[str, str]:
    """The format's ending and the compression's, in lower case: `a.JSONL.gz` gives `.jsonl` and `.gz`."""
    ending = path.suffix.lower()
    return (Path(path.stem).suffix.lower(), ending) if ending in COMPRESSIONS else (ending, "")


_NO_FILE_ENCODINGS = {"idna", "punycode", "raw-unicode-escape", "unicode-escape", "undefined"}
"""Python knows them as text encodings; no file is written in them."""


def check_encoding(name: str) -> str:
    """The encoding as Python knows it; UTF-8 always drops a byte order mark.

    Raises:
        ValueError: Python knows no text encoding of that name.
    """
    try:
        codecs.getincrementaldecoder(name)("strict").decode(b"", True)
        "".encode(name)
        found = codecs.lookup(name).name
        if found in _NO_FILE_ENCODINGS:
            raise LookupError(found)
    except (LookupError, TypeError, ValueError):
        raise ValueError(f"{name!r} is no text encoding that Python knows; such as utf-8, utf-16, latin-1, cp1252, shift_jis") from None
    return DEFAULT_ENCODING if found == "utf-8" else found


@contextmanager
def opened(path: Path, *, where: str, compression: str | None = None) -> Iterator[IO[bytes]]:
    """Open a file for reading bytes, decompressed as its ending says; faults of the medium become one line.

    Args:
        compression: one of `COMPRESSIONS`, where the file's own ending does not say so.
    Raises:
        DataError: no such file, no right to read it, not of its compression, or cut short.
    """
    kind = COMPRESSIONS.get(compression or path.suffix.lower(), "")
    try:
        with _open(path, kind) as file:
            yield file
    except EOFError:
        raise fault(where, path, f"the {kind} stream is cut short: its end mark is missing; fetch or write the file again") from None
    except (zlib.error, lzma.LZMAError) as error:
        raise fault(where, path, f"not a whole {kind} stream ({error}); fetch or write the file again") from None
    except (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError) as error:
        raise fault(where, path, f"cannot be read ({error.strerror})") from None
    except OSError as error:
        if kind and error.errno is None:  # gzip, bz2 and pyarrow report a broken stream so; a failing disk has a number
            raise fault(where, path, f"not a whole {kind} stream ({error}); fetch or write the file again") from None
        raise


def _open(path: Path, kind: str) -> IO[bytes]:
    if kind == "gzip":
        return cast(IO[bytes], gzip.open(path, "rb"))
    if kind == "bzip2":
        return cast(IO[bytes], bz2.open(path, "rb"))
    if kind == "xz":
        return cast(IO[bytes], lzma.open(path, "rb"))
    # pyarrow's zstd tells a stream that is cut short and reads several frames in a row.
    return cast(IO[bytes], pa.CompressedInputStream(pa.OSFile(str(path)), "zstd")) if kind == "zstd" else path.open("rb")


def byte_blocks(path: Path, *, where: str) -> Iterator[bytes]:
    """The decompressed bytes of a file in blocks of about 1 MiB.

    Raises:
        DataError: see `opened`.
    """
    with opened(path, where=where) as file:
        while block := file.read(BLOCK_BYTES):
            yield block


def utf8_blocks(path: Path, *, encoding: str, where: str) -> Iterator[bytes]:
    """The text of a file as UTF-8 bytes without a byte order mark; UTF-8 itself is passed on unchecked.

    Raises:
        DataError: see `opened` and `text_blocks`.
    """
    if encoding != DEFAULT_ENCODING:
        for text in text_blocks(path, encoding=encoding, where=where):
            yield text.encode("utf-8", "surrogatepass")  # half of a pair, which UTF-7 can smuggle in, is refused by who reads it
        return
    blocks = byte_blocks(path, where=where)
    head = b""
    for block in blocks:  # a stream may give its first three bytes in more than one block
        head += block
        if len(head) >= len(_UTF8_BOM):
            break
    yield head.removeprefix(_UTF8_BOM)
    yield from blocks


def text_blocks(path: Path, *, encoding: str, where: str) -> Iterator[str]:
    """The text of a file in blocks.

    Raises:
        DataError: see `opened` and `decoded_blocks`.
    """
    return decoded_blocks(byte_blocks(path, where=where), path, encoding=encoding, where=where)


def decoded_blocks(blocks: Iterable[bytes], path: Path | str, *, encoding: str, where: str) -> Iterator[str]:
    """Bytes as text, block by block.

    Args:
        path: what errors name as the file.
    Raises:
        DataError: a byte that is not of the encoding, or NUL, each with its line.
    """
    line = 1
    for text in _decoded(blocks, path, encoding, where):
        if "\0" in text:
            nul_line = line + text.count("\n", 0, text.index("\0"))
            raise fault(where, path, describe_nul(nul_line))
        line += text.count("\n")
        if text:
            yield text


def _decoded(blocks: Iterable[bytes], path: Path | str, encoding: str, where: str) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder(encoding)("strict")
    line, bytes_read = 1, 0

    def decode(block: bytes, final: bool) -> str:
        try:
            return decoder.decode(block, final)
        except UnicodeDecodeError as error:
            good = error.object[: error.start].decode(error.encoding, "replace")
            # The decoder may hold bytes back from the block before, and drops a byte order mark.
            offset = bytes_read - (len(error.object) - len(block)) + error.start
            problem = describe_byte(error.object[error.start], line + good.count("\n"), f"byte {offset + 1:,} of the file", encoding)
            raise fault(where, path, problem) from None
        except UnicodeError as error:
            raise fault(where, path, f"line {line} or after: not {encoding} ({error}); give the file's own `encoding`") from None

    for block in blocks:
        text = decode(block, False)
        yield text
        line += text.count("\n")
        bytes_read += len(block)
    yield decode(b"", True)


def describe_byte(byte: int, line: int, place: str, encoding: str = DEFAULT_ENCODING) -> str:
    """Say which byte does not belong to the encoding, and what to do."""
    if encoding == DEFAULT_ENCODING:
        return f"line {line}: byte {byte:#04x} is not UTF-8 ({place}); save the file as UTF-8 or give its `encoding`"
    return f"line {line}: byte {byte:#04x} is not {encoding} ({place}); give the file's own `encoding`"


def describe_nul(line: int) -> str:
    """Say that text holds a NUL, and what it mostly means."""
    return f"line {line}: a NUL byte, which no text holds; the file is UTF-16 (give its `encoding`), not text, or damaged"


def describe_long(line: int, max_record_bytes: int, what: str = "line") -> str:
    """Say which record is over the limit."""
    return (
        f"line {line}: the {what} that begins here is longer than {max_record_bytes:,} bytes, the limit of a record; "
        "split it, or raise `max_record_bytes`"
    )


def numbered_lines(blocks: Iterator[bytes], path: Path, *, where: str, max_record_bytes: int) -> Iterator[tuple[int, list[bytes]]]:
    """Lines without their line feed, several at a time, each list with the number of its first line.

    Raises:
        DataError: a line longer than the limit; at most the limit and two blocks are held.
    """
    number = 1
    pending: list[bytes] = []  # joined once a line ends, so that a long line costs no copy a block
    pending_bytes = 0
    for block in blocks:
        head, feed, rest = block.partition(b"\n")
        pending.append(head)
        pending_bytes += len(head)
        if pending_bytes > max_record_bytes:
            raise fault(where, path, describe_long(number, max_record_bytes))
        if not feed:
            continue
        lines = rest.split(b"\n")
        last = lines.pop()
        lines.insert(0, b"".join(pending))
        _refuse_long(lines, number, path, where, max_record_bytes)
        yield number, lines
        number += len(lines)
        pending, pending_bytes = [last], len(last)
    if pending_bytes > max_record_bytes:
        raise fault(where, path, describe_long(number, max_record_bytes))
    if pending_bytes:
        yield number, [b"".join(pending)]


def _refuse_long(lines: list[bytes], first: int, path: Path, where: str, max_record_bytes: int) -> None:
    if max(map(len, lines)) > max_record_bytes:
        number = next(number for number, line in enumerate(lines, start=first) if len(line) > max_record_bytes)
        raise fault(where, path, describe_long(number, max_record_bytes))


def decode_record(raw: bytes, first_line: int, path: Path, *, where: str) -> str:
    """UTF-8 bytes of one record as text.

    Raises:
        DataError: not UTF-8, or a NUL, with the line.
    """
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = first_line + raw.count(b"\n", 0, error.start)
        column = error.start - raw.rfind(b"\n", 0, error.start)
        raise fault(where, path, describe_byte(raw[error.start], line, f"byte {column:,} of the line")) from None
    if "\0" in text:
        raise fault(where, path, describe_nul(first_line + text.count("\n", 0, text.index("\0"))))
    return text
