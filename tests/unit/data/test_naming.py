"""The name in a cell: equal for every spelling of one thing, and different for different things."""

from __future__ import annotations

import unicodedata
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acclimate.data.naming import is_missing, name_of

UNSEEN = st.sampled_from(["\u200b", "\ufeff", "\u00ad", "\u2060", "\u200e", "\ufe0f", "\u202c", "\x07"])


@settings(deadline=None)
@given(st.text(max_size=20))
def test_naming_a_name_changes_nothing(text: str) -> None:
    name = name_of(text)
    assert name_of(name) == name == name.strip()


@settings(deadline=None)
@given(st.text(max_size=12), st.sampled_from(["NFC", "NFD"]), st.sampled_from(["", " ", "\n", "\u00a0"]))
def test_composed_and_decomposed_texts_with_white_space_around_have_one_name(text: str, form: Any, space: str) -> None:
    assert name_of(space + unicodedata.normalize(form, text) + space) == name_of(text)


@settings(deadline=None)
@given(st.text(st.characters(exclude_characters="\u200c\u200d"), min_size=1, max_size=8), UNSEEN, st.integers(0, 8))
def test_a_sign_that_shows_nothing_changes_no_name(text: str, unseen: str, place: int) -> None:
    assert name_of(text[:place] + unseen + text[place:]) == name_of(text)


@settings(deadline=None)
@given(st.integers(-(10**30), 10**30))
def test_a_whole_number_has_one_name_in_every_type(number: int) -> None:
    names = {name_of(number), name_of(str(number)), name_of(f"{number}.0"), name_of(f" {number}.00 "), name_of(Decimal(number))}
    if abs(number) < 2**53:
        names |= {name_of(float(number)), name_of(np.float64(number)), name_of(np.int64(number))}
    assert names == {str(number)}


@settings(deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(allow_nan=False, allow_infinity=False))
def test_different_numbers_have_different_names(one: float, other: float) -> None:
    assert (name_of(one) == name_of(other)) == (one == other)


@pytest.mark.parametrize(
    ("spellings", "name"),
    [
        ([True, "true", "TRUE", "True", np.bool_(True)], "true"),
        ([0, 0.0, -0.0, "0", "0.0", "-0.0", Decimal("0.00")], "0"),
        ([Decimal("2.50"), 2.5, "2.5"], "2.5"),
        (["cat", "ca\u200bt", "ca\u200dt", " cat "], "cat"),
        (["café", "cafe\u0301", "caf\u00ade\u0301"], "café"),
        ([None, float("nan"), np.nan, pd.NaT, np.datetime64("NaT"), Decimal("NaN"), "", " \n", "\u200b"], ""),
        ([date(2024, 1, 1), "2024-01-01"], "2024-01-01"),
        ([datetime(2024, 1, 1), "2024-01-01 00:00:00", pd.Timestamp("2024-01-01")], "2024-01-01 00:00:00"),  # noqa: DTZ001
    ],
)
def test_spellings_of_one_thing_have_one_name(spellings: list[Any], name: str) -> None:
    assert [name_of(each) for each in spellings] == [name] * len(spellings)


@pytest.mark.parametrize(
    ("one", "other"), [("007", "7"), ("1.10", "1.1"), ("a", "A"), ("\u06cc\u200c\u062e", "\u06cc\u062e"), ("C++", "C#"), (1, 1.5)]
)
def test_different_things_have_different_names(one: Any, other: Any) -> None:
    assert name_of(one) != name_of(other)


@pytest.mark.parametrize("value", [[1], {"a": 1}, b"a", ("a",)])
def test_what_is_no_name_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="names nothing"):
        name_of(value)


def test_a_missing_cell_is_none_or_no_number() -> None:
    assert all(map(is_missing, [None, float("nan"), pd.NaT, np.float32("nan")]))
    assert not any(map(is_missing, ["", "nan", 0, False, [], "None"]))
