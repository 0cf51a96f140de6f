"""Readers over arbitrary bytes: batches, or one DataError of one line; never another exception."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from acclimate.data.reading.options import ReadOptions
from acclimate.data.reading.readers import iter_batches, read_rows
from acclimate.errors import DataError

FUZZ = settings(
    max_examples=80,
    deadline=5000,  # a reader that hangs is a finding
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
COLUMNS = ["text", "n"]
TABLE = pa.table({"text": [f"text {i} é" * (i % 7) for i in range(40)], "n": list(range(40))})
ROWS: list[dict[str, Any]] = TABLE.to_pylist()


def as_csv(delimiter: str) -> bytes:
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, delimiter=delimiter)
    writer.writeheader()
    writer.writerows(ROWS)
    return out.getvalue().encode()


def as_arrow(new: Callable[..., Any], **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    with new(sink, TABLE.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(TABLE, max_chunksize=15)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def as_parquet(**options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(TABLE, sink, row_group_size=15, **options)
    content: bytes = sink.getvalue().to_pybytes()
    return content


JSONL = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
WHOLE: dict[str, bytes] = {
    "a.csv": as_csv(","),
    "a.tsv": as_csv("\t"),
    "a.jsonl": JSONL,
    "a.json": json.dumps({"version": 1, "data": ROWS}, indent=1).encode(),
    "a.txt": "\n\n".join(row["text"] for row in ROWS).encode(),
    "a.parquet": as_parquet(),
    "b.parquet": as_parquet(compression="none", use_dictionary=False, write_page_checksum=False),
    "c.parquet": as_parquet(compression="zstd", data_page_version="2.0"),
    "a.arrow": as_arrow(pa.ipc.new_file),
    "b.arrow": as_arrow(pa.ipc.new_stream),
    "c.arrow": as_arrow(pa.ipc.new_file, compression="zstd"),
    "a.jsonl.gz": gzip.compress(JSONL, mtime=0),
    "a.jsonl.bz2": bz2.compress(JSONL),
    "a.jsonl.xz": lzma.compress(JSONL),
    "a.jsonl.zst": pa.Codec("zstd").compress(JSONL, asbytes=True),
}
NAMES = st.sampled_from(sorted(WHOLE))


def outcome(directory: Path, name: str, content: bytes, columns: list[str], **options: Any) -> str:
    """`read`, or the message; any other exception goes through."""
    path = directory / name
    path.write_bytes(content)
    try:
        read = ReadOptions(**{key: options.pop(key) for key in list(options) if key in ReadOptions.model_fields})
        for batch in iter_batches(path, columns, where="w", options=read, **options):
            assert list(batch.columns) == columns and len(batch) > 0
            assert {len(cells) for cells in batch.columns.values()} == {len(batch.numbers)}
            assert min(batch.numbers) >= 1 and batch.numbers == sorted(batch.numbers)
    except ValidationError:
        return "refused as an option"
    except DataError as error:
        message = str(error)
        assert message.startswith(f"w: {path}: ") and message.isprintable()
        return message
    return "read"


def columns_of(name: str) -> list[str]:
    return ["text"] if name.endswith(".txt") else COLUMNS


def test_the_whole_files_are_read(tmp_path: Path) -> None:
    assert {name: outcome(tmp_path, name, content, columns_of(name)) for name, content in WHOLE.items()} == dict.fromkeys(WHOLE, "read")


@FUZZ
@given(name=NAMES, content=st.binary(max_size=400), columns=st.sampled_from([["text"], ["n", "text"]]))
def test_random_bytes(tmp_path: Path, name: str, content: bytes, columns: list[str]) -> None:
    outcome(tmp_path, name, content, columns)


@FUZZ
@given(name=NAMES, data=st.data())
def test_truncations(tmp_path: Path, name: str, data: st.DataObject) -> None:
    size = data.draw(st.integers(0, len(WHOLE[name]) - 1))
    found = outcome(tmp_path, name, WHOLE[name][:size], columns_of(name))
    if not name.endswith((".csv", ".tsv", ".jsonl", ".txt", "b.arrow")):  # a stream of lines or messages may well end earlier
        assert found != "read"


@settings(FUZZ, max_examples=250)
@given(name=NAMES, data=st.data())
def test_flipped_bytes(tmp_path: Path, name: str, data: st.DataObject) -> None:
    content = bytearray(WHOLE[name])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    outcome(tmp_path, name, bytes(content), columns_of(name))


@FUZZ
@given(name=NAMES, data=st.data())
def test_a_stretch_removed_or_doubled(tmp_path: Path, name: str, data: st.DataObject) -> None:
    content = WHOLE[name]
    start, stop = sorted((data.draw(st.integers(0, len(content))), data.draw(st.integers(0, len(content)))))
    outcome(tmp_path, name, content[:start] + data.draw(st.sampled_from([b"", content[start:stop] * 2])) + content[stop:], columns_of(name))


@settings(FUZZ, max_examples=120)
@given(
    name=st.sampled_from(["a.csv", "a.tsv", "a.json", "a.jsonl", "a.txt"]),
    parts=st.lists(
        st.sampled_from(
            [*'",\t\r\n;|[]{}:\\\0 ', "text", "n", '"text"', '{"text": 1, "n": 2}', "1e9", "-", "é", "\ufeff", "\u2028", "\\ud800"]
        ),
        max_size=40,
    ),
    text_by=st.sampled_from(["blank_line", "file", "line"]),
    encoding=st.sampled_from(["utf-8", "utf-16", "utf-7", "latin-1", "shift_jis", "utf-8-sig", "iso2022_jp"]),
)
@example(name="a.json", parts=["[", "-"], text_by="file", encoding="utf-8")
def test_random_delimiters(tmp_path: Path, name: str, parts: list[str], text_by: Any, encoding: str) -> None:
    for head in ("", "text,n\n"):
        content = (head + "".join(parts)).encode(encoding, "ignore")
        outcome(tmp_path, name, content, columns_of(name), text_by=text_by, encoding=encoding, max_record_bytes=200, max_rows=3)


@FUZZ
@given(
    content=st.binary(max_size=200),
    encoding=st.sampled_from(["utf-7", "utf-16", "utf-32", "shift_jis", "gb18030", "big5", "cp037", "hz"]),
)
def test_random_bytes_in_other_encodings(tmp_path: Path, content: bytes, encoding: str) -> None:
    for name in ("a.csv", "a.jsonl", "a.txt"):
        outcome(tmp_path, name, b"text,n\n" + content, columns_of(name), encoding=encoding)


@pytest.mark.parametrize("name", [name for name in WHOLE if name.endswith((".parquet", ".arrow"))])
def test_a_column_name_that_is_no_utf8_is_one_line(tmp_path: Path, name: str) -> None:
    """Found by 27,000 random changes: pyarrow then raises UnicodeDecodeError on opening, not an error of its own."""
    assert "not a whole" in outcome(
        tmp_path, name, WHOLE[name].replace(b"text\0", b"\xffext\0").replace(b"\x04text", b"\x04\xffext"), COLUMNS
    )


LINES = st.text(st.sampled_from("ab \r\n\té\u2028\x1f"), max_size=60)


@settings(FUZZ, max_examples=150)
@given(text=LINES)
def test_paragraphs_are_those_of_the_plain_definition(tmp_path: Path, text: str) -> None:
    expected = [part.strip() for part in text.replace("\r\n", "\n").split("\n\n")]
    (tmp_path / "a.txt").write_bytes(text.encode())
    if not any(expected):
        with pytest.raises(DataError):
            read_rows(tmp_path / "a.txt", ["text"], where="w")
        return
    assert read_rows(tmp_path / "a.txt", ["text"], where="w").columns["text"] == [part for part in expected if part]


@settings(FUZZ, max_examples=150)
@given(rows=st.lists(st.tuples(st.text(max_size=20), st.text(max_size=20)), min_size=1, max_size=8), delimiter=st.sampled_from([",", "\t"]))
def test_delimited_rows_are_those_of_the_csv_module(tmp_path: Path, rows: list[tuple[str, str]], delimiter: str) -> None:
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, quoting=csv.QUOTE_ALL)
    writer.writerows([("text", "n"), *[tuple(cell.replace("\0", "") for cell in row) for row in rows]])
    path = tmp_path / ("a.csv" if delimiter == "," else "a.tsv")
    path.write_bytes(out.getvalue().encode())
    expected = list(csv.reader(io.StringIO(out.getvalue(), newline=""), delimiter=delimiter))[1:]
    table = read_rows(path, COLUMNS, where="w", options=ReadOptions(quote='"')).columns
    assert [list(row) for row in zip(table["text"], table["n"], strict=True)] == expected


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(FUZZ, max_examples=120)
@given(values=st.lists(VALUES, min_size=1, max_size=6), indent=st.sampled_from([None, 0, 2]))
def test_json_values_come_back_as_the_json_module_reads_them(tmp_path: Path, values: list[Any], indent: int | None) -> None:
    records = [{"n": index, "text": value} for index, value in enumerate(values)]
    (tmp_path / "a.json").write_text(json.dumps(records, indent=indent))
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(record, ensure_ascii=False) for record in records), encoding="utf-8")
    for name in ("a.json", "a.jsonl"):
        assert read_rows(tmp_path / name, ["text"], where="w").columns["text"] == values
