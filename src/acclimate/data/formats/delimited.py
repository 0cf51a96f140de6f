"""CSV (RFC 4180, https://www.rfc-editor.org/rfc/rfc4180) and TSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from acclimate.data.formats import Batch, Collector, Reading
from acclimate.data.streams import describe_long, split_endings, text_blocks

_SHOWN = 3
csv.field_size_limit(1 << 30)  # a record's size is bounded here, with its line named


class _CsvLines:
    """Feeds csv.reader line by line, so that a record's first line and its size are known, and the latter bounded."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self.line = 0
        self.begin_record()

    def begin_record(self) -> None:
        self.first_line, self.record_chars = self.line + 1, 0

    def __iter__(self) -> Iterator[str]:
        pending: list[str] = []  # joined once a line ends, so that a long line costs no copy a block
        for text in text_blocks(self._reading.path, encoding=self._reading.encoding, where=self._reading.where):
            pending.append(text)
            if "\n" in text or "\r" in text:
                # Ends of lines stay as they are, as the csv module wants them; the last line may go on in the next block,
                # be it by the feed of a \r\n.
                lines = list(io.StringIO("".join(pending), newline=""))
                pending = [lines.pop()]
                for line in lines:
                    yield self._count(line)
            self._refuse_long(sum(map(len, pending)))
        if pending and pending != [""]:
            yield self._count("".join(pending))

    def _count(self, line: str) -> str:
        self.line += 1
        self.record_chars += len(line)
        self._refuse_long(0)
        return line

    def _refuse_long(self, more_chars: int) -> None:
        if self.record_chars + more_chars > self._reading.max_record_bytes:
            problem = describe_long(self.first_line, self._reading.max_record_bytes, "record")
            raise self._reading.fault(problem + "; a quote that is never closed looks so")


def read_csv(reading: Reading) -> Iterator[Batch]:
    """Every cell a string. A row with more or fewer fields than the header stops all batches; the rest is only counted."""
    lines = _CsvLines(reading)
    reader = csv.reader(iter(lines), delimiter="\t" if split_endings(reading.path)[0] == ".tsv" else ",", strict=True)
    ragged = _Ragged()
    try:
        header = [name.strip() for name in next(reader, [])]
        reading.require(header)
        index = [header.index(column) for column in reading.columns]
        collector = Collector(reading)
        lines.begin_record()
        for row in reader:
            if row and len(row) != len(header):
                ragged.add(lines.first_line, len(row))
            elif row and not ragged.num_rows and collector.add(lines.first_line, [row[i] for i in index], lines.record_chars):
                yield collector.take()
            lines.begin_record()
    except csv.Error as error:
        raise reading.fault(f"line {lines.first_line}: not valid CSV ({error}); quote it, or save it as JSONL") from None
    if ragged.num_rows:
        raise reading.fault(ragged.describe(len(header)))
    if collector:
        yield collector.take()


class _Ragged:
    """Rows with a wrong number of fields: all counted, the first shown."""

    def __init__(self) -> None:
        self.num_rows = 0
        self._shown: list[str] = []

    def add(self, line: int, num_fields: int) -> None:
        self.num_rows += 1
        if len(self._shown) < _SHOWN:
            self._shown.append(f"line {line}: {num_fields} fields")

    def describe(self, num_columns: int) -> str:
        shown = "; ".join(self._shown) + "; quote fields that hold the separator"
        return f"{self.num_rows} rows do not have the header's {num_columns} fields: {shown}"
