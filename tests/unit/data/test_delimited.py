"""CSV and TSV: a setting names the separator or the file shows it, and a quote loses no row."""

from __future__ import annotations

import csv
import gzip
import io
import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from acclimate.data.reading.options import ReadOptions
from acclimate.data.reading.readers import read_rows
from acclimate.errors import DataError

FILES = settings(max_examples=100, deadline=5000, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
LABELS = ["billing", "hardware", "other"]


def rows_of(path: Path, content: str | bytes, columns: list[str] | None = None, **options: Any) -> list[tuple[Any, ...]]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    table = read_rows(path, columns or ["text", "label"], where="w", options=ReadOptions(**options))
    return list(zip(*table.columns.values(), strict=True))


def fault_of(path: Path, content: str | bytes, columns: list[str] | None = None, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        rows_of(path, content, columns, **options)
    message = str(caught.value)
    assert message.isprintable()
    return message.removeprefix(f"w: {path}: ")


def rows_or_fault(path: Path, content: str, columns: list[str] | None = None) -> list[tuple[Any, ...]] | str:
    try:
        return rows_of(path, content, columns)
    except DataError as error:
        return str(error)


def written(rows: list[tuple[str, ...]], *, separator: str = ",", **how: Any) -> str:
    out = io.StringIO()
    csv.writer(out, delimiter=separator, **how).writerows([("text", "label"), *rows])
    return out.getvalue()


TSV_CELL = st.text(st.characters(exclude_characters="\t\r\n\0", exclude_categories=["Cs"]), max_size=20)


@FILES
@given(rows=st.lists(st.tuples(TSV_CELL, TSV_CELL), min_size=1, max_size=20))
def test_every_line_of_a_tsv_is_a_row_whatever_its_quotes(tmp_path: Path, rows: list[tuple[str, str]]) -> None:
    content = "".join(f"{text}\t{label}\n" for text, label in [("text", "label"), *rows])
    assert rows_of(tmp_path / "a.tsv", content) == rows


@FILES
@given(
    rows=st.lists(st.tuples(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), st.text("ab ")), min_size=1),
    separator=st.sampled_from([",", ";", "\t", "|", "^"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    quote=st.sampled_from(['"', "'"]),
)
def test_what_the_csv_module_writes_comes_back(
    tmp_path: Path, rows: list[tuple[str, str]], separator: str, quoting: Any, quote: str
) -> None:
    content = written(rows, separator=separator, quoting=quoting, quotechar=quote)
    expected = [tuple(row) for row in csv.reader(io.StringIO(content, newline=""), delimiter=separator, quotechar=quote)][1:]
    assert rows_of(tmp_path / "a.csv", content, separator=separator, quote=quote) == [row for row in expected if row]


WORDS = st.lists(st.sampled_from(["the", "screen", "crashed", "before", "lunch", "Dr.", "5", "né"]), min_size=1, max_size=8).map(" ".join)


@FILES
@given(
    texts=st.lists(WORDS, min_size=30, max_size=60),
    marks=st.lists(st.tuples(st.integers(0, 29), st.sampled_from(["begin", "end"])), min_size=1, max_size=6),
    with_id=st.booleans(),
    quotes_some=st.booleans(),
)
def test_a_lone_quote_in_a_csv_swallows_no_row_in_silence(
    tmp_path: Path, texts: list[str], marks: list[tuple[int, str]], with_id: bool, quotes_some: bool
) -> None:
    """As people export by hand: fields without quotes around them, in which a quote stands."""
    for index, place in marks:
        texts[index] = f'"{texts[index]}' if place == "begin" else f'{texts[index]}"'
    lines = [f"{f'{number},' * with_id}{text},{LABELS[number % 3]}" for number, text in enumerate(texts)]
    if quotes_some:
        lines.append(f'{"77," * with_id}"well, quoted",billing')
    content = "\n".join([f"{'id,' * with_id}text,label", *lines])
    found = rows_or_fault(tmp_path / "a.csv", content)
    assert ("line " in found and "quote: none" in found) if isinstance(found, str) else len(found) == len(lines)


@FILES
@given(
    texts=st.lists(
        st.lists(st.sampled_from(["Dear team,", "please, help", "", "1,5 V", "ok", "see a, b, c", "bye"]), min_size=1, max_size=4),
        min_size=40,
        max_size=60,
    ),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    with_id=st.booleans(),
)
def test_texts_of_several_lines_are_read_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, texts: list[list[str]], quoting: Any, with_id: bool
) -> None:
    out = io.StringIO()
    lines = [[number, "\n".join(parts), LABELS[number % 3]] for number, parts in enumerate(texts)]
    csv.writer(out, quoting=quoting).writerows([line[not with_id :] for line in [["id", "text", "label"], *lines]])
    with caplog.at_level(logging.INFO):
        caplog.clear()
        assert [text for text, _ in rows_of(tmp_path / "a.csv", out.getvalue())] == ["\n".join(parts) for parts in texts]
    num_long = sum(len(parts) > 1 for parts in texts)
    assert (f"{num_long} records run over several lines by their quotes" in caplog.text) == (num_long > 0)


def test_a_swallowed_row_is_refused_with_both_readings(tmp_path: Path) -> None:
    content = 'text,label\nfine,a\n"begins,a\nlost,b\nends",b\nfine,a\n'
    message = fault_of(tmp_path / "a.csv", content)
    assert message.startswith("line 3: a quoted field runs to line 5, and each of these lines could be a row; give `quote: none`")
    assert rows_of(tmp_path / "a.csv", content, quote='"') == [("fine", "a"), ("begins,a\nlost,b\nends", "b"), ("fine", "a")]
    assert rows_of(tmp_path / "a.csv", content, quote="none")[1:3] == [('"begins', "a"), ("lost", "b")]


def test_a_quoted_tsv_is_refused_or_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = written([("one\ntwo", "a"), ('said ""', "b")], separator="\t")
    assert "give `quote: '\"'` if quotes stand around fields" in fault_of(tmp_path / "a.tsv", content)
    assert rows_of(tmp_path / "a.tsv", content, quote='"') == [("one\ntwo", "a"), ('said ""', "b")]
    with caplog.at_level(logging.INFO):
        assert rows_of(tmp_path / "a.tsv", 'text\tlabel\n"one ""x"""\ta\ntwo\tb\n')[0] == ('"one ""x"""', "a")
    assert "a.tsv: a quote is kept as a plain sign in 1 of the first 2 rows; `quote: '\"'` takes quotes around fields off" in caplog.text


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("separator", [";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_another_separator_is_found_in_the_header_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, separator: str, line_end: str, encoding: str
) -> None:
    lines = [["id", "text", "label"], ["1", "Grüße, alle", "a"], ["2", "1,5 V", "b"]]
    content = line_end.join(separator.join(line) for line in lines) + line_end
    with caplog.at_level(logging.INFO):
        assert rows_of(tmp_path / "a.csv", content.encode(encoding)) == [("Grüße, alle", "a"), ("1,5 V", "b")]
    assert f"w: {tmp_path / 'a.csv'}: read with separator {separator!r}, found in its first lines; `separator` sets another" in caplog.text
    assert ("read as utf-16, by its byte order mark" in caplog.text) == (encoding == "utf-16")


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
@pytest.mark.parametrize("first", ["sep=;\n", '"sep=;"\r\n', "SEP=;\r\n"])
def test_excels_first_line_tells_the_separator(tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, first: str) -> None:
    with caplog.at_level(logging.INFO):
        assert rows_of(tmp_path / name, f"{first}text;label\none;a\n") == [("one", "a")]
    assert "read with separator ';', as its first line says" in caplog.text
    assert read_rows(tmp_path / name, ["text"], where="w").numbers == [3]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.csv",
            "text;label\na;b;c\n",
            "no column 'text'; present: text;label; its first line looks parted otherwise: give `separator: \";\"`",
        ),
        ("a.csv", "text;x,label;text\na\n", "no column 'text'; did you mean"),
        ("a.csv", "one,a\ntwo,b\n", "no column 'text'; present: one, a; if its first line is a row, name the columns by `header: [...]`"),
        ("a.csv", "text,label,text\na,b,c\n", "column 'text' stands there twice; if its first line"),
        ("a.csv", "text,label\na,b,\nc,d\n", "1 rows do not have the header's 3 fields: line 3: 2 fields"),
        ("a.csv", "text,label\na,b\nc,d,\n", "1 rows do not have the header's 2 fields: line 3: 3 fields"),
        ("a.csv", "text,label\na,b\n  \n", "1 rows do not have the header's 2 fields: line 3: 1 fields"),
        ("a.csv", "text,label\na,b\nc\n", "1 rows do not have the header's 2 fields: line 3: 1 fields"),
        ("a.tsv", 'text\tlabel\n"a\tb"\tc\n', "1 rows do not have the header's 2 fields: line 2: 3 fields; give `quote: '\"'`"),
    ],
)
def test_what_is_not_beyond_doubt_is_refused_with_the_option(tmp_path: Path, name: str, content: str, message: str) -> None:
    assert fault_of(tmp_path / name, content).startswith(message)


def test_separator_quote_and_decimal_are_options(tmp_path: Path) -> None:
    content = "text^label^score\n'a^b'^x^1.234,5\nc^y^-0,5\nd^z^7\ne^v^1,2,3\n"
    rows = rows_of(tmp_path / "a.csv", content, ["text", "score"], separator="^", quote="'", decimal=",")
    assert rows == [("a^b", "1234.5"), ("c", "-0.5"), ("d", "7"), ("e", "1,2,3")]
    assert rows_of(tmp_path / "a.txt", "text\tlabel\none\ta\n", separator="tab") == [("one", "a")]
    assert "present: text; a table in a text file is read by its `separator`" in fault_of(tmp_path / "a.txt", "text\tlabel\none\ta\n")
    for separator in ("", ";;", '"', "\n"):
        with pytest.raises(ValidationError, match="one character, and no quote"):
            ReadOptions(separator=separator)


@FILES
@given(value=st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**9), max_value=10**9), grouped=st.booleans())
def test_a_number_with_a_decimal_comma_is_the_same_number(tmp_path: Path, value: Any, grouped: bool) -> None:
    english = f"{value:,}" if grouped else f"{value}"
    german = english.translate(str.maketrans(",.", ".,"))
    ((cell, _),) = rows_of(tmp_path / "a.csv", f"text;label\n{german};x\n", separator=";", decimal=",")
    assert float(cell) == float(value)


def test_a_file_without_a_header_line_is_given_names(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = "one,a\ntwo,b\n"
    assert rows_of(tmp_path / "a.csv", content, header=["text", "label"]) == [("one", "a"), ("two", "b")]
    assert read_rows(tmp_path / "a.csv", ["text"], where="w", options=ReadOptions(header=["text", "x"])).numbers == [1, 2]
    with caplog.at_level(logging.INFO):
        assert rows_of(tmp_path / "a.csv", "1;one, a;x\n2;two, b;y\n", header=["id", "text", "label"]) == [("one, a", "x"), ("two, b", "y")]
    assert "read with separator ';'" in caplog.text
    assert "stand there themselves; leave `header` out" in fault_of(tmp_path / "a.csv", "text,label\none,a\n", header=["text", "label"])
    assert "2 rows do not have the header's 3 fields: line 1: 2" in fault_of(tmp_path / "a.csv", content, header=["text", "label", "x"])


def test_separators_over_at_the_end_of_each_row_are_left_out_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert rows_of(tmp_path / "a.csv", "text,label\none,a,,\ntwo,b,,\n") == [("one", "a"), ("two", "b")]
    assert "2 separators over at the end of each row are left out" in caplog.text
    assert rows_of(tmp_path / "a.csv", "text,label,,\none,a,,\n,,,\n") == [("one", "a"), ("", "")]


def test_blank_lines_are_passed_over_and_blank_names_allowed(tmp_path: Path) -> None:
    content = "\n\n,text,label,,\n\n0,one,a,,\n\n1,two,b,,\n\n"
    assert rows_of(tmp_path / "a.csv", content) == [("one", "a"), ("two", "b")]
    assert read_rows(tmp_path / "a.csv", ["text"], where="w").numbers == [5, 7]


def test_a_byte_order_mark_that_denies_the_encoding_is_refused(tmp_path: Path) -> None:
    content = "text,label\none,a\n".encode("utf-8-sig")
    message = fault_of(tmp_path / "a.csv", content, encoding="cp1252")
    assert message == "begins with the byte order mark of utf-8; leave `encoding: cp1252` out"
    assert rows_of(tmp_path / "a.csv", "text,label\none,a\n".encode("utf-16"), encoding="utf-16-le") == [("one", "a")]


@FILES
@given(
    columns=st.lists(
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1), min_size=1, max_size=4, unique=True
    ),
    name=st.sampled_from(["a.csv", "a.tsv"]),
)
def test_any_header_gives_rows_or_one_line(tmp_path: Path, columns: list[str], name: str) -> None:
    assume("text" not in columns)
    out = io.StringIO()
    csv.writer(out).writerows([[*columns, "text"], ["x"] * (len(columns) + 1)])
    found = rows_or_fault(tmp_path / name, out.getvalue(), ["text"])
    assert found.isprintable() if isinstance(found, str) else found == [("x",)]


def test_blanks_between_a_separator_and_a_quote_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert rows_of(tmp_path / "a.csv", 'text, label\n"one, two", "a"\nthree, b\n') == [("one, two", "a"), ("three", "b")]
    assert "blanks between a separator and a quote are left out" in caplog.text


def test_quotes_that_a_tsv_keeps_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = 'text\tlabel\none\t"a"\n"two"\tb\n'
    assert rows_of(tmp_path / "a.tsv", content) == [("one", '"a"'), ('"two"', "b")]
    assert [record.levelname for record in caplog.records] == [
        "WARNING"
    ] and "2 cells of its head begin and end with a quote" in caplog.text
    caplog.clear()
    assert rows_of(tmp_path / "a.tsv", content, quote='"') == [("one", "a"), ("two", "b")]
    assert rows_of(tmp_path / "a.tsv", content, quote="none")[0] == ("one", '"a"') and not caplog.records


@pytest.mark.parametrize(
    ("cell", "read", "points"),
    [("1,5", "1.5", 0), ("1.234", "1234", 0), ("1.234,5", "1234.5", 0), ("1.5", "1.5", 1), ("0.125", "0.125", 1), ("1234.5", "1234.5", 1)],
)
def test_a_decimal_point_where_a_comma_is_set_is_warned_of(
    tmp_path: Path, cell: str, read: str, points: int, caplog: pytest.LogCaptureFixture
) -> None:
    assert rows_of(tmp_path / "a.csv", f"text;label\nx;{cell}\n", separator=";", decimal=",") == [("x", read)]
    assert len(caplog.records) == points


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.txt"])
@pytest.mark.parametrize(
    ("content", "what"),
    [
        (gzip.compress(b"x", mtime=0), "gzip data"),
        (b"PK\x03\x04....", "a zip or a spreadsheet"),
        (b"PAR1....", "Parquet"),
        (b"%PDF-1.7", "a PDF"),
    ],
)
def test_a_file_that_is_no_text_is_named(tmp_path: Path, name: str, content: bytes, what: str) -> None:
    assert f"it is called {name[1:]}, but holds {what}" in fault_of(tmp_path / name, content, ["text"])


@pytest.mark.parametrize("ending", [".conll", ".iob", ".conllu"])
def test_the_file_of_a_tool_names_the_layout(tmp_path: Path, ending: str) -> None:
    assert "such as `layout: conll`" in fault_of(tmp_path / f"a{ending}", "one O\n")
