"""Readers: every format and compression gives the same records, in bounded batches; every fault is one line with its place."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from acclimate.data.reading.formats import json as json_format
from acclimate.data.reading.options import ReadOptions
from acclimate.data.reading.readers import Batch, find_files, iter_batches, read_rows, resolve, row_prefixes
from acclimate.data.reading.streams import check_encoding
from acclimate.errors import DataError

RECORDS = [
    {"text": "plain words", "label": "a"},
    {"text": 'quotes "inside", commas\nand a line end', "label": "b"},
    {"text": "Grüße, 日本 and 🙂", "label": "c"},
]
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": lambda data: data,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: pa.Codec("zstd").compress(data, asbytes=True),
}


def as_delimited(records: list[dict[str, Any]], delimiter: str) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(records[0]), delimiter=delimiter, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return out.getvalue()


def as_jsonl(records: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


AS_TEXT: dict[str, Callable[[list[dict[str, Any]]], str]] = {
    ".csv": lambda records: as_delimited(records, ","),
    ".tsv": lambda records: as_delimited(records, "\t"),
    ".jsonl": as_jsonl,
    ".ndjson": as_jsonl,
    ".json": lambda records: json.dumps(records, ensure_ascii=False, indent=1),
}
QUOTED: dict[str, dict[str, Any]] = {ending: {"quote": '"'} if ending == ".tsv" else {} for ending in AS_TEXT}
NUMBERS = {".csv": [2, 3, 5], ".tsv": [2, 3, 5], ".jsonl": [1, 2, 3], ".ndjson": [1, 2, 3], ".json": [1, 2, 3]}


def batches_of(path: Path, content: bytes, columns: Sequence[str] = ("text", "label"), **options: Any) -> list[Batch]:
    path.write_bytes(content)
    read = ReadOptions(**{key: options.pop(key) for key in list(options) if key in ReadOptions.model_fields})
    return list(iter_batches(path, list(columns), where="w", options=read, **options))


def fault_of(path: Path, content: bytes, columns: Sequence[str] = ("text",), **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        batches_of(path, content, columns, **options)
    message = str(caught.value)
    assert message.startswith(f"w: {path}: ") and message.isprintable()
    return message.removeprefix(f"w: {path}: ")


@pytest.mark.parametrize("compression", COMPRESS)
@pytest.mark.parametrize("ending", AS_TEXT)
def test_every_text_format_and_compression_gives_the_same_records(tmp_path: Path, ending: str, compression: str) -> None:
    content = COMPRESS[compression](AS_TEXT[ending](RECORDS).encode())
    (batch,) = batches_of(tmp_path / f"a{ending}{compression}", content, **QUOTED[ending])
    assert [dict(zip(batch.columns, cells, strict=True)) for cells in zip(*batch.columns.values(), strict=True)] == RECORDS
    assert batch.numbers == NUMBERS[ending]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8", "gb18030"])
@pytest.mark.parametrize("ending", AS_TEXT)
def test_an_encoding_is_read_as_told(tmp_path: Path, ending: str, encoding: str) -> None:
    (batch,) = batches_of(tmp_path / f"a{ending}", AS_TEXT[ending](RECORDS).encode(encoding), encoding=encoding, **QUOTED[ending])
    assert batch.columns["text"] == [record["text"] for record in RECORDS]
    assert batch.numbers == NUMBERS[ending]


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".json", ".txt"])
def test_a_byte_order_mark_is_dropped(tmp_path: Path, ending: str) -> None:
    content = "one\n" if ending == ".txt" else AS_TEXT[ending]([{"text": "one"}])
    (batch,) = batches_of(tmp_path / f"a{ending}", b"\xef\xbb\xbf" + content.encode(), ["text"])
    assert batch.columns == {"text": ["one"]}


@pytest.mark.parametrize(("ending", "compression"), [(".parquet", "zstd"), (".arrow", "lz4"), (".feather", None), (".arrow", "stream")])
def test_columnar_formats_give_rows_in_bounded_batches(tmp_path: Path, ending: str, compression: str | None) -> None:
    table = pa.table({"text": [f"row {i} " + "x" * (i % 50) for i in range(3000)], "words": [["a", str(i)] for i in range(3000)]})
    path = tmp_path / f"a{ending}"
    if ending == ".parquet":
        pq.write_table(table, path, row_group_size=700)
    else:
        options = pa.ipc.IpcWriteOptions(compression=compression if compression == "lz4" else None)
        new = pa.ipc.new_stream if compression == "stream" else pa.ipc.new_file
        with new(path, table.schema, options=options) as writer:
            writer.write_table(table, max_chunksize=900)
    batches = list(iter_batches(path, ["words", "text"], where="w", max_rows=1000, max_bytes=20_000))
    assert [number for batch in batches for number in batch.numbers] == list(range(1, 3001))
    assert [text for batch in batches for text in batch.columns["text"]] == table["text"].to_pylist()
    assert batches[0].columns["words"][:2] == [["a", "0"], ["a", "1"]]
    assert max(map(len, batches)) <= 1000
    assert max(sum(map(len, batch.columns["text"])) for batch in batches) < 40_000


def test_a_range_of_row_groups_keeps_its_row_numbers(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": [str(i) for i in range(100)]}), tmp_path / "a.parquet", row_group_size=30)
    (batch,) = iter_batches(tmp_path / "a.parquet", ["text"], where="w", row_groups=(1, 3))
    assert (batch.numbers[0], batch.numbers[-1], batch.columns["text"][0]) == (31, 90, "30")


def test_a_dictionary_column_is_measured_by_its_values(tmp_path: Path) -> None:
    table = pa.table({"text": pa.array(["x" * 1000, "y"] * 2000).dictionary_encode()})
    pq.write_table(table, tmp_path / "a.parquet")
    batches = list(iter_batches(tmp_path / "a.parquet", ["text"], where="w", max_rows=100, options=ReadOptions(max_record_bytes=300_000)))
    assert [text for batch in batches for text in batch.columns["text"]] == table["text"].to_pylist()


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".json", ".txt"])
def test_batches_hold_what_was_asked_for(tmp_path: Path, ending: str) -> None:
    texts = [f"text {i} " + "y" * 90 for i in range(100)]
    content = "\n\n".join(texts) if ending == ".txt" else AS_TEXT[ending]([{"text": text} for text in texts])
    path = tmp_path / f"a{ending}"
    by_rows = batches_of(path, content.encode(), ["text"], max_rows=30)
    assert [len(batch) for batch in by_rows] == [30, 30, 30, 10]
    assert [text for batch in by_rows for text in batch.columns["text"]] == texts
    by_bytes = batches_of(path, content.encode(), ["text"], max_bytes=1000)
    assert max(map(len, by_bytes)) <= 11 and len(by_bytes) >= 10
    assert [text for batch in by_bytes for text in batch.columns["text"]] == texts


def test_text_is_read_by_blank_line_by_file_or_by_line(tmp_path: Path) -> None:
    content = b"\n \none\r\ntwo\r\n\r\n\n\nthree\n"
    found = {by: batches_of(tmp_path / "a.txt", content, ["text"], text_by=by)[0] for by in ("blank_line", "file", "line")}
    assert (found["blank_line"].columns["text"], found["blank_line"].numbers) == (["one\ntwo", "three"], [3, 8])
    assert (found["file"].columns["text"], found["file"].numbers) == (["one\ntwo\n\n\n\nthree"], [1])
    assert (found["line"].columns["text"], found["line"].numbers) == (["one", "two", "three"], [3, 4, 8])


def test_an_object_with_one_array_is_read(tmp_path: Path) -> None:
    content = b'{"version": "1.1", "tags": ["x", "y"], "no": [],\n "data": [{"text": "one"},\n\n {"text": "two"}], "end": {"data": [1]}}'
    (batch,) = batches_of(tmp_path / "a.json", content, ["text"])
    assert (batch.columns["text"], batch.numbers) == (["one", "two"], [1, 2])


def test_jsonl_keeps_long_numbers_and_python_nan(tmp_path: Path) -> None:
    (batch,) = batches_of(tmp_path / "a.jsonl", b'{"text": 12345678901234567890123}\n\xc2\xa0\n{"text": NaN}\n{"text": 1e30}\n', ["text"])
    assert batch.columns["text"][0] == 12345678901234567890123
    assert batch.columns["text"][1] != batch.columns["text"][1]
    assert (batch.columns["text"][2], batch.numbers) == (1e30, [1, 3, 4])


def test_a_csv_of_old_macs_is_read(tmp_path: Path) -> None:
    (batch,) = batches_of(tmp_path / "a.csv", b"text,label\rone,a\rtwo,b\r")
    assert (batch.columns, batch.numbers) == ({"text": ["one", "two"], "label": ["a", "b"]}, [2, 3])


def test_reading_holds_a_batch_and_not_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with path.open("w") as file:
        file.writelines(json.dumps({"text": f"{i} " + "z" * 1000}) + "\n" for i in range(30_000))
    tracemalloc.start()
    num_rows = sum(len(batch) for batch in iter_batches(path, ["text"], where="w", max_bytes=1 << 20))
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert num_rows == 30_000
    assert peak_bytes < 8 << 20 < path.stat().st_size / 3


def cut(ending: str) -> bytes:
    content = AS_TEXT[".jsonl"]([{"text": f"{i * i} words {i}"} for i in range(2000)]).encode()
    return COMPRESS[ending](content)[:-20]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl.gz", cut(".gz"), "not a whole gzip stream (Compressed file ended before"),
        ("a.jsonl.bz2", cut(".bz2"), "not a whole bzip2 stream (Compressed file ended before"),
        ("a.jsonl.xz", cut(".xz"), "not a whole xz stream (Compressed file ended before"),
        ("a.jsonl.zst", cut(".zst"), "not a whole zstd stream (Truncated compressed stream)"),
        ("a.csv.gz", b"text\nplain\n", "not a whole gzip stream (Not a gzipped file (b'te'))"),
        ("a.csv.zst", b"text\nplain\n", "not a whole zstd stream ("),
        ("a.csv.bz2", b"text\nplain\n", "not a whole bzip2 stream (Invalid data stream)"),
        ("a.csv.xz", b"text\nplain\n", "not a whole xz stream (Input format not supported by decoder)"),
        ("a.jsonl", b'{"text": "a"}\n\n{"text": }\n', "line 3: not valid JSON (Expecting value: column 10)"),
        ("a.jsonl", b'{"text": "\\ud83d"}\n', "line 1: not valid JSON (half of a surrogate pair"),
        ("a.jsonl", b"[" * 100_000, "line 1: not valid JSON (maximum recursion depth exceeded"),
        ("a.jsonl", b'{"text": ' + b"1" * 5000 + b"}", "line 1: not valid JSON (Exceeds the limit (4300 digits)"),
        ("a.jsonl", b'{"text": "a"}\n{"text": "\xe9"}\n', "line 2: byte 0xe9 is not UTF-8; save the file as"),
        ("a.jsonl", b'{"text": "a"}\n\n{"text": "b\0"}\n', "line 3: a NUL byte, which no text holds"),
        ("a.jsonl", b'{"te\nxt": "a"}\n', "line 1: not valid JSON"),
        ("a.jsonl", b'{"text": "a"}\nnull\n', "line 2: expected an object, found NoneType"),
        ("a.csv", b"text\na\nb\0b\n", "line 3: a NUL byte"),
        ("a.csv", b"text\na\nb\xffb\n", "line 3: byte 0xff is not UTF-8; save the file as"),
        ("a.csv", b'"te\nxt"\na\n', "no column 'text'; did you mean 'te\\nxt'? present: te\\nxt"),
        (
            "a.csv",
            b'text,b\nx,1\n"y,2\nz,3\n',
            "line 3: not valid CSV (unexpected end of data); quote it, save it as JSONL, or give `quote: none`",
        ),
        ("a.csv", b"text,b\nx\n,\n1,2,3\n\n1,2\n4\n5\n", "4 rows do not have the header's 2 fields: line 2: 1 fields; line 4: 3"),
        ("a.txt", b"one\n\ntwo\nthr\xffee\n", "line 4: byte 0xff is not UTF-8; save the file as"),
        ("a.txt", b"one\n\ntwo\n\0\n", "line 4: a NUL byte"),
        ("a.json", b'[{"text": "a"},\n {"text": }]', "line 2: not valid JSON (Expecting value: column 11)"),
        ("a.json", b'[{"text": "a"},\n {"text": "b', "line 2: not valid JSON (Unterminated string starting at: column 11); it ends too"),
        ("a.json", b'[{"text": "a"},\n', "line 2: not valid JSON (Expecting value: column 1); it ends too early: fetch"),
        ("a.json", b'[{"text": "a"}', "line 1: not valid JSON (Expecting ',' delimiter: column 15); it ends too early: fetch"),
        ("a.json", b'[{"text": "a"} {"text": "b"}]', "line 1: not valid JSON (Expecting ',' delimiter: column 16)"),
        ("a.json", b'[{"text": "a"},\n3]', "row 2: expected an object, found int"),
        ("a.json", b'{"txt": "a"}\n{"txt": "b"}\n', "line 2: not valid JSON (Extra data: column 1); if each line holds an object, call"),
        (
            "a.json",
            b'{"txt": "a"}\n',
            "expected an array of objects, an object with one, or a table as pandas writes it; found an object without",
        ),
        (
            "a.jsonl",
            b'["a", "b"]\n["c", "d"]\n',
            "line 2: not valid JSON (Extra data: column 1); name the columns of arrays by `header: [...]`",
        ),
        ("a.json", b'{"a": [{"text": 1}],\n"b": [{"text": 2}]}', "a second array of objects, 'b' after 'a'; allowed is one"),
        ("a.json", b'"text"', "expected an array of objects, an object with one, or a table as pandas writes it; found str"),
        ("a.json", b"[" * 100_000, "line 1: "),
        ("a.json", b"  \n ", "no rows"),
        ("a.json", b"[]", "no rows"),
        ("a.json", b'[{"text": "a\0"}]', "line 1: a NUL byte"),
        ("a.parquet", b"PAR1 and nothing more", "not a whole Parquet file ("),
        ("a.arrow", b"ARROW1 and nothing more", "not a whole Arrow IPC file or stream ("),
        ("a.feather", b"FEA1 the older format FEA1", "not a whole Arrow IPC file or stream ("),
        ("a.tar.gz", b"x", "not a whole gzip stream ("),
        ("a.zip", b"x", "not a whole archive (File is not a zip file); fetch or write it again"),
        ("a.7z", b"x", "an archive (.7z) that is not read; unpack it, or write a .zip"),
        ("a.xls", b"x", "a spreadsheet (.xls) that is not read; save it as .xlsx or .csv"),
        ("a.xlsx", b"x", "not a whole .xlsx file (File is not a zip file); save it again, as .xlsx or as CSV"),
        ("a.parquet.gz", b"x", ".parquet is compressed inside and cannot be read through .gz; unpack it"),
        ("a.docx.gz", b"x", "ending '.docx.gz' is not known; allowed: .csv,"),
    ],
)
def test_a_fault_is_one_line_with_its_place(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    assert fault_of(tmp_path / name, content).startswith(message)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.999])
def test_a_parquet_or_arrow_file_cut_short_is_named(tmp_path: Path, share: float) -> None:
    table = pa.table({"text": [f"{i * i} words" for i in range(2000)]})
    pq.write_table(table, tmp_path / "a.parquet")
    with pa.ipc.new_file(tmp_path / "a.arrow", table.schema) as writer:
        writer.write_table(table)
    for path, kind in ((tmp_path / "a.parquet", "Parquet file"), (tmp_path / "a.arrow", "Arrow IPC file")):
        content = path.read_bytes()
        assert f"not a whole {kind}" in fault_of(path, content[: int(share * len(content))])


def test_a_parquet_file_with_a_flipped_page_gives_no_wrong_text(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["words " * 50 + str(i) for i in range(500)]}), path, write_page_checksum=True)
    content = bytearray(path.read_bytes())
    content[200] ^= 0xFF
    assert "not a whole Parquet file (could not verify page integrity, CRC checksum verification failed" in fault_of(path, bytes(content))


def test_bytes_that_are_no_utf8_in_a_string_column_are_named(tmp_path: Path) -> None:
    column = pa.Array.from_buffers(pa.string(), 2, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0\4\0\0\0"), pa.py_buffer(b"abc\xff")])
    pq.write_table(pa.table({"text": column}), tmp_path / "a.parquet")
    message = fault_of(tmp_path / "a.parquet", (tmp_path / "a.parquet").read_bytes())
    assert message.startswith("row 2: column 'text': byte 0xff is not UTF-8 (byte 3 of the cell)")


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.json", "a.txt", "b.jsonl", "b.csv"])
def test_a_line_of_50_megabytes_is_named(tmp_path: Path, name: str) -> None:
    long = b"x" * (50 << 20)
    never_ends = name.startswith("b")
    begin, end = {
        ".jsonl": (b'\n{"text": "', b'"}\n'),
        ".csv": (b'text\n"', b'"\n'),
        ".json": (b'\n[{"text": "', b'"}]'),
        ".txt": (b"\n", b"\n"),
    }[Path(name).suffix]
    content = begin + long + (b"" if never_ends else end)
    message = fault_of(tmp_path / name, content)
    assert message.startswith("row 1: the record" if name == "a.json" else "line 2: the ")
    assert "longer than 16,777,216 bytes, the limit of a record; split it, or raise `max_record_bytes`" in message
    if not never_ends:
        assert len(batches_of(tmp_path / name, content, ["text"], max_record_bytes=60 << 20)[0]) == 1


def test_a_large_json_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_format, "_MAX_FILE_BYTES", 30)
    assert len(batches_of(tmp_path / "a.json", b'[{"text": "a"},{"text": "b"}]', ["text"])[0]) == 2
    message = fault_of(tmp_path / "a.json.gz", gzip.compress(b'[{"text": "a"},\n\n{"text": "b"}]'))
    assert message == "longer than 30 bytes, the limit of a JSON file, which is read whole; save it as JSONL"


@pytest.mark.parametrize("ending", [".json", ".jsonl"])
def test_deep_json_is_read(tmp_path: Path, ending: str) -> None:
    deep = "[" * 800 + "]" * 800
    (batch,) = batches_of(tmp_path / f"a{ending}", AS_TEXT[ending]([{"text": json.loads(deep)}]).encode(), ["text"])
    assert json.dumps(batch.columns["text"][0]) == deep


def test_a_record_is_measured_over_all_its_lines(tmp_path: Path) -> None:
    csv_message = fault_of(tmp_path / "a.csv", b'text\na\n"b\nb\nb\nb\n"\n', max_record_bytes=6)
    assert csv_message.startswith("line 3: the record that begins here")
    text_message = fault_of(tmp_path / "a.txt", b"a\n\nbbb\nbbb\nbbb\n", max_record_bytes=6)
    assert text_message.startswith("line 3: the document that begins here")
    jsonl_message = fault_of(tmp_path / "a.jsonl", b'{"text":"a"}\n{"text":"abc"}\n', max_record_bytes=12)
    assert jsonl_message.startswith("line 2: the line that begins here")


def test_a_wrong_encoding_is_named_with_its_line(tmp_path: Path) -> None:
    message = fault_of(tmp_path / "a.csv", "text\na\n日本".encode("shift_jis") + b"\xff\xff", encoding="shift_jis")
    assert message.startswith("line 3: byte 0xff is not shift_jis; give the file's own `encoding`")
    assert "a NUL byte, which no text holds; the file is UTF-16" in fault_of(tmp_path / "a.csv", "text\na\n".encode("utf-16-le"))
    with pytest.raises(ValidationError, match="'utf-99' is no text encoding that Python knows"):
        ReadOptions(encoding="utf-99")
    assert check_encoding("UTF8") == "utf-8-sig"


def test_a_link_out_of_the_data_directory_is_refused(tmp_path: Path) -> None:
    data, outside = tmp_path / "data", tmp_path / "outside"
    data.mkdir()
    outside.mkdir()
    (outside / "secret.txt").write_text("secret")
    (data / "link.txt").symlink_to(outside / "secret.txt")
    (data / "directory").symlink_to(outside)
    for name in ("link.txt", "*.txt", "directory/secret.txt", "directory/*.txt"):
        with pytest.raises(DataError, match=r"leaves the data directory: it is, or lies below, a link to .*/outside/secret.txt"):
            resolve(data, name, where="w")
    for name in ("/etc/passwd", "../outside/secret.txt", "a/../../outside/*.txt"):
        with pytest.raises(DataError, match="leaves the data directory; give a path below"):
            resolve(data, name, where="w")


def test_a_link_inside_and_one_that_dvc_made_are_followed(tmp_path: Path) -> None:
    data, cached = tmp_path / "data", tmp_path / "cache" / "files" / "md5" / "ab" / ("c" * 30)
    data.mkdir()
    cached.parent.mkdir(parents=True)
    cached.write_text("text")
    (data / "own.txt").write_text("text")
    (data / "inside.txt").symlink_to(data / "own.txt")
    (data / "dvc.txt").symlink_to(cached)
    assert [path.name for path in resolve(data, "*.txt", where="w")] == ["dvc.txt", "inside.txt", "own.txt"]


@pytest.mark.parametrize("name", ["**x.txt", "a[", "\0", "", "sub", "nothing*.txt", "*/nothing/*.csv", "a\nb.csv"])
def test_a_pattern_that_gives_no_file_is_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "sub").mkdir()
    with pytest.raises(DataError) as caught:
        find_files(tmp_path, name, where="w")
    assert str(caught.value).isprintable()


def test_row_prefixes_drop_both_endings(tmp_path: Path) -> None:
    paths = [tmp_path / "a.jsonl.gz", tmp_path / "b.csv", tmp_path / "x" / "c.txt", tmp_path / "y" / "c.txt"]
    assert row_prefixes(paths, tmp_path) == ["a", "b", "x/c.txt", "y/c.txt"]


def test_read_rows_gives_whole_columns(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(as_delimited([{"text": str(i), "label": "x"} for i in range(10_000)], ","))
    table = read_rows(tmp_path / "a.csv", ["label", "text"], where="w")
    assert table.columns == {"label": ["x"] * 10_000, "text": [str(i) for i in range(10_000)]}
    assert table.numbers == list(range(2, 10_002))
