"""Excel's files: what openpyxl and pandas write comes back; what is not whole, or grows without end, is one line."""

from __future__ import annotations

import datetime as dt
import io
import logging
import zipfile
from pathlib import Path
from typing import Any

import openpyxl
import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from acclimate.data.reading.options import ReadOptions
from acclimate.data.reading.readers import read_rows
from acclimate.errors import DataError

FILES = settings(
    max_examples=30,
    deadline=5000,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],  # openpyxl under a tracer is slow
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
CELLS = st.text(st.characters(min_codepoint=32, exclude_categories=["Cs", "Cn", "Co"]), min_size=1, max_size=12).filter(
    lambda text: not text.startswith(("=", "#")) and "_x" not in text
)
VALUES = st.none() | CELLS | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.booleans()


def book(rows: list[list[Any]], **more: list[list[Any]]) -> openpyxl.Workbook:
    new = openpyxl.Workbook()
    for name, lines in {"Sheet": rows, **more}.items():
        sheet = new[name] if name in new.sheetnames else new.create_sheet(name)
        for line in lines:
            sheet.append(line)
    return new


def table_of(path: Path, content: openpyxl.Workbook | bytes, columns: list[str] | None = None, **options: Any) -> Any:
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        content.save(path)
    return read_rows(path, columns or ["text", "label"], where="w", options=ReadOptions(**options))


def fault_of(path: Path, content: openpyxl.Workbook | bytes, columns: list[str] | None = None, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        table_of(path, content, columns, **options)
    return str(caught.value).removeprefix(f"w: {path}: ")


@FILES
@given(rows=st.lists(st.tuples(CELLS, VALUES), min_size=1, max_size=8))
def test_values_that_openpyxl_writes_come_back(tmp_path: Path, rows: list[tuple[Any, Any]]) -> None:
    table = table_of(tmp_path / "a.xlsx", book([["id", "text", "label"], *([1, text, label] for text, label in [*rows, ("x", 1)])]))
    assert table.columns["text"] == [text for text, _ in [*rows, ("x", 1)]]
    for found, (_, given_label) in zip(table.columns["label"], rows, strict=False):
        assert (found, type(found)) == (given_label, type(given_label)) or float(found) == float(f"{given_label:.16g}")
    assert table.numbers == list(range(2, len(rows) + 3))


DAYS = [dt.datetime(2026, 1, 2), dt.datetime(2026, 1, 2, 3, 4)]  # noqa: DTZ001


def test_what_pandas_writes_comes_back(tmp_path: Path) -> None:
    frame = pd.DataFrame({"text": ["one", "two"], "label": [1, 2], "score": [0.1, 2.5], "day": DAYS})
    frame.to_excel(tmp_path / "a.xlsx")
    table = read_rows(tmp_path / "a.xlsx", ["text", "label", "score", "day"], where="w")
    assert list(table.columns.values()) == [["one", "two"], [1, 2], [0.1, 2.5], ["2026-01-02", "2026-01-02T03:04:00"]]


def test_empty_rows_are_left_out_and_numbers_are_those_of_the_sheet(tmp_path: Path) -> None:
    rows = [[], ["text", None, "label"], [], ["one", None, "a"], [None, "note"], [], ["two", None, None]]
    table = table_of(tmp_path / "a.xlsx", book(rows))
    assert (table.columns, table.numbers) == ({"text": ["one", None, "two"], "label": ["a", None, None]}, [4, 5, 7])


def test_a_merged_cell_counts_for_each_row_and_that_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = book([["text", "label"], ["one", "a"], ["two", None], ["three", None], ["four", "b"]])
    made.active.merge_cells("B2:B4")
    with caplog.at_level(logging.INFO):
        assert table_of(tmp_path / "a.xlsx", made).columns["label"] == ["a", "a", "a", "b"]
    assert "2 cells take a merged cell's value" in caplog.text


def test_errors_are_empty_cells_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert table_of(tmp_path / "a.xlsx", book([["text", "label"], ["one", "#N/A"], ["#1", "a"]])).columns == {
            "text": ["one", "#1"],
            "label": [None, "a"],
        }
    assert "1 errors such as #N/A are read as empty cells" in caplog.text


def test_a_formula_that_was_never_computed_is_refused(tmp_path: Path) -> None:
    message = fault_of(tmp_path / "a.xlsx", book([["text", "label"], ["one", "=A2"], ["two", "=A3"]]))
    assert message.startswith("column 'label' holds no value (sheet 'Sheet'); a formula has none until Excel has saved the file")


def test_the_sheet_is_named_or_the_only_one_with_the_columns(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = book([["notes"]], data=[["text", "label"], ["one", "a"]], empty=[])
    with caplog.at_level(logging.INFO):
        assert table_of(tmp_path / "a.xlsx", made).columns["text"] == ["one"]
    assert "read sheet 'data', the only one with the columns; `sheet` names another" in caplog.text
    twice = book([["text", "label"], ["one", "a"]], old=[["text", "label"], ["two", "b"]])
    assert fault_of(tmp_path / "a.xlsx", twice).startswith(
        "2 of 2 sheets have the columns that are read; name one by `sheet`: 'Sheet', 'old'"
    )
    for sheet, text in (("old", "two"), (1, "one"), (2, "two")):
        assert table_of(tmp_path / "a.xlsx", twice, sheet=sheet).columns["text"] == [text]
    for sheet in ("new", 3):
        assert fault_of(tmp_path / "a.xlsx", twice, sheet=sheet) == f"no sheet {sheet!r}; present: 'Sheet', 'old'"
    assert table_of(tmp_path / "a.xlsx", book([["one", "a"]]), header=["text", "label"]).columns["text"] == ["one"]
    assert "no column 'text'; present: one, a (sheet 'Sheet'); if its first row is data" in fault_of(
        tmp_path / "a.xlsx", book([["one", "a"]])
    )


def rewritten(made: openpyxl.Workbook, old: bytes, new: bytes) -> bytes:
    """The file with some XML of its sheet put otherwise."""
    before, after = io.BytesIO(), io.BytesIO()
    made.save(before)
    with zipfile.ZipFile(before) as source, zipfile.ZipFile(after, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            content = source.read(name)
            target.writestr(name, content.replace(old, new) if "sheet1" in name else content)
    return after.getvalue()


def test_a_row_far_away_makes_up_no_rows(tmp_path: Path) -> None:
    content = rewritten(book([["text", "label"], ["one", "a"]]), b'<row r="2"', b'<row r="999999999"').replace(b"A2", b"A9")
    table = table_of(tmp_path / "a.xlsx", content)
    assert (table.columns["text"], table.numbers) == (["one"], [999999999])


def test_a_bomb_is_refused_with_the_setting(tmp_path: Path) -> None:
    made, end = book([["text", "label"], ["one", "a"]]), b"</worksheet>"
    content = rewritten(made, end, b"<x/>\n" * (14 << 20) + end)
    assert len(content) < 1 << 20
    message = fault_of(tmp_path / "a.xlsx", content)
    assert "unpacks to more than 67,108,864 bytes, 200 times its size: a decompression bomb" in message
    assert "raise `max_growth`" in message
    assert table_of(tmp_path / "a.xlsx", rewritten(made, end, b"<x/>\n" * 300_000 + end)).columns["text"] == ["one"]


@pytest.mark.parametrize("long", [b"<!--" + b" " * (9 << 20) + b"-->", b'<x y="' + b">" * (9 << 20) + b'"/>', b"<!DOCTYPE x []>"])
def test_xml_that_takes_minutes_to_parse_is_refused(tmp_path: Path, long: bytes) -> None:
    content = rewritten(book([["text", "label"], ["one", "a"]]), b"</worksheet>", long + b"</worksheet>")
    assert fault_of(tmp_path / "a.xlsx", content).startswith("xl/worksheets/sheet1.xml has ")


def test_dates_are_iso_8601(tmp_path: Path) -> None:
    values = [dt.datetime(2026, 1, 2, 3, 4, 5), dt.date(2026, 1, 2), dt.time(3, 4), dt.timedelta(hours=30)]  # noqa: DTZ001
    table = table_of(tmp_path / "a.xlsx", book([["text", "label"], *([value, "x"] for value in values)]))
    assert table.columns["text"] == ["2026-01-02T03:04:05", "2026-01-02", "03:04:00", "1 day, 6:00:00"]
