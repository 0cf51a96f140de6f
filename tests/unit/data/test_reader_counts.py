"""Mutated files: no reader raises anything but its own error, hangs, or gives fewer rows than an independent reader finds.

ACCLIMATE_FUZZ_INPUTS=100000 python -m pytest -s tests/unit/data/test_reader_counts.py
"""

from __future__ import annotations

import csv
import io
import json
import random
import time
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openpyxl
import pandas as pd
import pyarrow.parquet as pq
import pytest

from acclimate.data.reading.options import ReadOptions
from acclimate.data.reading.readers import iter_batches
from acclimate.errors import DataError
from tests.security.fuzz import bounded, inputs, peak_mb
from tests.unit.data.test_reader_fuzz import COLUMNS, ROWS, TABLE, WHOLE

_SECONDS = 5.0
_MAX_MB = 500
_SHOWN = 2000
_PIECES = [b'"', b'"', b"\n", b"\r", b"\t", b",", b";", b"\0", b"'", b'""', b'"\n', b'\n"', b"\n\n", b"{", b"}", b"[", b"]", b"\\", b"\xff",
           b"\xef\xbb\xbf", b"\xff\xfe", b"sep=;\n", b"NaN", b"1e999", b" ", b"<", b"&"]  # fmt: skip


def plain(separator: str, rows: list[dict[str, Any]]) -> bytes:
    """As people export by hand: without quotes, and with some in the texts."""
    lines = [f"{'' if n % 5 else chr(34)}word {n}{chr(34) if n % 7 == 3 else ''}{separator}{row['n']}" for n, row in enumerate(rows)]
    return "\n".join([separator.join(COLUMNS), *lines]).encode()


def long_texts() -> bytes:
    out = io.StringIO()
    csv.writer(out).writerows([COLUMNS, *([f"Dear team,\nrow {n}, please\n\nbye", n] for n in range(30))])
    return out.getvalue().encode()


def spreadsheet() -> bytes:
    book = openpyxl.Workbook()
    for row in [COLUMNS, *([row["text"], row["n"]] for row in ROWS[:12])]:
        book.active.append(row)
    book.active.merge_cells("B3:B5")
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def zipped(name: str, content: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
        archive.writestr("__MACOSX/._" + name, b"\0")
    return out.getvalue()


FILES: dict[str, bytes] = WHOLE | {
    "plain.csv": plain(",", ROWS),
    "plain.tsv": plain("\t", ROWS),
    "bare.csv": plain(",", ROWS),
    "semicolon.csv": plain(";", ROWS),
    "long.csv": long_texts(),
    "utf16.csv": WHOLE["a.tsv"].decode().encode("utf-16"),
    "columns.json": TABLE.to_pandas().to_json().encode(),
    "split.json": TABLE.to_pandas().to_json(orient="split").encode(),
    "lines.json": WHOLE["a.jsonl"],
    "array.jsonl": json.dumps(ROWS).encode(),
    "a.xlsx": spreadsheet(),
    "a.csv.zip": zipped("a.csv", WHOLE["a.csv"]),
}

UNQUOTED = ("bare.csv", "semicolon.csv")


def mutated(content: bytes, chance: random.Random) -> bytes:
    """Some bytes changed, put in, taken out or doubled."""
    changed = bytearray(content)
    for _ in range(chance.choice([1, 1, 1, 2, 3, 8])):
        start = chance.randrange(len(changed) + 1)
        stop = min(len(changed), start + chance.choice([0, 1, 1, 4, 30]))
        piece = chance.choice([chance.choice(_PIECES), chance.randbytes(1), bytes(changed[start:stop]) * 2, b""])
        changed[start:stop] = piece
    return bytes(changed)


def text_of(content: bytes) -> str:
    is_wide = content[:2] in (b"\xff\xfe", b"\xfe\xff")
    return content.decode("utf-16" if is_wide else "utf-8-sig")


def rows_of_csv(content: bytes, name: str) -> int:
    """By the csv module, and by pandas where it reads the file too."""
    text = text_of(content)
    lines = text.splitlines(keepends=True)
    told = lines[0].lower().lstrip('"').startswith("sep=") if lines else False
    text = "".join(lines[1:]) if told else text
    head = next((line for line in io.StringIO(text, newline="") if line.strip("\r\n")), "")
    separator = next((sign for sign in ("\t", ";", "|", ",") if sign in head), ",")
    is_plain = name in UNQUOTED or (name.endswith(".tsv") and separator == "\t")
    quoting = csv.QUOTE_NONE if is_plain else csv.QUOTE_MINIMAL
    counts = [sum(bool(row) for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator, quoting=quoting)) - 1]
    try:
        frame = pd.read_csv(io.StringIO(text, newline=""), sep=separator, quoting=quoting, dtype=str, index_col=False)
        counts.append(len(frame))
    except (ValueError, pd.errors.ParserError):
        pass
    return max(counts)


def rows_of_json(content: bytes, _name: str) -> int:
    text = text_of(content)
    try:
        value = json.loads(text)
    except ValueError:
        return sum(bool(line.strip()) for line in text.split("\n"))
    if isinstance(value, dict):
        inner = [len(part) for part in value.values() if isinstance(part, list | dict)]
        return len(value["data"]) if "data" in value else min(inner, default=1)
    return len(value)


def rows_of_excel(content: bytes, _name: str) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return len(pd.read_excel(io.BytesIO(content), dtype=object).dropna(how="all"))


def rows_of_zip(content: bytes, _name: str) -> int:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return rows_of_csv(archive.read("a.csv"), "a.csv")


COUNT: dict[str, Callable[[bytes, str], int]] = {
    ".csv": rows_of_csv,
    ".tsv": rows_of_csv,
    ".json": rows_of_json,
    ".jsonl": rows_of_json,
    ".parquet": lambda content, _name: pq.read_metadata(io.BytesIO(content)).num_rows,
    ".xlsx": rows_of_excel,
    ".zip": rows_of_zip,
}


def independent(content: bytes, name: str) -> int:
    """Rows by another reader; none where it does not read the file, and then there is nothing to compare with."""
    try:
        return COUNT[Path(name).suffix](content, name) if Path(name).suffix in COUNT else 0
    except Exception:  # noqa: BLE001  # whatever another library raises
        return 0


def read(path: Path, columns: list[str]) -> int | str:
    """The number of rows, or what the reader refuses."""
    options = ReadOptions(quote="none") if path.name in UNQUOTED else ReadOptions()
    try:
        return sum(len(batch) for batch in iter_batches(path, columns, where="w", options=options))
    except DataError as error:
        return str(error)
    except Exception:  # noqa: BLE001  # a finding, told with its input
        return traceback.format_exc(limit=-3)


@pytest.mark.filterwarnings("ignore")
def test_mutated_files_give_all_rows_or_one_line(tmp_path: Path) -> None:
    outcomes, findings, start, slowest = Counter[str](), list[str](), time.perf_counter(), 0.0
    names, before = sorted(FILES), peak_mb()
    for number, chance in enumerate(inputs(), start=1):
        name = chance.choice(names)
        content = mutated(FILES[name], chance)
        path = tmp_path / name
        path.write_bytes(content)
        begin = time.process_time()
        with bounded(_SECONDS):
            found = read(path, ["text"] if name.startswith("a.txt") else COLUMNS)
        slowest = max(slowest, time.process_time() - begin)
        outcomes[f"{Path(name).suffix} {'refused' if isinstance(found, str) else 'read'}"] += 1
        if isinstance(found, str):
            if not (found.startswith(f"w: {path}: ") and found.isprintable()):
                findings.append(f"{name}: not one line: {found!r} for {content[:_SHOWN]!r}")
        elif found < (expected := independent(content, name)):
            findings.append(f"{name}: {found} rows, {expected} by another reader: {content[:_SHOWN]!r}")
        if number % 10_000 == 0:
            print(number, f"{time.perf_counter() - start:.0f} s, {peak_mb():.0f} MB, {len(findings)} findings", flush=True)
    print(f"{time.perf_counter() - start:.0f} s, the slowest {slowest:.2f} s, {peak_mb():.0f} MB; {dict(sorted(outcomes.items()))}")
    assert not findings, f"{len(findings)} findings, such as:\n" + "\n".join(findings[:5])
    assert peak_mb() < before + _MAX_MB


def test_files_that_are_whole_are_read(tmp_path: Path) -> None:
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
        if name not in ("a.txt", "plain.csv"):
            expected = {"a.xlsx": 12, "long.csv": 30}.get(name, len(ROWS))
            assert (name, read(tmp_path / name, COLUMNS)) == (name, expected)
            assert independent(content, name) == expected * (Path(name).suffix in COUNT), name
    message = read(tmp_path / "plain.csv", COLUMNS)
    assert isinstance(message, str)
    assert "quote: none" in message
