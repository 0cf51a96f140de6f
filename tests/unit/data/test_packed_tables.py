"""Tables in a zip or a tar, and tables that unpack to much more than they are."""

from __future__ import annotations

import bz2
import gzip
import io
import logging
import lzma
import tarfile
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from acclimate.data.reading.options import ReadOptions
from acclimate.data.reading.readers import read_rows, resolve
from acclimate.data.reading.sources import documents, files
from acclimate.errors import DataError
from tests.unit.data.sources.batches import read

CSV = b"text,label\none,a\ntwo,b\n"
JUNK = {"__MACOSX/._table.csv": b"\0\5\x16\7", "._table.csv": b"\0", ".DS_Store": b"\0\0\0\1Bud1", "in/Thumbs.db": b"\xd0\xcf", "in/": b""}


def packed(name: str, members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    if name.endswith(".zip"):
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for member, content in members.items():
                archive.writestr(member, content)
        return out.getvalue()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for member, content in members.items():
            if not member.endswith("/"):
                info = tarfile.TarInfo(member)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": partial(lzma.compress, preset=0)}.get(Path(name).suffix, bytes)(
        out.getvalue()
    )


def texts_of(path: Path, content: bytes, **options: Any) -> list[Any]:
    path.write_bytes(content)
    return read_rows(path, ["text"], where="w", options=ReadOptions(**options)).columns["text"]


def fault_of(path: Path, content: bytes, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        texts_of(path, content, **options)
    return str(caught.value).removeprefix(f"w: {path}: ")


@pytest.mark.parametrize("name", ["table.csv.zip", "table.zip", "TABLE.ZIP", "table.tar", "table.tar.gz", "table.tar.bz2", "table.tar.xz"])
def test_the_only_table_of_an_archive_is_read(tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str) -> None:
    with caplog.at_level(logging.INFO):
        content = packed(name.lower(), {**JUNK, "in/table.csv": CSV, "in/readme.md": b"#"})
        assert texts_of(tmp_path / name, content) == ["one", "two"]
    assert f"{name}: member 'in/table.csv': read as its only table" in caplog.text
    assert [path.name for path in resolve(tmp_path, name, where="w")] == [name]
    batches = read(files, files.Config(data=name), tmp_path)
    assert [(batch.name, batch.numbers, batch.texts) for batch in batches] == [(name, [2, 3], ["one", "two"])]


def test_files_of_the_system_are_passed_over_by_globs_and_in_directories(tmp_path: Path) -> None:
    for name, content in {**JUNK, "in/a.csv": CSV, "in/._a.csv": b"\0"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        if not name.endswith("/"):
            (tmp_path / name).write_bytes(content)
    assert [path.name for path in resolve(tmp_path, "in/*", where="w")] == ["a.csv"]
    (batch,) = read(documents, documents.Config(data=".", pattern="**/*"), tmp_path)
    assert batch.ids == ["in/a.csv"]


def test_a_member_without_a_name_is_one_line(tmp_path: Path) -> None:
    """Found by 100,000 mutated files: zipfile of Python 3.11 then raises an IndexError; later ones read on."""
    content = bytearray(packed("a.zip", {"a.csv": CSV, "b": b""}))
    entry, end = content.rindex(b"PK\1\2"), content.rindex(b"PK\5\6")
    content[end + 12] -= 1  # bytes of the directory
    content[entry + 28] = 0  # length of the name
    del content[entry + 46]
    try:
        found: list[str] | str = texts_of(tmp_path / "a.zip", bytes(content))
    except DataError as error:
        found = str(error)
    assert found == ["one", "two"] or ": not a whole archive (" in found


@pytest.mark.parametrize("name", ["table.zip", "table.tar.gz"])
def test_one_of_several_tables_is_named_by_member(tmp_path: Path, name: str) -> None:
    content = packed(name, {"a/train.csv": CSV, "a/test.jsonl": b'{"text": "three"}\n'})
    assert fault_of(tmp_path / name, content) == "holds 2 tables: 'a/train.csv', 'a/test.jsonl'; name one of them by `member`"
    assert texts_of(tmp_path / name, content, member="a/train.csv") == ["one", "two"]
    assert texts_of(tmp_path / name, content, member="a/test.jsonl") == ["three"]
    assert fault_of(tmp_path / name, content, member="b.csv").startswith("holds no member 'b.csv' that is a table; allowed: .csv, .tsv")
    assert "present: 'a/train.csv', 'a/test.jsonl'" in fault_of(tmp_path / name, content, member="b.csv")
    assert "holds no table; allowed: .csv" in fault_of(tmp_path / name, packed(name, {"a.md": b"x"}))
    assert "present: nothing" in fault_of(tmp_path / name, packed(name, {}))
    assert "leaves the archive's directory" in fault_of(tmp_path / name, packed(name, {"../a.csv": CSV}))


def test_a_fault_in_a_member_names_file_member_and_line(tmp_path: Path) -> None:
    path = tmp_path / "table.zip"
    for content, message in (
        (b"text,label\none\n", "1 rows do not have the header's 2"),
        (b"text\n\xff\n", "line 2: byte 0xff is not UTF-8"),
    ):
        with pytest.raises(DataError) as caught:
            texts_of(path, packed("table.zip", {"a.csv": content}))
        assert str(caught.value).startswith(f"w: {path}: member 'a.csv': {message}")
    assert "`member` names a file in an archive, and this is none" in fault_of(tmp_path / "a.csv", CSV, member="x.csv")


BOMB = b"text\n" + (b"x" * 499 + b"\n") * 140_000


@pytest.mark.parametrize("name", ["a.csv.gz", "a.csv.bz2", "a.csv.xz", "a.csv.zst", "a.zip", "a.tar.xz", "a.jsonl.gz", "a.txt.gz"])
def test_a_bomb_is_refused_with_the_setting(tmp_path: Path, name: str) -> None:
    content = BOMB if ".csv" in name or "a.zip" in name or "tar" in name else b"\n" * len(BOMB)
    packers: dict[str, Any] = {
        ".gz": gzip.compress,
        ".bz2": bz2.compress,
        ".zst": partial(pa.Codec("zstd").compress, asbytes=True),
    }
    small = (
        packed(name, {"a.csv": content})
        if "zip" in name or "tar" in name
        else packers.get(Path(name).suffix, partial(lzma.compress, preset=0))(content)
    )
    assert len(small) < 1 << 19
    message = fault_of(tmp_path / name, small)
    assert "a decompression bomb, or no text; raise `max_growth`" in message or "a bomb, or no table" in message


def test_a_parquet_or_arrow_file_that_repeats_one_text_is_refused(tmp_path: Path) -> None:
    table = pa.table({"text": pa.array(["word " * 20_000] * 1000, pa.string())})
    pq.write_table(table, tmp_path / "a.parquet", compression="zstd")
    with pa.ipc.new_file(tmp_path / "a.arrow", table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table, max_chunksize=100)
    for name in ("a.parquet", "a.arrow"):
        content = (tmp_path / name).read_bytes()
        assert len(content) < 1 << 20
        assert "200 times its size: a decompression bomb, or no text; raise `max_growth`" in fault_of(tmp_path / name, content)
    small = pa.table({"text": ["word " * 20_000] * 50})
    pq.write_table(small, tmp_path / "b.parquet")
    assert len(read_rows(tmp_path / "b.parquet", ["text"], where="w").columns["text"]) == 50


def test_a_bomb_can_be_allowed(tmp_path: Path) -> None:
    content = gzip.compress(b'{"text": "' + b"x" * 100_000 + b'"}\n' + (b'{"text": "' + b" " * 100_000 + b'"}\n') * 700)
    assert "raise `max_growth`" in fault_of(tmp_path / "a.jsonl.gz", content)
    assert len(texts_of(tmp_path / "a.jsonl.gz", content, max_growth=2000)) == 701
