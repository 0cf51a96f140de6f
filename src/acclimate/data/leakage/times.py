"""The time in a cell, as a number that orders rows the same on every machine."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Literal

import numpy as np

from acclimate.data.naming import is_blank
from acclimate.errors import DataError

TimeKind = Literal["number", "time with a zone", "time without a zone"]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_ALLOWED = "allowed: a number, or ISO 8601 such as 2026-11-21 or 2026-11-21T08:00+01:00"
_SHOWN = 3


def parse_time(value: Any) -> tuple[float, TimeKind]:
    """A number itself, or a date or time in seconds since 1970; without a zone it is UTC.

    Raises:
        ValueError: neither.
    """
    if is_blank(value):
        raise ValueError(f"no time; {_ALLOWED}")
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool):
        raise ValueError(f"{value!r} is no time; {_ALLOWED}")
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        value = float(value)
    if isinstance(value, int | float | Decimal):
        return _finite(value), "number"
    moment = _moment(value)
    if moment.tzinfo is None:
        return (moment.replace(tzinfo=UTC) - _EPOCH).total_seconds(), "time without a zone"
    return (moment - _EPOCH).total_seconds(), "time with a zone"


def _moment(value: Any) -> datetime:
    if isinstance(value, date) and not isinstance(value, datetime):
        value = value.isoformat()
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError:
            raise ValueError(f"{value[:60]!r} is no time; {_ALLOWED}") from None
    if not isinstance(value, datetime):
        raise ValueError(f"{str(value)[:60]!r} is no time; {_ALLOWED}")
    return value


def _finite(value: float | Decimal) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"{str(value)[:60]} is not finite; {_ALLOWED}")
    return number


def parse_times(cells: Sequence[Any], numbers: Sequence[int], *, where: str) -> tuple[list[float], set[TimeKind]]:
    """The times of a column, and of what kinds they are.

    Args:
        numbers: line or row of each cell.
    Raises:
        DataError: with the number of cells that hold no time, and the first rows at fault.
    """
    times: list[float] = []
    kinds: set[TimeKind] = set()
    wrong = []
    for number, cell in zip(numbers, cells, strict=True):
        try:
            time, kind = parse_time(cell)
        except ValueError as error:
            wrong.append(f"row {number}: {error}")
            continue
        times.append(time)
        kinds.add(kind)
    if wrong:
        raise DataError(f"{where}: {len(wrong)} of {len(cells)} cells hold no time: {'; '.join(wrong[:_SHOWN])}")
    return times, kinds


def order_of_times(kinds: set[TimeKind], *, where: str) -> str | None:
    """What to tell of the kinds of a table's times.

    Raises:
        DataError: numbers stand beside dates; nothing says which is earlier.
    """
    if "number" in kinds and len(kinds) > 1:
        raise DataError(f"{where}: numbers and dates stand in one column, and nothing orders one by the other; write all as one of them")
    if "time without a zone" not in kinds:
        return None
    return (
        "some times have a zone, and others have none; those" if len(kinds) > 1 else "the times have no zone; they"
    ) + " are read as UTC"
