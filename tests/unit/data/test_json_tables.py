"""JSON in the shapes that pandas, `datasets` and people write, each also under the other's name."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from acclimate.data.reading.options import ReadOptions
from acclimate.data.reading.readers import read_rows
from acclimate.errors import DataError

FILES = settings(max_examples=60, deadline=5000, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
ROWS = [("one, \n two", "a"), ("drei ü 🙂", "b"), ('said "so"', "a")]
RECORDS = [{"id": number, "text": text, "label": label} for number, (text, label) in enumerate(ROWS)]
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
FRAME = st.lists(st.tuples(TEXT, st.sampled_from(["a", "b"]) | st.integers(0, 9)), min_size=1, max_size=6)


def rows_of(path: Path, content: str, columns: list[str] | None = None, **options: Any) -> list[tuple[Any, ...]]:
    path.write_text(content, encoding="utf-8")
    table = read_rows(path, columns or ["text", "label"], where="w", options=ReadOptions(**options))
    assert table.numbers == sorted(set(table.numbers))
    return list(zip(*table.columns.values(), strict=True))


def fault_of(path: Path, content: str, columns: list[str] | None = None, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        rows_of(path, content, columns, **options)
    return str(caught.value).removeprefix(f"w: {path}: ")


@FILES
@given(rows=FRAME, orient=st.sampled_from(["records", "columns", "index", "split", "table"]), indent=st.sampled_from([0, 2]))
def test_what_pandas_writes_comes_back(tmp_path: Path, rows: list[tuple[str, Any]], orient: Any, indent: int) -> None:
    frame = pd.DataFrame({"n": range(len(rows)), "text": [text for text, _ in rows], "label": [label for _, label in rows]}, dtype=object)
    for name in ("a.json", "a.jsonl"):
        if name == "a.jsonl" and orient != "records":
            continue
        assert rows_of(tmp_path / name, frame.to_json(orient=orient, indent=indent, force_ascii=False)) == rows


def test_a_table_by_columns_or_index_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    frame = pd.DataFrame(RECORDS)
    for orient in ("columns", "index", "split"):
        caplog.clear()
        with caplog.at_level(logging.INFO):
            assert rows_of(tmp_path / "a.json", frame.to_json(orient=orient)) == ROWS
        assert f"a.json: read as a table written by orient='{orient}'" in caplog.text


def test_arrays_of_values_take_their_names_from_header(tmp_path: Path) -> None:
    content = pd.DataFrame(RECORDS).to_json(orient="values")
    assert "row 1: expected an object, found list; name the columns by `header: [...]`" in fault_of(tmp_path / "a.json", content)
    assert rows_of(tmp_path / "a.json", content, header=["id", "text", "label"]) == ROWS
    lines = "".join(json.dumps(list(record.values())) + "\n" for record in RECORDS)
    assert rows_of(tmp_path / "a.jsonl", lines, header=["id", "text", "label"]) == ROWS
    assert fault_of(tmp_path / "a.jsonl", lines, header=["text", "label"]) == "line 1: 3 values, where `header` names 2"


def test_an_array_for_each_column_is_read(tmp_path: Path) -> None:
    columns = {"text": [text for text, _ in ROWS], "label": [label for _, label in ROWS], "n": 3}
    assert rows_of(tmp_path / "a.json", json.dumps(columns)) == ROWS
    assert rows_of(tmp_path / "a.json", json.dumps(columns, indent=1)) == ROWS


@FILES
@given(rows=FRAME)
def test_json_lines_called_json_and_an_array_called_jsonl_are_read(tmp_path: Path, rows: list[tuple[str, Any]]) -> None:
    records = [{"text": text, "label": label, "tags": [text]} for text, label in rows]
    lines = "\n" + "\n\n".join(json.dumps(record, ensure_ascii=False) for record in records)
    assert rows_of(tmp_path / "a.json", lines) == rows
    for indent in (None, 0, 1):
        assert rows_of(tmp_path / "a.jsonl", json.dumps(records, indent=indent)) == rows
    for indent in (0, 1):
        assert rows_of(tmp_path / "a.jsonl", json.dumps({"data": records}, indent=indent)) == rows


def test_another_name_for_json_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert rows_of(tmp_path / "a.json", "".join(json.dumps(record) + "\n" for record in RECORDS)) == ROWS
        assert rows_of(tmp_path / "a.ndjson", json.dumps(RECORDS)) == ROWS
    assert "a.json: read as JSON Lines, for its first line is an object with the columns" in caplog.text
    assert "a.ndjson: read as JSON, for its first line is no object" in caplog.text


def test_lists_of_words_called_json_are_rows_and_not_columns(tmp_path: Path) -> None:
    records = [{"text": ["a", "b"], "label": ["O", "O"]}, {"text": ["c"], "label": ["O"]}]
    assert rows_of(tmp_path / "a.json", "".join(json.dumps(record) + "\n" for record in records)) == [
        (["a", "b"], ["O", "O"]),
        (["c"], ["O"]),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"text": {"0": "a", "1": "b"}, "label": {"0": "x"}}', "column 'label' does not have the 2 rows of 'text'; save it again"),
        ('{"text": ["a", "b"], "label": ["x"]}', "column 'label' does not have the 2 rows of 'text'; save it again"),
        ('{"columns": ["text", "text"], "index": [0], "data": [["a", "b"]]}', "a name stands twice among the columns"),
        ('{"columns": ["text", "label"], "index": [0], "data": [["a"]]}', "row 1: expected an array of 2 values, as `columns` names them"),
        (
            '{"text": {"text": "a", "label": "x"}, "label": {"text": "b", "label": "y"}}',
            "both the outer and the inner keys are the columns that are read; save it with orient='records'",
        ),
        ('{"a": {"text": "x"}, "b": 3}', "expected an array of objects, an object with one, or a table as pandas writes it"),
        ('{"a": {"text": "x", "label": "y"}, "b": {"text": "x"}}', "expected an array of objects, an object with one, or a table"),
    ],
)
def test_a_table_that_says_two_things_is_refused(tmp_path: Path, content: str, message: str) -> None:
    assert fault_of(tmp_path / "a.json", content).startswith(message)


def test_a_large_file_of_blank_lines_is_refused_in_time(tmp_path: Path) -> None:
    for name in ("a.jsonl", "a.csv", "a.txt"):
        head = {"a.csv": "text\none\n", "a.txt": "one\n"}.get(name, '{"text": "one"}\n')
        message = fault_of(tmp_path / name, head + "\n" * 1_100_000, ["text"])
        assert "blank lines so far and 1 records: a bomb, or no table; take the blank lines out, or raise `max_growth`" in message
        assert rows_of(tmp_path / name, head + "\n" * 1_100_000, ["text"], max_growth=2_000_000) == [("one",)]
