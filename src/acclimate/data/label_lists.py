"""Several labels in a cell: lists, lists that were saved as text, strings with a separator, and vectors of 0 and 1."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from acclimate.data.naming import is_missing, name_of

_QUOTED = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
_TOKEN = re.compile(
    rf"(?:np\.|numpy\.)\w+\(\s*({_QUOTED}|[^\s,()]+)\s*\)|({_QUOTED})|(,)|([^\s,'\"()\[\]{{}}][^,'\"()\[\]{{}}\s]*)|\s+", re.DOTALL
)
_LIST = re.compile(r"(?:array\(\s*)?\[(.*)\](?:\s*,\s*dtype=[\w.<>'\"]+)?\s*\)?|\{(.*)\}|\((.*,.*)\)", re.DOTALL)
_MAPPING = re.compile(r"""\{\s*(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[\w.]+)\s*:.*\}""", re.DOTALL)
_BARE = re.compile(r"\s*\[([^\[\]]*)\]\s*", re.DOTALL)
_BROKEN = re.compile(r"""\s*\[\s*['"]""")
_PACKED = re.compile("[01]{2,}")
_BITS = {"0": 0, "1": 1, "false": 0, "true": 1}


def refuse_mapping(value: Any) -> None:
    """Refuse a cell that holds a mapping, also one saved as text.

    Raises:
        ValueError: it does.
    """
    if isinstance(value, dict) or (isinstance(value, str) and _MAPPING.fullmatch(value.strip())):
        raise ValueError(f"{str(value)[:60]} is a mapping; write the name of the label, or a list of names with kind `multi_label`")


def list_in_text(text: str, *, bare: bool = False) -> list[Any] | None:
    """The elements of a list that was saved as text; None where a text is none.

    Read are JSON, the writing of Python and of NumPy: `["a", "b"]`, `['a', 'b']`, `{'a', 'b'}`, `[1, 0]`, `['a' 'b']`, `[1 0]`.

    Args:
        bare: also read names without quotes, `[a, b]`. Without it such a text is a label, as `[unused]` is.
    """
    found = _LIST.fullmatch(text.strip())
    if found is None:
        return None
    try:
        loaded = json.loads(text)
    except (ValueError, RecursionError):
        loaded = None
    if isinstance(loaded, list):
        return loaded
    inside = found[1] or found[2] or found[3] or ""
    if not inside.strip():
        return []
    elements = _elements(inside)
    if elements is None and bare and found[1] and not re.search(r"['\"\[\]]", inside):
        return [part.strip() for part in inside.rstrip().removesuffix(",").split(",")]
    return elements


def _elements(inside: str) -> list[Any] | None:
    """What stands between the brackets: quoted texts, numbers and constants, all parted by commas or none."""
    elements: list[Any] = []
    position, commas, is_separated = 0, 0, True
    for token in _TOKEN.finditer(inside):
        of_numpy, quoted, comma, plain = token.groups()
        written = of_numpy or quoted or plain
        if token.start() != position or (comma and is_separated) or (written and commas and not is_separated):
            return None
        position = token.end()
        if comma:
            commas, is_separated = commas + 1, True
        elif written:
            try:
                elements.append(ast.literal_eval(written))
            except (ValueError, SyntaxError):
                return None
            is_separated = False
    is_complete = position == len(inside) and commas in (0, len(elements) - 1, len(elements) if is_separated else -1)
    return elements if is_complete else None


def parse_list(value: Any, separator: str | None) -> list[str]:
    """Several labels of a row, each named once by `name_of`, in the order of the cell.

    Raises:
        ValueError: neither a list nor a string with a separator, or an empty label in it.
    """
    refuse_mapping(value)
    if isinstance(value, str):
        listed = list_in_text(value, bare=separator in (None, ","))
        if listed is None and (separator is None or _BROKEN.match(value)):
            is_broken = "begins as a list and is none" if _BROKEN.match(value) else "is one string; give label_separator"
            raise ValueError(f"{value[:60]!r} {is_broken}")
        if listed is None:
            inside = _BARE.fullmatch(value)
            listed = [part for part in (inside[1] if inside else value).split(separator) if part.strip()]
        value = listed
    if isinstance(value, set | frozenset):
        value = sorted(value, key=str)
    if not isinstance(value, list | tuple | np.ndarray):
        raise ValueError(f"{value!r} is no list")
    if any(isinstance(part, list | tuple | dict | np.ndarray) for part in value):
        raise ValueError(f"{str(value)[:60]} is a list of lists or mappings; write the names of the labels")
    if any(isinstance(part, float) and not part.is_integer() and not is_missing(part) for part in value):
        raise ValueError(f"{str(value)[:60]} holds fractions, which name no label")
    names = [name_of(part) for part in value]
    if not all(names):
        raise ValueError("one of its labels is empty")
    return names


def is_list_text(value: Any) -> bool:
    """Whether a cell is a list that was saved as text."""
    return isinstance(value, str) and list_in_text(value) is not None


def unpacked(rows: Sequence[list[str] | None]) -> list[list[str] | None]:
    """Lists of labels; where each row has one label only, and all are as long and of the digits 0 and 1, as `0110`, their digits."""
    packed = [row[0] if len(row) == 1 and _PACKED.fullmatch(row[0]) else "" for row in rows if row]
    if not packed or not all(packed) or len(set(map(len, packed))) > 1:
        return list(rows)
    return [list(row[0]) if row else row for row in rows]


def are_vectors(rows: Sequence[Sequence[str] | None]) -> bool:
    """Whether lists are vectors of 0 and 1: nothing else stands in them, and they are equally long, or say 0 or 1 twice."""
    held = [row for row in rows if row]
    if not held or any(name not in _BITS for row in held for name in row):
        return False
    return len({len(row) for row in held}) == 1 or any(len(set(row)) < len(row) for row in held)


def names_of_vector(bits: Sequence[str], names: Sequence[str]) -> list[str]:
    """The labels that a vector of 0 and 1 says hold.

    Raises:
        ValueError: it is not as long as there are names, or holds something else.
    """
    if len(bits) != len(names):
        raise ValueError(f"a vector of {len(bits)} numbers; label_names has {len(names)} names")
    return [name for name, bit in zip(names, bits, strict=True) if _bit(bit)]


def _bit(value: Any) -> int:
    name = name_of(value)
    if name not in _BITS:
        raise ValueError(f"{value!r} is neither 0 nor 1" if name else "empty, where 0 or 1 is wanted")
    return _BITS[name]


def from_columns(cells: Mapping[str, Sequence[Any]], columns: Mapping[str, str]) -> list[list[str] | ValueError | None]:
    """The labels of rows that have a column of 0 and 1 for each label; None where all of a row's are empty.

    Args:
        columns: column -> name of its label.
    """
    return [_of_row({column: cells[column][row] for column in columns}, columns) for row in range(len(next(iter(cells.values()))))]


def _of_row(row: Mapping[str, Any], columns: Mapping[str, str]) -> list[str] | ValueError | None:
    if all(is_missing(value) or value == "" for value in row.values()):
        return None
    found = []
    for column, value in row.items():
        try:
            if _bit(value):
                found.append(columns[column])
        except ValueError as error:
            return ValueError(f"column {column!r}: {error}")
    return found
