"""The time in a cell, as a number that orders rows the same on every machine."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from acclimate.data.naming import is_blank
from acclimate.errors import DataError

TimeKind = Literal["number", "time with a zone", "time without a zone"]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_ALLOWED = "allowed: a number, or ISO 8601 such as 2026-11-21 or 2026-11-21T08:00+01:00"
_SHOWN = 3
_LEAST, _MIXED = 1000, 100
"""Neighbours above the first that are a hundredfold of one another are of two units: years and days, seconds and milliseconds."""
_FORMS = (
    (8, 5, ("%d%m%Y", "%m%d%Y"), ("%Y%m%d",)),
    (6, 20, ("%d%m%y", "%m%d%y"), ("%y%m%d", "%Y%m")),
)
"""Digits, fewest rows, ways to write a day that do not sort as numbers, and those that do."""


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
    if kinds == {"number"} and (problem := _odd_numbers(times)):
        raise DataError(f"{where}: {problem}")
    return times, kinds


def _odd_numbers(times: Sequence[float]) -> str:
    """What is wrong with numbers that do not order rows by time; nothing where they may."""
    ordered = sorted(time for time in times if time >= _LEAST)
    for small, large in pairwise(ordered):
        if large > _MIXED * small:
            return f"{small:.0f} and {large:.0f} stand in it and nothing between, times of two units as it seems; write all in one"
    for digits, least, unsorted, sortable in _FORMS:
        if len(times) >= least and _are_days(times, digits, unsorted) and not _are_days(times, digits, sortable):
            shown = f"{times[0]:0{digits}.0f}"
            return f"the numbers are days such as {shown}, the year last as it seems, which do not sort; write ISO 8601, such as 2026-11-21"
    return ""


def _are_days(times: Sequence[float], digits: int, forms: Sequence[str]) -> bool:
    """Whether all numbers are days in one of the forms."""
    return any(all(_is_day(time, digits, form) for time in times) for form in forms)


def _is_day(number: float, digits: int, form: str) -> bool:
    if number != int(number) or not 0 < number < 10**digits:
        return False
    try:
        return 1900 <= datetime.strptime(f"{int(number):0{digits}d}", form).year < 2100  # noqa: DTZ007  # only the year is asked for
    except ValueError:
        return False


def order_of_times(kinds: set[TimeKind], *, where: str) -> str | None:
    """What to log about the kinds of a table's times.

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
