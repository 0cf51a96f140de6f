"""JSON Lines (https://jsonlines.org) and JSON (RFC 8259, https://www.rfc-editor.org/rfc/rfc8259), each also under the other's name."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import orjson

from acclimate.data.reading.formats import WHOLE, Batch, Reading, Record, in_batches
from acclimate.data.reading.formats.frames import records_of, rows_of
from acclimate.data.reading.streams import DEFAULT_ENCODING
from acclimate.errors import DataError

_MAX_FILE_BYTES = 512 << 20
_LARGEST_EXACT = 2.0**63
_EXACT_TYPES = {str, int, bool, type(None)}
_LINE_ENDS = (b"\n", b"\r\n")
_EXTRA = "Extra data"


def read_jsonl(reading: Reading) -> Iterator[Batch]:
    """One object a line; a file that is one JSON value over several lines, or one array, is read as .json."""
    if _is_json(reading):
        reading.note("read as JSON, for its first line is no object")
        return _json_batches(reading)
    return _jsonl_batches(reading)


def read_json(reading: Reading) -> Iterator[Batch]:
    """An array of objects, an object with one, or a table as pandas writes it; the whole file is held. JSON Lines are read as such."""
    if _is_jsonl(reading):
        reading.note("read as JSON Lines, for its first line is an object with the columns")
        return _jsonl_batches(reading)
    return _json_batches(reading)


def _first_line(reading: Reading) -> bytes:
    """The first line that is not blank, stripped."""
    for number, line in enumerate(_utf8_lines(reading, reading.max_record_bytes), start=1):
        if line.strip():
            return line.strip()
        reading.check_blank(number, number, 0)
    return b""


def _is_json(reading: Reading) -> bool:
    line = _first_line(reading)
    if reading.columns == [WHOLE] and line.startswith(b"[") and line.endswith(b"]"):
        return not _has_second_line(reading) and _is_array_of_records(line)
    return line == b"{" or (line.startswith(b"[") and not (reading.options.header and line.endswith(b"]") and not line.startswith(b"[[")))


def _is_array_of_records(line: bytes) -> bool:
    """Whether an array holds records, and is not one itself."""
    try:
        types = {type(one) for one in json.loads(line)}
    except (ValueError, RecursionError):
        return True
    return types in ({dict}, {list})


def _is_jsonl(reading: Reading) -> bool:
    """Whether the first line alone is an object that holds the wanted columns, and not a table written column by column."""
    line = _first_line(reading)
    try:
        row = json.loads(line) if line.startswith(b"{") else None
    except (ValueError, RecursionError):
        return False
    if reading.columns == [WHOLE]:
        return type(row) is dict and (_has_second_line(reading) or not _holds_records(row))
    if type(row) is not dict or not all(column in row for column in reading.columns):
        return False
    return _has_second_line(reading) or not any(type(row[column]) in (list, dict) for column in reading.columns)


def _holds_records(row: Any) -> bool:
    """Whether an object is a file of records; one with two arrays of them is, and is refused as such."""
    try:
        return records_of(row) is not None
    except ValueError:
        return True


def _has_second_line(reading: Reading) -> bool:
    num_lines = 0
    for number, line in enumerate(_utf8_lines(reading, reading.max_record_bytes), start=1):
        num_lines += bool(line.strip())
        reading.check_blank(number, number, num_lines)
        if num_lines == 2:
            return True
    return False


@in_batches
def _jsonl_batches(reading: Reading) -> Iterator[Record]:
    num_blank, longest = 0, reading.max_record_bytes + 1
    for number, line in enumerate(_utf8_lines(reading, reading.max_record_bytes), start=1):
        if len(line) > longest:
            raise reading.too_long(f"line {number}", "line")
        if line in _LINE_ENDS:  # orjson takes fifty times as long to refuse them
            num_blank += 1
            reading.check_blank(number, num_blank, number - num_blank)
            continue
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError:
            if not line.strip() or not line.decode("utf-8", "replace").strip():
                num_blank += 1
                reading.check_blank(number, num_blank, number - num_blank)
                continue
            row = _parse_slowly(line.rstrip(), number, reading)
        cells = _cells(row, "line", number, reading)
        if not _EXACT_TYPES.issuperset(map(type, cells)) and any(map(_is_rounded, cells)):
            cells = _cells(_parse_slowly(line, number, reading), "line", number, reading)
        yield number, cells, len(line)


@in_batches
def _json_batches(reading: Reading) -> Iterator[Record]:
    content = _whole_file(reading)
    if not content.strip():
        return
    try:
        value = orjson.loads(content)
        if _is_rounded(value):
            value = _parse_slowly(content, 1, reading)
    except orjson.JSONDecodeError:
        value = _parse_slowly(content, 1, reading)
    for number, row in enumerate(_rows(value, reading), start=1):
        cells = _cells(row, "row", number, reading)
        size = sum(len(cell) for cell in cells if type(cell) is str)
        if size > reading.max_record_bytes:
            raise reading.too_long(f"row {number}", "record")
        yield number, cells, size


def _rows(value: Any, reading: Reading) -> Iterator[Any]:
    try:
        rows = records_of(value) if reading.columns == [WHOLE] else rows_of(value, reading.columns, reading.options.header)
    except ValueError as error:
        raise reading.fault(error) from None
    if rows is None:
        found = type(value).__name__ if type(value) is not dict else "an object without one"
        raise reading.fault(f"expected an array of objects, an object with one, or a table as pandas writes it; found {found}")
    if rows[0] != "rows":
        reading.note(f"read as a table written by {rows[0]}")
    return rows[1]


def _whole_file(reading: Reading) -> bytearray:
    content = bytearray()
    for line in _utf8_lines(reading, _MAX_FILE_BYTES):
        content += line
        if len(content) > _MAX_FILE_BYTES:
            raise reading.fault(f"longer than {_MAX_FILE_BYTES:,} bytes, the limit of a JSON file, which is read whole; save it as JSONL")
    return content


def _utf8_lines(reading: Reading, max_bytes: int) -> Iterator[bytes]:
    """Lines as UTF-8, for orjson to check; one over the limit comes in pieces."""
    with reading.open() as file:
        if reading.encoding_of(file) == DEFAULT_ENCODING:
            yield file.readline(max_bytes + 2).removeprefix(codecs.BOM_UTF8)
            yield from iter(partial(file.readline, max_bytes + 2), b"")
            return
    yield from map(str.encode, reading.lines())


def _is_rounded(value: Any) -> bool:
    """Whether it may hold a whole number over 64 bits, such as a long id: orjson gives the nearest float."""
    pending = [value]
    while pending:
        value = pending.pop()
        if type(value) is float and abs(value) >= _LARGEST_EXACT:
            return True
        if type(value) in (dict, list):
            pending += value.values() if type(value) is dict else value
    return False


def _parse_slowly(content: bytes | bytearray, first_line: int, reading: Reading) -> Any:
    """What orjson refuses or rounds: Python's NaN and Infinity and long numbers pass, all else is named with its line."""
    try:
        text = content.decode("utf-8")
        if "\0" in text:
            raise reading.has_nul(first_line + text.count("\n", 0, text.index("\0")))
        value = json.loads(text)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeDecodeError as error:
        raise reading.undecodable(error, first_line) from None
    except UnicodeEncodeError:
        problem = "not valid JSON (half of a surrogate pair, such as \\ud83d alone, is no character); write the character itself"
        raise reading.fault(f"line {first_line}: {problem}") from None
    except json.JSONDecodeError as error:
        raise _malformed(error, text, first_line, reading) from None
    except (ValueError, RecursionError) as error:
        raise reading.fault(f"line {first_line}: not valid JSON ({error})") from None
    return value


def _malformed(error: json.JSONDecodeError, text: str, first_line: int, reading: Reading) -> DataError:
    is_cut = error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated")
    hint = "; it ends too early: fetch or write the file again" if is_cut else ""
    if error.msg == _EXTRA:
        is_json = reading.ending == ".json"
        hint = "; if each line holds an object, call the file .jsonl" if is_json else "; name the columns of arrays by `header: [...]`"
    return reading.fault(f"line {first_line + error.lineno - 1}: not valid JSON ({error.msg}: column {error.colno}){hint}")


def _cells(row: Any, place: str, number: int, reading: Reading) -> list[Any]:
    if reading.columns == [WHOLE]:
        return [row]
    if type(row) is list and reading.options.header:
        row = _named(row, place, number, reading)
    if type(row) is not dict:
        advice = "; name the columns by `header: [...]`" if type(row) is list else ""
        raise reading.fault(f"{place} {number}: expected an object, found {type(row).__name__}{advice}")
    try:
        return [row[column] for column in reading.columns]
    except KeyError:
        reading.require(list(row), suffix=f" ({place} {number}); a file of an annotation tool is read by its `layout`")
        raise


def _named(row: list[Any], place: str, number: int, reading: Reading) -> dict[str, Any]:
    header = reading.options.header or []
    if len(row) != len(header):
        raise reading.fault(f"{place} {number}: {len(row)} values, where `header` names {len(header)}")
    return dict(zip(header, row, strict=True))
