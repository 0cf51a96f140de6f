"""Cells of a tagging table: lists, and lists that were saved as text."""

from __future__ import annotations

import ast
import io
import json
import tokenize
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

_SHOWN_CHARS = 40


def listed(values: Sequence[Any]) -> list[Any]:
    """The cells of a column with lists in place of their text, if most of its texts spell one in JSON, Python or NumPy.

    Raises:
        ValueError: such a text that is no list, by its row, where the others are.
    """
    texts = [value for value in values if isinstance(value, str) and value.strip()]
    if 2 * sum(map(_looks_listed, texts)) <= len(texts):
        return list(values)
    found = []
    for row, value in enumerate(values, start=1):
        try:
            found.append(parse_list_text(value) if isinstance(value, str) and value.strip() else value)
        except ValueError as error:
            raise ValueError(f"row {row}: {error}") from None
    return found


def _looks_listed(text: str) -> bool:
    text = text.strip()
    if not (text.startswith("[") and text.endswith("]")):
        return False
    try:
        parse_list_text(text)
    except ValueError:
        return text[1:2] in ("'", '"', "[", "(", "{")
    return True


def parse_list_text(text: str) -> list[Any]:
    """The list that a text spells.

    Raises:
        ValueError: it spells none, or NumPy left a part of it out.
    """
    for parse in (json.loads, _without_commas, _python):
        try:
            value = parse(text.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError, tokenize.TokenError):
            continue
        if isinstance(value, list | tuple):
            return list(value)
    hint = "; NumPy leaves the middle of long lists out: save the column as lists" if "..." in text else ""
    raise ValueError(f"{text[:_SHOWN_CHARS]!r} is no list of JSON or Python{hint}")


def _without_commas(text: str) -> list[Any]:
    """A NumPy array, `['a' 'b']`, two of whose strings Python would read as one.

    Raises:
        ValueError: it is none.
    """
    inner = _tokens(text)[1:-1]
    if len(inner) < 2 or any(token.type not in (tokenize.STRING, tokenize.NUMBER) for token in inner):
        raise ValueError("no array")
    return [ast.literal_eval(token.string) for token in inner]


def _python(text: str) -> Any:
    kinds = [token.type for token in _tokens(text)]
    if any(pair == (tokenize.STRING, tokenize.STRING) for pair in pairwise(kinds)):
        raise ValueError("a comma is missing")
    return ast.literal_eval(text)


def _tokens(text: str) -> list[tokenize.TokenInfo]:
    ends = (tokenize.NEWLINE, tokenize.NL, tokenize.ENDMARKER, tokenize.INDENT, tokenize.DEDENT)
    return [token for token in tokenize.generate_tokens(io.StringIO(text).readline) if token.type not in ends]
