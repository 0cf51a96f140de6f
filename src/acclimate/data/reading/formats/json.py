"""JSON Lines (https://jsonlines.org) and JSON (RFC 8259, https://www.rfc-editor.org/rfc/rfc8259): one array of objects."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import orjson

from acclimate.data.reading.formats import WHOLE, Reading, Record, in_batches
from acclimate.data.reading.streams import DEFAULT_ENCODING, opened

_MAX_FILE_BYTES = 512 << 20
_LARGEST_EXACT = 2.0**63
_EXACT_TYPES = {str, int, bool, type(None)}


@in_batches
def read_jsonl(reading: Reading) -> Iterator[Record]:
    """One object a line; lines without anything are left out."""
    for number, line in enumerate(_utf8_lines(reading), start=1):
        if len(line) > reading.max_record_bytes + 1:
            raise reading.too_long(f"line {number}", "line")
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError:
            if not line.decode("utf-8", "replace").strip():
                continue
            row = _parse_slowly(line.rstrip(), number, reading)
        cells = _cells(row, "line", number, reading)
        if not _EXACT_TYPES.issuperset(map(type, cells)) and any(map(_is_rounded, cells)):
            cells = _cells(_parse_slowly(line, number, reading), "line", number, reading)
        yield number, cells, len(line)


@in_batches
def read_json(reading: Reading) -> Iterator[Record]:
    """An array of objects, or an object one of whose values is such an array; the whole file is held."""
    content = _whole_file(reading)
    if not content.strip():
        return
    try:
        value = orjson.loads(content)
        if _is_rounded(value):
            value = _parse_slowly(content, 1, reading)
    except orjson.JSONDecodeError:
        value = _parse_slowly(content, 1, reading)
    for number, row in enumerate(_array(value, reading), start=1):
        cells = _cells(row, "row", number, reading)
        size = sum(len(cell) for cell in cells if type(cell) is str)
        if size > reading.max_record_bytes:
            raise reading.too_long(f"row {number}", "record")
        yield number, cells, size


def _whole_file(reading: Reading) -> bytearray:
    content = bytearray()
    for line in _utf8_lines(replace(reading, options=reading.options.model_copy(update={"max_record_bytes": _MAX_FILE_BYTES}))):
        content += line
        if len(content) > _MAX_FILE_BYTES:
            raise reading.fault(f"longer than {_MAX_FILE_BYTES:,} bytes, the limit of a JSON file, which is read whole; save it as JSONL")
    return content


def _utf8_lines(reading: Reading) -> Iterator[bytes]:
    """Lines as UTF-8, for orjson to check; one over the limit of a record comes in pieces."""
    if reading.encoding != DEFAULT_ENCODING:
        yield from map(str.encode, reading.lines())
        return
    with opened(reading.path, where=reading.where) as file:
        yield file.readline(reading.max_record_bytes + 2).removeprefix(codecs.BOM_UTF8)
        yield from iter(partial(file.readline, reading.max_record_bytes + 2), b"")


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
        is_cut = error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated")
        hint = "; it ends too early: fetch or write the file again" if is_cut else ""
        hint = "; if each line holds an object, call the file .jsonl" if error.msg == "Extra data" else hint
        problem = f"line {first_line + error.lineno - 1}: not valid JSON ({error.msg}: column {error.colno}){hint}"
        raise reading.fault(problem) from None
    except (ValueError, RecursionError) as error:
        raise reading.fault(f"line {first_line}: not valid JSON ({error})") from None
    return value


def _array(value: Any, reading: Reading) -> list[Any]:
    if type(value) is dict:
        of = (dict, list) if reading.columns == [WHOLE] else (dict,)
        arrays = [name for name, inner in value.items() if type(inner) is list and inner and type(inner[0]) in of]
        if len(arrays) > 1:
            raise reading.fault(f"a second array of objects, {arrays[1]!r} after {arrays[0]!r}; allowed is one")
        value = value[arrays[0]] if arrays else value
    if type(value) is not list:
        found = type(value).__name__ if type(value) is not dict else "an object without one"
        raise reading.fault(f"expected an array of objects, or an object with one; found {found}")
    return value


def _cells(row: Any, place: str, number: int, reading: Reading) -> list[Any]:
    if reading.columns == [WHOLE]:
        return [row]
    if type(row) is not dict:
        raise reading.fault(f"{place} {number}: expected an object, found {type(row).__name__}")
    try:
        return [row[column] for column in reading.columns]
    except KeyError:
        reading.require(list(row), suffix=f" ({place} {number})")
        raise
