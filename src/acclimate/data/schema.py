"""Labels of a task's rows: parsed, checked, listed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from acclimate.data.cleaning import clean_text
from acclimate.data.options import TaskConfig
from acclimate.errors import DataError

DEFAULT_METRIC = {"classification": "macro_f1", "multi_label": "micro_f1", "regression": "spearman", "tagging": "entity_f1"}
_SHOWN = 3


def parse_labels(values: Sequence[Any], config: TaskConfig, *, where: str) -> list[Any]:
    """Labels of a table in the form its kind wants; None for an empty cell, unless all are.

    Raises:
        DataError: labels that cannot be read, with their number and the first rows at fault.
    """
    parse: Callable[[Any], Any] = {
        "classification": _parse_class,
        "multi_label": lambda value: _parse_list(value, config.label_separator),
        "regression": _parse_number,
        "tagging": lambda value: _parse_list(value, config.label_separator or " "),
    }[config.kind]
    parsed: list[Any] = []
    wrong = []
    may_be_empty = config.kind != "tagging" and not all(map(_is_empty, values))
    for row, value in enumerate(values, start=1):
        try:
            parsed.append(None if may_be_empty and _is_empty(value, of_list=config.kind == "multi_label") else parse(value))
        except ValueError as error:
            wrong.append((row, str(error)))
    if wrong:
        shown = "; ".join(f"row {row}: {message}" for row, message in wrong[:_SHOWN])
        raise DataError(f"{where}: column {config.label!r}: {len(wrong)} of {len(values)} labels cannot be read: {shown}")
    return parsed


def _is_empty(value: Any, *, of_list: bool = False) -> bool:
    """No label at all. An empty string or list of several labels says that none of them holds."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return True
    return not of_list and isinstance(value, str) and not value.strip()


def _parse_class(value: Any) -> str:
    if _is_empty(value):
        raise ValueError("the label is empty")
    if isinstance(value, list | dict):
        raise ValueError(f"{value!r} is a {type(value).__name__}; for several labels a row use kind `multi_label`")
    if isinstance(value, float):
        if not value.is_integer():
            raise ValueError(f"{value!r} is no class; for numbers use kind `regression`")
        value = int(value)
    return str(value).strip()


def _parse_list(value: Any, separator: str | None) -> list[str]:
    if isinstance(value, str):
        if separator is None:
            raise ValueError(f"{value!r} is one string; give label_separator")
        return [part.strip() for part in value.split(separator) if part.strip()]
    if not isinstance(value, list | tuple):
        raise ValueError(f"{value!r} is no list")
    if any(part is None or not str(part).strip() for part in value):
        raise ValueError("one of its labels is empty")
    return [str(part).strip() for part in value]


def parse_words(values: Sequence[Any], config: TaskConfig, *, where: str) -> list[list[str]]:
    """Words of a tagging table, cleaned; a word of nothing but control characters stays as an empty one, for its tag's sake.

    Raises:
        DataError: cells that are neither a list nor a string, with their number and the first rows at fault.
    """
    parsed, wrong = [], []
    for row, value in enumerate(values, start=1):
        if isinstance(value, str):
            parsed.append([clean_text(word) for word in value.split(config.label_separator or " ") if word.strip()])
        elif isinstance(value, list | tuple) or value is None:
            parsed.append([clean_text("" if word is None else str(word)) for word in value or []])
        else:
            wrong.append(f"row {row}: {value!r} is neither a list of words nor a string")
    if wrong:
        raise DataError(f"{where}: column {config.text!r}: {len(wrong)} of {len(values)} rows hold no words: {'; '.join(wrong[:_SHOWN])}")
    return parsed


def _parse_number(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{value!r} is no number") from None
    if not math.isfinite(number):
        raise ValueError(f"{value!r} is not finite")
    return number


def check_tags(words: Sequence[Sequence[str]], tags: Sequence[Sequence[str]], *, where: str) -> None:
    """Words and tags of equal number, tags in BIO with every I- after its own type.

    Raises:
        DataError: with the number of rows at fault and the first of them.
    """
    wrong = []
    for row, (row_words, row_tags) in enumerate(zip(words, tags, strict=True), start=1):
        problem = _tag_problem(row_words, row_tags)
        if problem:
            wrong.append(f"row {row}: {problem}")
    if wrong:
        raise DataError(f"{where}: {len(wrong)} of {len(words)} rows are wrongly tagged: {'; '.join(wrong[:_SHOWN])}")


def _tag_problem(words: Sequence[str], tags: Sequence[str]) -> str | None:
    if len(words) != len(tags):
        return f"{len(words)} words, {len(tags)} tags"
    before = "O"
    for tag in tags:
        if tag != "O" and tag[:2] not in ("B-", "I-"):
            return f"tag {tag!r} is not O, B-… or I-…"
        if tag.startswith("I-") and before[2:] != tag[2:]:
            return f"{tag!r} follows {before!r}; a span starts with B-"
        before = tag
    return None


def collect_labels(by_split: dict[str, list[Any]], config: TaskConfig, *, where: str) -> list[str] | None:
    """The label list of a task, from its training rows.

    Raises:
        DataError: one class only, a class with one training row, or a label of dev or test that training has not.
    """
    if config.kind == "regression":
        if len(set(by_split["train"])) < 2:
            raise DataError(f"{where}: every training label is {by_split['train'][0]:g}; there is nothing to learn")
        return None
    counts = {split: _count(values, config.kind) for split, values in by_split.items()}
    train = counts["train"]
    if len(train) < (1 if config.kind == "multi_label" else 2):
        raise DataError(f"{where}: the training rows hold {len(train)} class ({', '.join(train) or 'none'}); at least 2 are needed")
    single = sorted(label for label, count in train.items() if count == 1)
    if single and config.kind != "tagging":
        are_numbers = all(map(_is_number, single))
        advice = "are these numbers? then kind `regression`" if are_numbers else "join it to another by label_map, or remove it"
        named = f"{len(single)}, such as {', '.join(single[:_SHOWN])}"
        raise DataError(f"{where}: labels with one training row only: {named}; at least 2 are needed: {advice}")
    unseen = sorted({label for split in ("dev", "test") for label in counts[split]} - set(train))
    if unseen:
        where_found = ", ".join(f"{label!r} ({', '.join(s for s in ('dev', 'test') if label in counts[s])})" for label in unseen[:_SHOWN])
        raise DataError(f"{where}: {len(unseen)} labels are unseen in training: {where_found}; add training rows or remove those rows")
    if config.kind == "tagging":
        return ["O", *(f"{position}-{kind}" for kind in sorted(set(train) - {"O"}) for position in "BI")]
    return sorted(train)


def _is_number(label: str) -> bool:
    try:
        float(label)
    except ValueError:
        return False
    return True


def label_names(label: Any, kind: str) -> list[str]:
    """The classes of a row; for tagging, its types of span (so that a rare I- is no class of its own); none for a number."""
    if kind == "regression":
        return []
    if kind == "classification":
        return [label]
    return [tag if tag == "O" else tag[2:] for tag in label] if kind == "tagging" else list(label)


def _count(values: Sequence[Any], kind: str) -> Counter[str]:
    """How often each class stands there."""
    return Counter(name for value in values for name in label_names(value, kind))
