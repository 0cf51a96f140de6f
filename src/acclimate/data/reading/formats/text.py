"""Plain text: a document is what stands between blank lines, the whole file, or a line."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from acclimate.data.reading.formats import Reading, Record, in_batches

_CHECKED_LINES = 4096


@in_batches
def read_text(reading: Reading) -> Iterator[Record]:
    """Documents as the column `text`, trimmed; those without any text are left out."""
    reading.require(["text"], suffix="; a table in a text file is read by its `separator`, and a tool's file by its `layout`")
    documents = {"blank_line": _paragraphs, "file": _whole, "line": _lines}[reading.text_by]
    num_documents = 0
    for number, document in documents(reading):
        text = document.replace("\r\n", "\n").strip()
        if text:
            num_documents += 1
            yield number, [text] * len(reading.columns), len(document)
        else:
            reading.check_blank(number, number - num_documents, num_documents)


def _lines(reading: Reading) -> Iterator[tuple[int, str]]:
    return enumerate(reading.lines(), start=1)


def _paragraphs(reading: Reading) -> Iterator[tuple[int, str]]:
    first, pending, size, num_blank, num_documents = 0, list[str](), 0, 0, 0
    for number, line in enumerate(chain(reading.lines(), ["\n"]), start=1):
        if line != "\n" and line != "\r\n":
            if not pending:
                if line.isspace():
                    num_blank += 1
                    continue
                first = number
            pending.append(line)
            size += len(line)
            if size > reading.max_record_bytes + 1:
                raise reading.too_long(f"line {first}", "document", ", or give `text_by: line`")
        elif pending:
            yield first, "".join(pending)
            pending, size = [], 0
            num_documents += 1
        else:
            num_blank += 1
            if num_blank % _CHECKED_LINES == 0:
                reading.check_blank(number, num_blank, num_documents)


def _whole(reading: Reading) -> Iterator[tuple[int, str]]:
    yield 1, reading.whole()
