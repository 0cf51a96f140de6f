"""JSON Lines (https://jsonlines.org) and JSON (RFC 8259, https://www.rfc-editor.org/rfc/rfc8259): one array of objects."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import orjson

from acclimate.data.formats import Batch, Collector, Reading
from acclimate.data.streams import decode_record, describe_long, numbered_lines, text_blocks, utf8_blocks
from acclimate.errors import DataError

_SPACES = re.compile(r"[ \t\r\n]*")
_LARGEST_EXACT = 2.0**63


def read_jsonl(reading: Reading) -> Iterator[Batch]:
    """One object a line; lines without anything are left out."""
    collector = Collector(reading)
    blocks = utf8_blocks(reading.path, encoding=reading.encoding, where=reading.where)
    for first, lines in numbered_lines(blocks, reading.path, where=reading.where, max_record_bytes=reading.max_record_bytes):
        for number, line in enumerate(lines, start=first):
            if line and not line.isspace():
                row = _parse_line(line, number, reading)
                if row is not None and collector.add(number, _exact(_cells(row, number, reading), line, number, reading), len(line)):
                    yield collector.take()
    if collector:
        yield collector.take()


def _parse_line(line: bytes, number: int, reading: Reading) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return _parse_slowly(line, number, reading)


def _parse_slowly(line: bytes, number: int, reading: Reading) -> Any:
    """What orjson refuses: Python's NaN and Infinity pass, all else is named with its line."""
    text = decode_record(line, number, reading.path, where=reading.where)
    if not text.strip():
        return None
    try:
        row = json.loads(text)
    except json.JSONDecodeError as error:
        raise reading.fault(f"line {number}: not valid JSON ({error.msg} at column {error.colno})") from None
    except (ValueError, RecursionError) as error:
        raise reading.fault(f"line {number}: not valid JSON ({error})") from None
    _refuse_half_pairs(row, number, reading)
    return row


def _exact(cells: list[Any], line: bytes, number: int, reading: Reading) -> list[Any]:
    """The cells; where one is a float of 2^63 or more, parsed again: orjson rounds whole numbers over 64 bits, such as long ids."""
    if float in map(type, cells) and any(type(value) is float and abs(value) >= _LARGEST_EXACT for value in cells):
        return _cells(_parse_slowly(line, number, reading), number, reading)
    return cells


def _refuse_half_pairs(value: Any, number: int, reading: Reading) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (UnicodeEncodeError, RecursionError):
        problem = "not valid JSON (half of a surrogate pair, such as \\ud83d alone, is no character); write the character itself"
        raise reading.fault(f"line {number}: {problem}") from None


def _cells(row: Any, number: int, reading: Reading) -> list[Any]:
    if type(row) is not dict:
        raise reading.fault(f"line {number}: expected an object, found {type(row).__name__}")
    try:
        cells = [row[column] for column in reading.columns]
    except KeyError:
        reading.require(list(row), suffix=f" (line {number})")
        raise
    return cells


def read_json(reading: Reading) -> Iterator[Batch]:
    """An array of objects, or an object one of whose values is such an array; read element by element."""
    collector = Collector(reading)
    for number, row, size in _records(_Scanner(reading)):
        if collector.add(number, _cells(row, number, reading), size):
            yield collector.take()
    if collector:
        yield collector.take()


class _Scanner:
    """Walks over JSON text; holds one value and a block."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self.line = 1
        self._blocks = text_blocks(reading.path, encoding=reading.encoding, where=reading.where)
        self._text, self._at, self._is_all = "", 0, False
        self._decoder = json.JSONDecoder()

    def _read(self, min_chars: int) -> None:
        """Have that many characters ahead, unless the text ends before."""
        parts = [self._text[self._at :]]
        num_chars = len(parts[0])
        while num_chars < min_chars and not self._is_all:
            block = next(self._blocks, None)
            if block is None:
                self._is_all = True
            else:
                parts.append(block)
                num_chars += len(block)
        self._text, self._at = "".join(parts), 0

    def peek(self) -> str:
        """The next character that is no space; an empty string at the end."""
        while True:
            end = _SPACES.match(self._text, self._at).end()  # type: ignore[union-attr]  # it matches the empty string too
            self.line += self._text.count("\n", self._at, end)
            self._at = end
            if end < len(self._text):
                return self._text[end]
            if self._is_all:
                return ""
            self._read(1)

    def take(self, allowed: str, after: str) -> str:
        """Pass over one of the allowed characters and give it."""
        found = self.peek()
        if not found or found not in allowed:
            raise self.unexpected(f"expected {' or '.join(allowed)} after {after}")
        self._at += 1
        return found

    def unexpected(self, expected: str) -> DataError:
        found = self.peek()
        if not found:
            return self.reading.fault(f"line {self.line}: the JSON is cut short; {expected}; fetch or write the file again")
        return self.reading.fault(f"line {self.line}: not valid JSON ({expected}, found {found!r})")

    def value(self) -> tuple[int, Any, int]:
        """The next value with its line and its length in characters."""
        if not self.peek():
            raise self.unexpected("expected a value")
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if self._is_all or not self._may_go_on(error):
                    raise self._invalid(error) from None
            except (ValueError, RecursionError) as error:
                raise self.reading.fault(f"line {self.line}: not valid JSON ({error})") from None
            else:
                if end < len(self._text) or self._is_all or self._text[self._at] in '{["':  # a number may go on in the next block
                    return self._passed(value, end)
            if len(self._text) - self._at > self.reading.max_record_bytes:
                raise self.reading.fault(describe_long(self.line, self.reading.max_record_bytes, "value"))
            self._read(2 * (len(self._text) - self._at) + 1)  # doubled, so that parsing again costs a constant factor

    def _passed(self, value: Any, end: int) -> tuple[int, Any, int]:
        number, size = self.line, end - self._at
        if size > self.reading.max_record_bytes:
            raise self.reading.fault(describe_long(number, self.reading.max_record_bytes, "value"))
        if self._text.find("\\ud", self._at, end) >= 0 or self._text.find("\\uD", self._at, end) >= 0:
            _refuse_half_pairs(value, number, self.reading)
        self.line += self._text.count("\n", self._at, end)
        self._at = end
        return number, value, size

    def _may_go_on(self, error: json.JSONDecodeError) -> bool:
        """Whether the fault may be that the text ends here for now: a word such as `-Infinity` or an escape may be cut."""
        return error.msg.startswith("Unterminated string") or error.pos > len(self._text) - 16

    def _invalid(self, error: json.JSONDecodeError) -> DataError:
        line = self.line + self._text.count("\n", self._at, error.pos)
        if self._is_all and self._may_go_on(error) and (error.pos >= len(self._text.rstrip()) or error.msg.startswith("Unterminated")):
            return self.reading.fault(f"line {line}: the JSON is cut short ({error.msg}); fetch or write the file again")
        return self.reading.fault(f"line {line}: not valid JSON ({error.msg})")


def _records(scanner: _Scanner) -> Iterator[tuple[int, Any, int]]:
    first = scanner.peek()
    if first == "[":
        scanner.take("[", "the beginning")
        yield from _elements(scanner, must_be_objects=True)
    elif first == "{":
        yield from _array_inside(scanner)
    elif first:
        raise scanner.unexpected("expected an array of objects")
    if scanner.peek():
        raise scanner.unexpected("expected nothing more; if each line holds an object, call the file .jsonl")


def _elements(scanner: _Scanner, *, must_be_objects: bool) -> Iterator[tuple[int, Any, int]]:
    """Elements of an array whose bracket was passed over."""
    if scanner.peek() == "]":
        scanner.take("]", "[")
        return
    while True:
        number, value, size = scanner.value()
        if must_be_objects and not isinstance(value, dict):
            raise scanner.reading.fault(f"line {number}: expected an object, found {type(value).__name__}")
        yield number, value, size
        if scanner.take(",]", "an element") == "]":
            return


def _array_inside(scanner: _Scanner) -> Iterator[tuple[int, Any, int]]:
    """Elements of the one array of objects among an object's values; the other values are passed over."""
    opening = scanner.line
    scanner.take("{", "the beginning")
    found: str | None = None
    more = scanner.peek() != "}"
    if not more:
        scanner.take("}", "{")
    while more:
        if scanner.peek() != '"':
            raise scanner.unexpected("expected a name in double quotes")
        number, name, _ = scanner.value()
        scanner.take(":", "a name")
        if scanner.peek() != "[":
            scanner.value()
        else:
            scanner.take("[", "a name")
            is_table = scanner.peek() == "{"
            if is_table and found is not None:
                raise scanner.reading.fault(f"line {number}: a second array of objects, {name!r} after {found!r}; allowed is one")
            found = name if is_table else found
            for element in _elements(scanner, must_be_objects=is_table):
                if is_table:
                    yield element
        more = scanner.take(",}", "a value") == ","
    if found is None and not scanner.peek():  # what follows is told of first: an object a line is the common case
        raise scanner.reading.fault(f"line {opening}: an object without an array of objects; allowed: an array, or an object with one")
