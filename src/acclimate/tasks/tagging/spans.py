"""Spans of a text, as annotation tools write them, into words and BIO tags."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Any, Literal

from pydantic import Field

from acclimate.data.naming import is_missing
from acclimate.settings import Options
from acclimate.tasks.tagging.decode import SPLITS, Word

Unit = Literal["characters", "utf16", "bytes"]
UNITS: tuple[Unit, ...] = ("characters", "utf16", "bytes")
_STARTS = ("start", "start_offset", "start_char", "begin")
_ENDS = ("end", "end_offset", "end_char", "stop")
_TYPES = ("label", "labels", "type", "entity", "entity_type", "tag")
_SHOWN_CHARS = 40


class SpanOptions(Options):
    """How spans of characters become tags."""

    offsets: Literal["auto", "characters", "utf16", "bytes"] = Field(
        default="auto",
        description="what start and end count; auto asks the spans' own texts, where they are given, and else takes characters",
    )
    inside_word: Literal["refuse", "widen", "drop"] = Field(default="refuse", description="a span that begins or ends inside a word")
    overlapping: Literal["refuse", "longest"] = Field(default="refuse", description="spans that share a word; a word has one tag")


@dataclass(frozen=True)
class Span:
    """A stretch of a text with its type; `text` is what the tool says that it holds."""

    start: int
    end: int
    type: str
    text: str | None = None


@dataclass
class Tagged:
    """A text's words and tags; or what is wrong with it, of which the first is shown."""

    words: list[Word] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    changed: Counter[str] = field(default_factory=Counter)


def is_spans(value: Any) -> bool:
    """Whether a label is a list of spans: records, or lists of a start, an end and a type."""
    return isinstance(value, list | tuple) and bool(value) and isinstance(value[0], list | tuple | Mapping)


def parse_spans(value: Any) -> list[Span]:
    """The spans of a row, as doccano, Label Studio, Prodigy and spaCy spell them.

    Raises:
        ValueError: one of them is no span.
    """
    if is_missing(value):
        return []
    if not isinstance(value, list | tuple):
        raise ValueError(f"{str(value)[:_SHOWN_CHARS]!r} is no list of spans")
    return [_parse_span(each) for each in value]


def _parse_span(value: Any) -> Span:
    if isinstance(value, Mapping):
        parts = [next((value[name] for name in names if value.get(name) is not None), None) for names in (_STARTS, _ENDS, _TYPES)]
        text = value.get("text")
    else:
        parts, text = list(value) if isinstance(value, list | tuple) else [], None
    if len(parts) == 3 and isinstance(parts[2], list | tuple):
        if len(parts[2]) != 1:
            raise ValueError(
                f"a span has {len(parts[2])} types ({', '.join(map(str, parts[2]))}); a word has one tag, so leave one of them"
            )
        parts[2] = parts[2][0]
    if len(parts) != 3 or isinstance(parts[2], Mapping) or parts[2] is None or not str(parts[2]).strip():
        raise ValueError(f"{str(value)[:_SHOWN_CHARS]!r} is no span; allowed: [start, end, type], or {{start, end, label}}")
    start, end = _whole_number(parts[0], value), _whole_number(parts[1], value)
    return Span(start, end, str(parts[2]).strip(), text if isinstance(text, str) else None)


def _whole_number(value: Any, span: Any) -> int:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and value.strip().isdecimal():
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError(f"{str(span)[:_SHOWN_CHARS]!r} is no span: {value!r} is no whole number")


def misplaced(text: str, spans: Sequence[Span], unit: Unit) -> str | None:
    """What is wrong with the first span that does not lie in the text, or does not hold what it says, if its offsets count `unit`."""
    place = _places(text, unit)
    for span in spans:
        start, end = place(span.start), place(span.end)
        shown = f"span {span.start} to {span.end} ({span.type})"
        if start is None or end is None:
            return f"{shown} does not lie in the text of {len(text)} characters, or cuts one"
        if start >= end:
            return f"{shown} ends where it starts, or before"
        if span.text is not None and _visible(text[start:end]) != _visible(span.text):
            return f"{shown} holds {text[start:end][:_SHOWN_CHARS]!r}, not {span.text[:_SHOWN_CHARS]!r} as it says"
    return None


def _visible(text: str) -> str:
    """A text without white space: Label Studio writes a line end as backslash and n in a span's text."""
    return "".join(text.replace("\\n", " ").split())


def in_characters(text: str, spans: Sequence[Span], unit: Unit) -> list[Span]:
    """Spans that lie in the text, with offsets that count characters."""
    place = _places(text, unit)
    return [Span(place(span.start) or 0, place(span.end) or 0, span.type, span.text) for span in spans]


def _places(text: str, unit: Unit) -> Callable[[int], int | None]:
    """From an offset to the place of its character; None where there is none."""
    if unit == "characters" or text.isascii():
        return lambda offset: offset if 0 <= offset <= len(text) else None
    width = {"utf16": "utf-16-le", "bytes": "utf-8"}[unit]
    size = 2 if unit == "utf16" else 1
    ends = accumulate((len(sign.encode(width, "surrogatepass")) // size for sign in text), initial=0)
    return {offset: place for place, offset in enumerate(ends)}.get


def tag_words(text: str, spans: Sequence[Span], split: Callable[[str], list[Word]], options: SpanOptions) -> Tagged:
    """Words and BIO tags of a text.

    Args:
        spans: within the text, counting characters.
    """
    tagged = Tagged(split(text))
    starts, ends = [word.start for word in tagged.words], [word.end for word in tagged.words]
    found: list[tuple[int, int, Span]] = []
    for span in dict.fromkeys(_trimmed(text, span, tagged) for span in spans):
        first, last = bisect_right(starts, span.start) - 1, bisect_left(ends, span.end)
        if span.start == span.end:
            tagged.faults.append(f"a span of {span.type} holds white space only")
        elif (starts[first], ends[last]) == (span.start, span.end):
            found.append((first, last, span))
        elif options.inside_word == "refuse":
            tagged.faults.append(_inside(text, span, tagged.words[first : last + 1]))
        else:
            tagged.changed["widened to whole words" if options.inside_word == "widen" else "dropped, since they end inside a word"] += 1
            if options.inside_word == "widen":
                found.append((first, last, span))
    tagged.changed["given twice"] += len(spans) - len(set(spans))
    _write_tags(tagged, _apart(found, text, tagged, options))
    return tagged


def _trimmed(text: str, span: Span, tagged: Tagged) -> Span:
    """A span without white space at its ends."""
    inner = text[span.start : span.end]
    start = span.start + len(inner) - len(inner.lstrip())
    trimmed = Span(start, start + len(inner.strip()), span.type)
    tagged.changed["without the white space at their ends"] += len(inner) != trimmed.end - trimmed.start
    return trimmed


def _inside(text: str, span: Span, words: Sequence[Word]) -> str:
    whole = text[words[0].start : words[-1].end]
    part = text[span.start : span.end]
    return f"{part[:_SHOWN_CHARS]!r} ({span.type}, {span.start} to {span.end}) is a part of the word {whole[:_SHOWN_CHARS]!r}"


def _apart(found: list[tuple[int, int, Span]], text: str, tagged: Tagged, options: SpanOptions) -> list[tuple[int, int, Span]]:
    """Spans that share no word: all, or the longest of those that do."""
    kept: list[tuple[int, int, Span]] = []
    if options.overlapping == "refuse":
        for one, other in pairwise(sorted(found, key=lambda each: each[:2])):
            if other[0] <= one[1]:
                shown = (f"{text[span.start : span.end][:_SHOWN_CHARS]!r} ({span.type})" for span in (one[2], other[2]))
                tagged.faults.append(" and ".join(shown) + " share a word")
        return found
    taken: set[int] = set()
    for each in sorted(found, key=lambda each: (each[0] - each[1], each[0])):
        words = range(each[0], each[1] + 1)
        if taken.isdisjoint(words):
            kept.append(each)
            taken.update(words)
    tagged.changed["dropped, since a longer one holds their words"] += len(found) - len(kept)
    return kept


def _write_tags(tagged: Tagged, spans: Sequence[tuple[int, int, Span]]) -> None:
    tagged.tags = ["O"] * len(tagged.words)
    for first, last, span in spans:
        tagged.tags[first : last + 1] = [f"B-{span.type}", *[f"I-{span.type}"] * (last - first)]


@dataclass
class TaggedTable:
    """The rows of a table: words and tags, what was changed, and the setting that would accept what is wrong."""

    rows: list[Tagged]
    unit: Unit
    advice: str = ""

    @property
    def faults(self) -> list[str]:
        """One line a row at fault."""
        return [f"row {row}: {tagged.faults[0]}" for row, tagged in enumerate(self.rows, start=1) if tagged.faults]

    @property
    def changed(self) -> Counter[str]:
        """How many spans were changed, by what was done to them."""
        return +sum((tagged.changed for tagged in self.rows), Counter())

    def first_changed(self, what: str) -> int:
        """The first row in which that was done, from 1."""
        return next(row for row, tagged in enumerate(self.rows, start=1) if tagged.changed[what])


def tag_table(texts: Sequence[str], spans: Sequence[Sequence[Span]], words: str, options: SpanOptions) -> TaggedTable:
    """Words and tags of all rows.

    Args:
        words: how a text is divided, of `decode.SPLITS`.
    """
    unit = _unit(texts, spans) if options.offsets == "auto" else options.offsets
    table = _tag_rows(texts, spans, words, options, unit)
    if table.faults:
        table.advice = _advice(texts, spans, words, options, unit, table)
    return table


def _unit(texts: Sequence[str], spans: Sequence[Sequence[Span]]) -> Unit:
    """What the offsets count, if the spans say what they hold; else characters."""
    if not all(span.text is not None for row in spans for span in row):
        return "characters"
    fits = (unit for unit in UNITS if not any(misplaced(*row, unit) for row in zip(texts, spans, strict=True)))
    return next(fits, "characters")


def _tag_rows(texts: Sequence[str], spans: Sequence[Sequence[Span]], words: str, options: SpanOptions, unit: Unit) -> TaggedTable:
    rows = []
    for text, found in zip(texts, spans, strict=True):
        fault = misplaced(text, found, unit)
        rows.append(Tagged(faults=[fault]) if fault else tag_words(text, in_characters(text, found, unit), SPLITS[words], options))
    return TaggedTable(rows, unit)


def _advice(texts: Sequence[str], spans: Sequence[Sequence[Span]], words: str, options: SpanOptions, unit: Unit, table: TaggedTable) -> str:
    """The settings by which all rows, or more of them, would be read."""
    for other in UNITS:
        if other != unit and not _tag_rows(texts, spans, words, options, other).faults:
            return f"; all fit by `spans: {{offsets: {other}}}`"
    said = []
    first = " ".join(table.faults)
    if "part of the word" in first:
        finer = next((name for name in SPLITS if name != words and not _tag_rows(texts, spans, name, options, unit).faults), None)
        widen = "`spans: {inside_word: widen}` takes the whole word, `drop` leaves the span out"
        said.append(f"`words: {finer}` divides words so that all fit" if finer else widen)
    if "share a word" in first:
        said.append("`spans: {overlapping: longest}` keeps the longest")
    return f"; {'; '.join(said)}" if said else "; correct the spans, or leave the rows out"
