"""Plain text: a document is what stands between blank lines, the whole file, or a line."""

from __future__ import annotations

from collections.abc import Iterator

from acclimate.data.formats import Batch, Collector, Reading
from acclimate.data.streams import decode_record, describe_long, numbered_lines, utf8_blocks


def read_text(reading: Reading) -> Iterator[Batch]:
    """Documents as the column `text`, trimmed; those without any text are left out."""
    reading.require(["text"])
    collector = Collector(reading)
    documents = {"blank_line": _paragraphs, "file": _whole, "line": _lines}[reading.text_by]
    for number, raw in documents(reading):
        text = decode_record(raw, number, reading.path, where=reading.where).replace("\r\n", "\n").strip()
        if text and collector.add(number, [text] * len(reading.columns), len(raw)):
            yield collector.take()
    if collector:
        yield collector.take()


def _lines(reading: Reading) -> Iterator[tuple[int, bytes]]:
    blocks = utf8_blocks(reading.path, encoding=reading.encoding, where=reading.where)
    for first, lines in numbered_lines(blocks, reading.path, where=reading.where, max_record_bytes=reading.max_record_bytes):
        yield from enumerate(lines, start=first)


def _paragraphs(reading: Reading) -> Iterator[tuple[int, bytes]]:
    first, pending, size = 0, list[bytes](), 0
    for number, line in _lines(reading):
        if line and line != b"\r":
            if not pending:
                if line.isspace():
                    continue
                first = number
            pending.append(line)
            size += len(line) + 1
            if size > reading.max_record_bytes + 1:
                raise reading.fault(describe_long(first, reading.max_record_bytes, "document"))
        elif pending:
            yield first, b"\n".join(pending)
            pending, size = [], 0
    if pending:
        yield first, b"\n".join(pending)


def _whole(reading: Reading) -> Iterator[tuple[int, bytes]]:
    pending, size = list[bytes](), 0
    for block in utf8_blocks(reading.path, encoding=reading.encoding, where=reading.where):
        pending.append(block)
        size += len(block)
        if size > reading.max_record_bytes:
            raise reading.fault(describe_long(1, reading.max_record_bytes, "document"))
    yield 1, b"".join(pending)
