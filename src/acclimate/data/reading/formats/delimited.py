"""CSV (RFC 4180, https://www.rfc-editor.org/rfc/rfc4180) and TSV."""

from __future__ import annotations

import csv
from collections.abc import Iterator

from acclimate.data.reading.formats import Reading, Record, in_batches
from acclimate.data.reading.streams import split_endings

_SHOWN = 3
csv.field_size_limit(1 << 30)  # a record's size is bounded here, with its line named


@in_batches
def read_csv(reading: Reading) -> Iterator[Record]:
    """Every cell a string. A row with more or fewer fields than the header stops all batches; the rest is only counted."""
    first_line, record_chars = 1, 0

    def lines() -> Iterator[str]:
        nonlocal record_chars
        for line in reading.lines(newline=""):  # the csv module wants the ends of lines as they are
            record_chars += len(line)
            if record_chars > reading.max_record_bytes:
                raise reading.too_long(f"line {first_line}", "record", "; a quote that is never closed looks so")
            yield line

    reader = csv.reader(lines(), delimiter="\t" if split_endings(reading.path)[0] == ".tsv" else ",", strict=True)
    num_wrong, shown = 0, list[str]()
    try:
        header = [name.strip() for name in next(reader, [])]
        reading.require(header)
        index = [header.index(column) for column in reading.columns]
        first_line, record_chars = reader.line_num + 1, 0
        for row in reader:
            if row and len(row) != len(header):
                num_wrong += 1
                if num_wrong <= _SHOWN:
                    shown.append(f"line {first_line}: {len(row)} fields")
            elif row and not num_wrong:
                yield first_line, [row[i] for i in index], record_chars
            first_line, record_chars = reader.line_num + 1, 0
    except csv.Error as error:
        raise reading.fault(f"line {first_line}: not valid CSV ({error}); quote it, or save it as JSONL") from None
    if num_wrong:
        problem = f"{num_wrong} rows do not have the header's {len(header)} fields: {'; '.join(shown)}"
        raise reading.fault(problem + "; quote fields that hold the separator")
