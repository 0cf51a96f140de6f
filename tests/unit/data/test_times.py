"""The time in a cell: one number on every machine, or a refusal that names the row."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acclimate.data.leakage.times import order_of_times, parse_time, parse_times
from acclimate.errors import DataError

ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@settings(deadline=None)
@given(st.lists(st.datetimes(timezones=ZONES), min_size=2, max_size=2))
def test_times_are_ordered_as_they_are(times: list[datetime]) -> None:
    one, other = (parse_time(time)[0] for time in times)
    assert (one < other) == (times[0] < times[1]) or abs(one - other) < 1e-4  # a float holds year 9999 to 30 microseconds
    assert parse_time(times[0].isoformat()) == parse_time(times[0])


@settings(deadline=None)
@given(st.datetimes())
def test_a_time_without_a_zone_is_utc_in_every_type(time: datetime) -> None:
    expected = parse_time(time.replace(tzinfo=UTC))[0]
    assert parse_time(time) == parse_time(time.isoformat()) == parse_time(str(time)) == (expected, "time without a zone")


@settings(deadline=None)
@given(st.dates())
def test_a_date_is_its_midnight(day: date) -> None:
    assert parse_time(day) == parse_time(day.isoformat()) == parse_time(datetime(day.year, day.month, day.day))  # noqa: DTZ001


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/Los_Angeles"])
def test_the_zone_of_the_machine_has_no_say(zone: str) -> None:
    program = (
        "from datetime import datetime; import pandas as pd; from acclimate.data.leakage.times import parse_time;"
        "print([parse_time(v)[0] for v in (datetime(2026, 3, 29, 2, 30), pd.Timestamp('2026-03-29 02:30'), '2026-03-29T02:30')])"
    )
    done = subprocess.run([sys.executable, "-c", program], env={**os.environ, "TZ": zone}, capture_output=True, text=True, check=True)
    assert done.stdout == "[1774751400.0, 1774751400.0, 1774751400.0]\n"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (5, 5.0),
        ("5", 5.0),
        (" 1.5e3 ", 1500.0),
        (Decimal("2.5"), 2.5),
        (np.int64(7), 7.0),
        ("1970-01-02", 86400.0),
        ("1970-01-01T01:00+01:00", 0.0),
        ("1970-01-01T00:00:01Z", 1.0),
        (pd.Timestamp("1970-01-01T00:00:01", tz="Europe/Berlin"), -3599.0),
        ("0001-01-01", -62135596800.0),
        ("0001-01-01T00:00+14:00", -62135647200.0),
    ],
)
def test_ways_to_write_a_time(value: Any, expected: float) -> None:
    assert parse_time(value)[0] == expected


@pytest.mark.parametrize(
    "value",
    [None, "", float("nan"), math.inf, -math.inf, "nan", "inf", pd.NaT, np.datetime64("NaT"), True, [1], "soon", "2026-13-01", 10**400],
)
def test_what_is_no_time_is_refused_with_its_row(value: Any) -> None:
    with pytest.raises(DataError, match=r"^w: 1 of 2 cells hold no time: row 9: .*allowed: a number, or ISO 8601"):
        parse_times([1, value], [7, 9], where="w")


def test_numbers_are_only_compared_with_numbers() -> None:
    assert parse_times([1, "2.5"], [1, 2], where="w") == ([1.0, 2.5], {"number"})
    with pytest.raises(DataError, match="numbers and dates stand in one column"):
        order_of_times(parse_times([1, "2026-01-01"], [1, 2], where="w")[1], where="w")
    assert order_of_times({"number"}, where="w") is None and order_of_times({"time with a zone"}, where="w") is None
    assert order_of_times({"time without a zone"}, where="w") == "the times have no zone; they are read as UTC"
    mixed = order_of_times({"time with a zone", "time without a zone"}, where="w")
    assert mixed == "some times have a zone, and others have none; those are read as UTC"


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ([1_700_000_000, 1_700_000_100_000], "times of two units"),
        ([45000.3, 1_712_000_000], "times of two units"),
        ([2024, 20240301], "times of two units"),
        ([3142024, 12012023, 2282024, 1312022, 11302021], "the year last"),
        ([130824, 10299, 311223, 280222, 50721] * 4, "the year last"),
        ([15032024, 1042024, 28022023, 5012024, 31122022], "the year last"),
        ([20240315, 20240401, 20230228, 20240105, 20221231], ""),
        ([1.5, 20000.0, 7.0, 900000.0, 3.0], ""),
        ([1990, 2000, 2010, 2020, 2024], ""),
        ([*range(1, 5000, 50), 60_000], ""),
        ([202401, 202402, 202412, 202311] * 5, ""),
    ],
)
def test_numbers_that_do_not_order_rows_by_time_are_refused(cells: list[Any], said: str) -> None:
    if not said:
        parse_times(cells, range(len(cells)), where="w")
        return
    with pytest.raises(DataError, match=said):
        parse_times(cells, range(len(cells)), where="w")
