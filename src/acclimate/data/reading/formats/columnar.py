"""Parquet (https://parquet.apache.org/docs/file-format) and Arrow IPC, also called Feather 2 (https://arrow.apache.org/docs/format)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from acclimate.data.reading.formats import Batch, Collector, Reading
from acclimate.data.reading.formats.class_labels import log_class_names, name_classes
from acclimate.data.reading.streams import Unpacked, first_line
from acclimate.errors import DataError

_MAX_DECODED_ROWS = 512
"""Rows decoded at a time: few, because a page that repeats one long value is small in the file and large when decoded."""
_BUFFER_BYTES = 1 << 20
_BROKEN = (pa.ArrowException, OSError, MemoryError, OverflowError, UnicodeDecodeError)
"""What pyarrow raises for a file that is not whole; the last for a column name that is not UTF-8."""


def read_parquet(reading: Reading) -> Iterator[Batch]:
    """Rows of a Parquet file; a page of each wanted column is held."""
    try:
        with pq.ParquetFile(reading.path, buffer_size=_BUFFER_BYTES, pre_buffer=False, page_checksum_verification=True) as file:
            reading.require(file.schema_arrow.names)
            log_class_names(reading, file.schema_arrow)
            first, stop = reading.row_groups or (0, file.num_row_groups)
            number = 1 + sum(file.metadata.row_group(index).num_rows for index in range(first))
            batches = file.iter_batches(_rows_at_once(file, reading), list(range(first, stop)), columns=reading.columns)
            yield from rebatched(batches, number, reading)
    except _BROKEN as error:
        raise reading.fault(f"not a whole Parquet file ({first_line(error)}); fetch or write the file again") from None


def _rows_at_once(file: pq.ParquetFile, reading: Reading) -> int:
    total_bytes = sum(file.metadata.row_group(index).total_byte_size for index in range(file.num_row_groups))
    row_bytes = max(1, total_bytes // max(1, file.metadata.num_rows))
    return max(1, min(_MAX_DECODED_ROWS, reading.max_rows, int(reading.max_bytes // row_bytes)))


def read_ipc(reading: Reading) -> Iterator[Batch]:
    """Rows of an Arrow IPC file or stream; memory-mapped, and checked in full, because offsets that lie would crash the process."""
    try:
        with pa.memory_map(str(reading.path)) as source:
            yield from rebatched(_ipc_batches(source, reading), 1, reading)
    except _BROKEN as error:
        problem = f"not a whole Arrow IPC file or stream ({first_line(error)}); Feather 1 is not read; fetch or write the file again"
        raise reading.fault(problem) from None


def _ipc_batches(source: pa.MemoryMappedFile, reading: Reading) -> Iterator[pa.RecordBatch]:
    if source.read(6) == b"ARROW1":
        file = pa.ipc.open_file(source)
        reading.require(file.schema.names)
        log_class_names(reading, file.schema)
        batches = (file.get_batch(index) for index in range(file.num_record_batches))
    else:
        source.seek(0)
        stream = pa.ipc.open_stream(source)
        reading.require(stream.schema.names)
        log_class_names(reading, stream.schema)
        batches = iter(stream)
    for batch in batches:
        wanted = batch.select(reading.columns)
        wanted.validate(full=True)
        yield wanted


def rebatched(batches: Iterator[pa.RecordBatch], number: int, reading: Reading) -> Iterator[Batch]:
    """Record batches of any size as batches of the size that is wanted.

    Args:
        number: of the first row.
    Raises:
        DataError: a cell that is no UTF-8, over the limit, more than the file can hold, or that Python cannot hold, with its row.
    """
    collector = Collector(reading)
    unpacked = Unpacked(reading.path, reading.where, max_growth=reading.options.max_growth, advice="raise `max_growth`")
    for batch in batches:
        for piece in _pieces(batch, min(_MAX_DECODED_ROWS, reading.max_rows), reading.max_bytes):
            if collector.is_full_with(piece.num_rows):
                yield collector.take()
            numbers = range(number, number + piece.num_rows)
            if collector.extend(numbers, [_cells(piece, column, numbers, reading, unpacked) for column in reading.columns], piece.nbytes):
                yield collector.take()
            number += piece.num_rows
    if collector:
        yield collector.take()


def _pieces(batch: pa.RecordBatch, max_rows: int, max_bytes: int) -> Iterator[pa.RecordBatch]:
    """Slices of a batch of so many rows and bytes at most; one row may be larger."""
    if batch.num_rows > 1 and (batch.num_rows > max_rows or batch.nbytes > max_bytes):
        half = batch.num_rows // 2 if batch.num_rows <= max_rows else max_rows
        for start in range(0, batch.num_rows, half):
            yield from _pieces(batch.slice(start, half), max_rows, max_bytes)
    elif batch.num_rows:
        yield batch


def _cells(piece: pa.RecordBatch, column: str, numbers: range, reading: Reading, unpacked: Unpacked) -> list[Any]:
    array = piece.column(column)
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    unpacked.add(array.nbytes)
    if array.nbytes > reading.max_record_bytes:
        _refuse_long(array, numbers, reading)
    try:
        cells = name_classes(array.to_pylist(), column, piece.schema)
    except UnicodeDecodeError:
        raise _first_that_fails(array, column, numbers, reading) from None
    except (ValueError, OverflowError, LookupError, pa.ArrowException) as error:
        raise reading.fault(f"rows {numbers[0]} to {numbers[-1]}: column {column!r}: {first_line(error)}") from None
    return cells


def _refuse_long(array: pa.Array, numbers: range, reading: Reading) -> None:
    for index, number in enumerate(numbers):
        if array.slice(index, 1).nbytes > reading.max_record_bytes:
            raise reading.fault(f"row {number}: a cell of more than {reading.max_record_bytes:,} bytes, the limit of a record; split it")


def _first_that_fails(array: pa.Array, column: str, numbers: range, reading: Reading) -> DataError:
    for value, number in zip(array, numbers, strict=True):
        try:
            value.as_py()
        except UnicodeDecodeError as error:
            problem = f"byte {error.object[error.start]:#04x} is not UTF-8 (byte {error.start + 1:,} of the cell)"
            return reading.fault(f"row {number}: column {column!r}: {problem}; write the column as UTF-8")
    raise AssertionError(f"{reading.path}: a column fails as a whole, and no cell of it does")
