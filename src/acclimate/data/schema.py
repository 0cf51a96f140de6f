"""Labels of a task's rows, parsed, checked and listed: what the kinds of task share."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from acclimate.data.reading.sources import spelled_labels, unused_labels
from acclimate.data.screening.texts import text_column
from acclimate.errors import DataError

_SHOWN, _LABELS_SHOWN = 3, 20
T = TypeVar("T")


def parse_labels(
    values: Sequence[Any], parse: Callable[[Any], T], *, column: str, where: str, is_empty: Callable[[Any], bool] | None = None
) -> list[T | None]:
    """Labels of a column; None for an empty cell, unless all are.

    Args:
        parse: one cell; a ValueError says what is wrong with it.
        is_empty: which cells hold no label; None where every cell must hold one.

    Raises:
        DataError: labels that cannot be read, with their number and the first rows at fault.
    """
    parsed: list[T | None] = []
    wrong = []
    may_be_empty = is_empty is not None and not all(map(is_blank, values))
    for row, value in enumerate(values, start=1):
        try:
            parsed.append(None if may_be_empty and is_empty is not None and is_empty(value) else parse(value))
        except ValueError as error:
            wrong.append((row, str(error)))
    if wrong:
        shown = "; ".join(f"row {row}: {message}" for row, message in wrong[:_SHOWN])
        raise DataError(f"{where}: column {column!r}: {len(wrong)} of {len(values)} labels cannot be read: {shown}")
    return parsed


def is_missing(value: Any) -> bool:
    """A cell that holds nothing, not even an empty text."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def is_blank(value: Any) -> bool:
    """A cell that holds no label."""
    return is_missing(value) or (isinstance(value, str) and not value.strip())


def parse_list(value: Any, separator: str | None) -> list[str]:
    """Several labels of a row.

    Raises:
        ValueError: neither a list nor a string with a separator, or an empty label in it.
    """
    if isinstance(value, str):
        if separator is None:
            raise ValueError(f"{value!r} is one string; give label_separator")
        return [part.strip() for part in value.split(separator) if part.strip()]
    if not isinstance(value, list | tuple):
        raise ValueError(f"{value!r} is no list")
    if any(part is None or not str(part).strip() for part in value):
        raise ValueError("one of its labels is empty")
    return [str(part).strip() for part in value]


def notes_of_unused(label_map: Mapping[str, str], spelled: Sequence[Any]) -> list[str]:
    """Name the keys of a `label_map` that rename nothing."""
    unused = unused_labels(spelled, label_map) if label_map else []
    if not unused:
        return []
    present = spelled_labels(spelled)
    more = f" and {len(present) - _LABELS_SHOWN} more" if len(present) > _LABELS_SHOWN else ""
    named, shown = ", ".join(map(repr, unused)), ", ".join(map(repr, present[:_LABELS_SHOWN]))
    return [f"label_map: no row has the label {named}; labels of the table: {shown}{more}"]


def read_texts(cells: Mapping[str, list[Any]], columns: Mapping[str, str | None], *, where: str) -> list[dict[str, Any]]:
    """The inputs of rows that are texts, as the cells have them: `tables` cleans.

    Args:
        columns: name of an input -> its column in the table; None: the task has no such input.
    """
    texts = {
        name: text_column(cells[column], where=f"{where}: column {column!r}") for name, column in columns.items() if column is not None
    }
    return [dict(zip(texts, row, strict=True)) for row in zip(*texts.values(), strict=True)]


def collect_classes(
    by_split: Mapping[str, Sequence[Any]],
    names_of: Callable[[Any], list[str]],
    *,
    where: str,
    least: int,
    refuse_single: bool = True,
    if_numbers: str = "",
) -> list[str]:
    """The classes of the training rows, sorted.

    Args:
        names_of: the classes of a label.
        least: how many classes there must be.
        refuse_single: whether a class of one training row is an error.
        if_numbers: advice where such classes are numbers.

    Raises:
        DataError: too few classes, a class with one training row, or a label of dev or test that training has not.
    """
    counts = {split: Counter(name for value in values for name in names_of(value)) for split, values in by_split.items()}
    train = counts["train"]
    if len(train) < least:
        raise DataError(f"{where}: the training rows hold {len(train)} class ({', '.join(train) or 'none'}); at least 2 are needed")
    single = sorted(label for label, count in train.items() if count == 1)
    if single and refuse_single:
        are_numbers = all(map(_is_number, single))
        advice = if_numbers if are_numbers and if_numbers else "join it to another by label_map, or remove it"
        named = f"{len(single)}, such as {', '.join(single[:_SHOWN])}"
        raise DataError(f"{where}: labels with one training row only: {named}; at least 2 are needed: {advice}")
    unseen = sorted({label for split in ("dev", "test") for label in counts[split]} - set(train))
    if unseen:
        where_found = ", ".join(f"{label!r} ({', '.join(s for s in ('dev', 'test') if label in counts[s])})" for label in unseen[:_SHOWN])
        raise DataError(f"{where}: {len(unseen)} labels are unseen in training: {where_found}; add training rows or remove those rows")
    return sorted(train)


def _is_number(label: str) -> bool:
    try:
        float(label)
    except ValueError:
        return False
    return True


def refuse_rows(wrong: Sequence[str], num_rows: int, what: str, *, where: str, advice: str = "") -> None:
    """Refuse a table with rows at fault, if there are any.

    Args:
        wrong: one line a row at fault.
        what: what is the matter with them.
        advice: what follows the rows, such as the setting that accepts them.

    Raises:
        DataError: with the number of rows at fault and the first of them.
    """
    if wrong:
        raise DataError(f"{where}: {len(wrong)} of {num_rows} rows {what}: {'; '.join(wrong[:_SHOWN])}{advice}")
