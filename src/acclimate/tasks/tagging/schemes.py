"""Tagging schemes, read strictly and written as BIO.

- bio: a span starts with B- and continues with I-, also called IOB2 (Tjong Kim Sang and Veenstra 1999, https://aclanthology.org/E99-1023)
- iob1: a span starts with I-, but for one right after another of its type, which starts with B- (CoNLL-2003's own files)
- io: words of a type, I- before it or nothing; neighbours of one type are one span
- bioes: also E- for the last word and S- for the only one; M- for I- and W- for S- (BMES, BMEWO)
- bilou: also L- for the last word and U- for the only one
- conlleval: any mixture, as conlleval and seqeval read it: what cannot go on begins
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

Scheme = Literal["auto", "bio", "iob1", "io", "bioes", "bilou", "conlleval"]
STRICT: tuple[Scheme, ...] = ("bio", "iob1", "io", "bioes", "bilou")
LETTERS: Mapping[Scheme, str] = {"bio": "BI", "iob1": "BI", "io": "I", "bioes": "BIESMW", "bilou": "BILU", "conlleval": "BIESMWLU"}
_OUTSIDE = {"o", "0", "_", "-", "out", "outside"}
_MEANS = {"M": "I", "W": "S", "L": "E", "U": "S"}
"""Other names of the same letters."""
_PREFIXED = re.compile(r"([BIESLUMW])[-_:/](.+)", re.IGNORECASE)
_SUFFIXED = re.compile(r"(.+)[-_:/]([BIESLUMW])", re.IGNORECASE)
_LETTER = re.compile(r"[BIESLUMW]", re.IGNORECASE)
_LENIENT = "; read as {}; `scheme: conlleval` takes what cannot go on as a beginning, as conlleval and seqeval do"
ONLY_TYPE = "span"
"""The type of tags that are letters alone."""


@dataclass(frozen=True)
class Tag:
    """A tag as it is spelled, the letter in it, and its type; an `O` has no type."""

    spelled: str
    letter: str
    type: str = ""

    @property
    def means(self) -> str:
        """The letter as BIOES has it."""
        return _MEANS.get(self.letter, self.letter)


class ContradictionError(ValueError):
    """A tag that its scheme does not allow where it stands."""


class UnknownTagError(ValueError):
    """Tags that no scheme has."""

    def __init__(self, tags: Collection[str], problem: str) -> None:
        super().__init__(f"tag {min(tags)!r} {problem}")
        self.tags = frozenset(tags)


def is_outside(tag: str) -> bool:
    """Whether a tag is a spelling of `O`."""
    return tag.lower() in _OUTSIDE


def read_tags(tags: Collection[str]) -> dict[str, Tag]:
    """Letter and type of every tag of a table that spells all alike: `B-x`, `b_x`, `x-B`, `B` or, without a letter, `x`.

    Raises:
        UnknownTagError: some have a letter before their type, some have not, or all are numbers.
    """
    inside = sorted(tag for tag in tags if not is_outside(tag))
    if inside and all(tag.isdecimal() for tag in inside):
        raise UnknownTagError(inside, "is a number; name each by label_map, such as {'0': O, '1': B-…, '2': I-…}")
    prefixed = {tag: (match[1], match[2]) for tag in inside if (match := _PREFIXED.fullmatch(tag))}
    suffixed = {tag: (match[2], match[1]) for tag in inside if (match := _SUFFIXED.fullmatch(tag))}
    if inside and all(_LETTER.fullmatch(tag) for tag in inside) and {tag.upper() for tag in inside} & {"B", "I"}:
        found = {tag: (tag, ONLY_TYPE) for tag in inside}
    elif len(prefixed) == len(inside):
        found = prefixed
    elif len(suffixed) == len(inside) > len({type_ for _, type_ in suffixed.values()}):
        found = suffixed
    elif prefixed:
        bare = {tag for tag in inside if tag not in prefixed}
        raise UnknownTagError(bare, f"is not O, B-… or I-… as {next(iter(prefixed))!r} is; name it by label_map")
    else:
        found = {tag: ("I", tag) for tag in inside}
    read = {tag: Tag(tag, letter.upper(), type_.strip()) for tag, (letter, type_) in found.items()}
    return read | {tag: Tag(tag, "O") for tag in tags if is_outside(tag)}


def have_letters(tags: Iterable[Tag]) -> bool:
    """Whether the tags say more than their type."""
    return any(tag.letter != "O" and tag.type != tag.spelled for tag in tags)


def candidates(tags: Collection[Tag]) -> list[Scheme]:
    """The strict schemes that have all letters of a table, the likeliest first."""
    if not have_letters(tags):
        return ["io"]
    letters = {tag.letter for tag in tags} - {"O"}
    return [scheme for scheme in STRICT if scheme != "io" and letters <= set(LETTERS[scheme])]


@dataclass
class Converted:
    """The rows of a table in BIO, None for one without tags.

    Attributes:
        faults: by row, from 0.
        advice: the setting that accepts them.
    """

    scheme: Scheme
    rows: list[list[str] | None] = field(default_factory=list)
    faults: dict[int, str] = field(default_factory=dict)
    advice: str = ""


def convert(rows: Sequence[Sequence[str] | None], scheme: Scheme) -> Converted:
    """A table in BIO. `auto` is the first scheme that all rows keep to, or that most do."""
    used = set[str]().union(*(row for row in rows if row))
    try:
        known = read_tags(used)
        if scheme == "auto" and not have_letters(known.values()) and used and not any(map(is_outside, used)):
            raise UnknownTagError(used, "is not O, B-… or I-…, and none is O; `scheme: io` makes each run of a tag a span")
    except UnknownTagError as error:
        at_fault = [number for number, row in enumerate(rows) if not error.tags.isdisjoint(row or ())]
        return Converted(scheme, [], dict.fromkeys(at_fault, str(error)))
    fit = candidates(known.values())
    tried: list[Converted] = []
    for each in [scheme] if scheme != "auto" else fit or ["conlleval"]:
        tried.append(_convert(rows, known, each))  # type: ignore[arg-type]
        if not tried[-1].faults:
            return tried[-1]
    best = min(tried, key=lambda converted: len(converted.faults))
    others = [each for each in fit if each not in {one.scheme for one in tried} and not _convert(rows, known, each).faults]
    best.advice = f"; `scheme: {others[0]}` fits all rows" if others else _LENIENT.format(best.scheme)
    return best


def _convert(rows: Sequence[Sequence[str] | None], known: Mapping[str, Tag], scheme: Scheme) -> Converted:
    converted, in_bio = Converted(scheme), _InBio(known, scheme)
    for number, row in enumerate(rows):
        try:
            converted.rows.append(None if row is None else in_bio.row(row))
        except ContradictionError as error:
            converted.rows.append(None)
            converted.faults[number] = str(error)
    return converted


class _InBio(dict[tuple[str, str], str]):
    """What a tag is in BIO after the tag before it; each pair is thought through once, since a table has few of them."""

    def __init__(self, known: Mapping[str, Tag], scheme: Scheme) -> None:
        super().__init__()
        self._known = {**known, _OUTSIDE_TAG.spelled: _OUTSIDE_TAG, _END.spelled: _END}
        self._scheme = scheme

    def row(self, tags: Sequence[str]) -> list[str]:
        """One row.

        Raises:
            ContradictionError: a tag that the scheme does not have, or not in that place.
        """
        found = [self[pair] for pair in pairwise(["O", *tags])]
        self[tags[-1] if tags else "O", _END.spelled]
        return found

    def __missing__(self, pair: tuple[str, str]) -> str:
        before, tag = (self._known[spelled] for spelled in pair)
        if tag.letter not in ("O", *LETTERS[self._scheme]):
            raise ContradictionError(f"tag {tag.spelled!r} is none of {self._scheme}, whose letters are {', '.join(LETTERS[self._scheme])}")
        is_first = _BEGINS[self._scheme](before, tag)
        self[pair] = "O" if tag.letter == "O" else f"{'B' if is_first else 'I'}-{tag.type}"
        return self[pair]


def _goes_on(before: Tag, tag: Tag) -> bool:
    """Whether a tag may belong to the span of the tag before it."""
    return before.means in ("B", "I") and before.type == tag.type


def _bio(before: Tag, tag: Tag) -> bool:
    if tag.means == "I" and not _goes_on(before, tag):
        raise ContradictionError(f"{tag.spelled!r} follows {before.spelled!r}; a span starts with B-")
    return tag.means == "B"


def _iob1(before: Tag, tag: Tag) -> bool:
    if tag.means == "B" and not _goes_on(before, tag):
        raise ContradictionError(f"{tag.spelled!r} follows {before.spelled!r}; only a span right after one of its type starts with B-")
    return tag.means == "B" or not _goes_on(before, tag)


def _closed(before: Tag, tag: Tag) -> bool:
    """For schemes that mark the last word."""
    is_open, goes_on = before.means in ("B", "I"), tag.means in ("I", "E")
    if is_open and not (goes_on and before.type == tag.type):
        raise ContradictionError(
            f"{before.spelled!r} is followed by {tag.spelled!r}; the last word of a span is marked, and an only word too"
        )
    if goes_on and not is_open:
        raise ContradictionError(f"{tag.spelled!r} follows {before.spelled!r}; a span of several words starts with B-")
    return not goes_on


def _conlleval(before: Tag, tag: Tag) -> bool:
    return tag.means in ("B", "S") or not _goes_on(before, tag)


_OUTSIDE_TAG, _END = Tag("O", "O"), Tag("the end", "O")
_BEGINS: Mapping[Scheme, Callable[[Tag, Tag], bool]] = {
    "bio": _bio,
    "iob1": _iob1,
    "io": _iob1,
    "bioes": _closed,
    "bilou": _closed,
    "conlleval": _conlleval,
}
