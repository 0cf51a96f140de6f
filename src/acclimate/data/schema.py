"""Labels of a task's rows, parsed, checked and listed: what the kinds of task share."""

from __future__ import annotations

import logging
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator

from acclimate.data.naming import is_blank, is_nothing, name_of
from acclimate.data.screening.texts import text_column
from acclimate.errors import DataError

_SHOWN, _LABELS_SHOWN = 3, 20
_FEW_CLASSES = 10
logger = logging.getLogger(__name__)
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


def read_names(table: Mapping[str, Sequence[Any]], column: str | None, numbers: Sequence[int], *, where: str) -> list[str]:
    """The names in a column of groups or ids; an empty one where there is no column, or a cell holds nothing, also as `nan` or `None`.

    Args:
        numbers: line or row of each cell.
    Raises:
        DataError: a cell that names nothing, such as a list.
    """
    if column is None:
        return [""] * len(numbers)
    names, wrong, in_words = [], [], 0
    for number, value in zip(numbers, table[column], strict=True):
        try:
            name = name_of(value)
        except ValueError as error:
            wrong.append(f"row {number}: {error}")
            continue
        names.append("" if is_nothing(name) else name)
        in_words += bool(name) and is_nothing(name)
    refuse_rows(wrong, len(numbers), "hold no name", where=f"{where}: column {column!r}")
    if in_words:
        logger.info("%s: column %r: %d cells say nan, None or the like; taken as empty", where, column, in_words)
    return names


class Dropped:
    """The label of a row that `label_map` leaves out."""


DROPPED = Dropped()


def _name_keys(given: Any) -> Any:
    """Name the labels of a mapping as the table's are named: YAML writes some of them as numbers, booleans or null."""
    if not isinstance(given, Mapping):
        return given
    named: dict[str, str | None] = {}
    for key, value in given.items():
        old = "null" if key is None else name_of(key)
        new = None if value is None else name_of(value)
        if new == "":
            raise ValueError(f"{key!r} is mapped to an empty name; write null to leave rows with it out")
        if named.setdefault(old, new) != new:
            raise ValueError(
                f"{key!r} stands in it twice, as {named[old]!r} and {new!r}: 1, 1.0 and '1' are one label, so are true and TRUE"
            )
    return named


LabelMap = Annotated[dict[str, str | None], BeforeValidator(_name_keys)]
"""Labels as the table spells them, by `name_of`, and the names that they get; None leaves the row out."""


def map_labels(labels: Sequence[Any], mapping: Mapping[str, str | None]) -> list[Any]:
    """Labels renamed; one that the mapping does not name stays as it is, of lists each element. A row that leaves has DROPPED."""

    def rename(label: Any) -> Any:
        if isinstance(label, list):
            renamed = [rename(one) for one in label]
            return DROPPED if DROPPED in renamed else renamed
        new = mapping.get(label, label)
        return DROPPED if new is None and label is not None else new

    return [rename(label) for label in labels] if mapping else list(labels)


def notes_on_labels(label_map: Mapping[str, str | None], spelled: Sequence[Any]) -> list[str]:
    """What is odd about the labels of a table: keys of `label_map` that rename nothing, and labels that look alike.

    Args:
        spelled: labels, or lists of them, before any was renamed.
    """
    counts = Counter(one for label in spelled for one in (label if isinstance(label, list) else [label]) if one is not None)
    notes = []
    if unused := [old for old in label_map if old not in counts]:
        more = f" and {len(counts) - _LABELS_SHOWN} more" if len(counts) > _LABELS_SHOWN else ""
        named, shown = ", ".join(map(repr, unused)), ", ".join(map(repr, sorted(counts)[:_LABELS_SHOWN]))
        notes.append(f"label_map: no row has the label {named}; labels of the table: {shown}{more}")
    notes += [
        f"label: {count} rows have the label {name!r}; if it says that there is none, leave them out by `label_map: {{{name}: null}}`"
        for name, count in sorted(counts.items())
        if is_nothing(name) and name not in label_map
    ]
    alike: dict[str, dict[str, int]] = {}
    for old, count in sorted(counts.items()):
        new = label_map.get(old, old)
        if new is not None:
            of_fold = alike.setdefault(_fold(new), {})
            of_fold[new] = of_fold.get(new, 0) + count
    for names in alike.values():
        if len(names) > 1:
            shown = ", ".join(f"{name!r} ({count} rows)" for name, count in names.items())
            notes.append(f"label: {shown} are different labels; if they are one, join them by label_map")
    return notes


def _fold(name: str) -> str:
    """What labels share that differ in case, width, joiners, or in how words are parted."""
    return re.sub(r"[\s_\u200c\u200d-]+", "", unicodedata.normalize("NFKC", name).casefold())


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
        are_numbers = len(train) > _FEW_CLASSES and all(map(_is_number, train))
        advice = (
            if_numbers
            if are_numbers and if_numbers
            else "join it to another by label_map, or leave its rows out by `label_map: {it: null}`"
        )
        named = f"{len(single)}, such as {', '.join(single[:_SHOWN])}"
        raise DataError(f"{where}: labels with one training row only: {named}; at least 2 are needed: {advice}")
    unseen = sorted({label for split in ("dev", "test") for label in counts[split]} - set(train))
    if unseen:
        where_found = ", ".join(f"{label!r} ({', '.join(s for s in ('dev', 'test') if label in counts[s])})" for label in unseen[:_SHOWN])
        known = {_fold(label): label for label in sorted(train)}
        like = [f"{label!r} is {known[_fold(label)]!r} in training: join them by label_map" for label in unseen if _fold(label) in known]
        advice = "; ".join(like[:_SHOWN]) or "add training rows, or leave those rows out by `label_map: {it: null}`"
        raise DataError(f"{where}: {len(unseen)} labels are unseen in training: {where_found}; {advice}")
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
