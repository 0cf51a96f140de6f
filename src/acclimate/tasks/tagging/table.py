"""A list of words and as many tags, or a text and its spans; read into words and BIO tags."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from acclimate import kinds
from acclimate.data.label_lists import parse_list
from acclimate.data.naming import is_blank, is_missing
from acclimate.data.schema import DROPPED, LabelMap, collect_classes, map_labels, notes_on_labels, parse_labels, refuse_rows
from acclimate.errors import DataError
from acclimate.settings import Options
from acclimate.tasks.tagging import schemes
from acclimate.tasks.tagging.cells import listed
from acclimate.tasks.tagging.spans import SpanOptions, TaggedTable, is_spans, parse_spans, tag_table

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from acclimate.data.screening.texts import Rewriting

_LEAST_ROWS, _MOST_ONE_WORD = 20, 0.9
_TOKEN_SPANS = "; spans of characters need a text; of a list of words, give a tag for each word"
logger = logging.getLogger(__name__)


class Table(Options):
    """Columns of the table, and how they are read."""

    text: str = Field(default="text", description="column of the lists of words, of strings that `label_separator` splits, or of texts")
    label: str = Field(default="label", description="column of the lists of tags, of strings that `label_separator` splits, or of spans")
    label_map: LabelMap = Field(
        default={}, description="tags, or types of span, as the table spells them -> as the task shall have them; null leaves rows out"
    )
    label_separator: str | None = Field(default=None, description="splits strings of words and tags; without it, a space")
    scheme: schemes.Scheme = Field(default="auto", description="of the tags; auto takes the one that all rows keep to")
    words: Literal["ends", "signs"] = Field(
        default="ends",
        description="how a raw text is divided, here if the table has spans, and in serving: at white space and punctuation at the ends of "
        "words, or around each sign that is no letter or digit, and between the letters of scripts without spaces",
    )
    spans: SpanOptions = SpanOptions()
    one_word_rows: bool = Field(
        default=False, description="whether nine in ten rows may hold one word, as a table with a row for each word has"
    )

    default_metric: ClassVar[str] = "entity_f1"
    rewritten: ClassVar[Mapping[str, Rewriting]] = {"words": "words"}
    counted: ClassVar[str] = "Entities by type"

    @property
    def pair(self) -> bool:
        """One list of words."""
        return False

    @property
    def carried(self) -> dict[str, Any]:
        """How a raw text is divided into words."""
        return {"words": self.words}

    def columns(self) -> list[str]:
        """Words and tags."""
        return [self.text, self.label]

    def read(self, cells: Mapping[str, list[Any]], *, where: str) -> kinds.Examples:
        """Words, and tags in BIO, as many as words; no tags where the cell is empty.

        Raises:
            DataError: cells that cannot be read, or rows that are wrongly tagged.
        """
        labels = self._listed(cells, self.label, where)
        if _hold_spans(cells[self.text], labels):
            return self._read_spans(cells[self.text], labels, where)
        return self._read_tags(self._listed(cells, self.text, where), labels, where)

    def _listed(self, cells: Mapping[str, list[Any]], column: str, where: str) -> list[Any]:
        try:
            found = listed(cells[column])
        except ValueError as error:
            raise DataError(f"{where}: column {column!r}: {error}") from None
        if found != list(cells[column]):
            logger.info("%s: column %r: lists that were saved as text are read as lists", where, column)
        return found

    def _read_tags(self, texts: list[Any], labels: list[Any], where: str) -> kinds.Examples:
        separator = self.label_separator or " "
        spelled = parse_labels(labels, partial(parse_list, separator=separator), column=self.label, where=where, is_empty=is_blank)
        words = _parse_words(texts, separator, where=f"{where}: column {self.text!r}")
        self._refuse_one_word_rows(words, where)
        wrong = [
            f"row {row}: {len(some)} words, {len(tags)} tags"
            for row, (some, tags) in enumerate(zip(words, spelled, strict=True), start=1)
            if tags is not None and len(some) != len(tags)
        ]
        refuse_rows(wrong, len(words), "are wrongly tagged", where=where)
        mapped = map_labels(spelled, self.label_map)
        renamed = [tags if isinstance(tags, list) else None for tags in mapped] if self.label_map else spelled
        converted = schemes.convert(renamed, self.scheme)
        wrong = [f"row {row + 1}: {fault}" for row, fault in converted.faults.items()]
        refuse_rows(wrong, len(words), "are wrongly tagged", where=where, advice=converted.advice)
        self._log_tags(converted.scheme, renamed, where)
        inputs = [{"words": row} for row in words]
        if not self.label_map:
            return kinds.Examples(inputs, converted.rows, spelled)
        types = self._types_by_name(set[str]().union(*(tags for tags in spelled if tags)))
        names = [tags and [*tags, *(tag[2:] for tag in bio or () if tag != "O")] for tags, bio in zip(spelled, converted.rows, strict=True)]
        labels = [row if bio is None else _renamed(bio, types) for row, bio in zip(mapped, converted.rows, strict=True)]
        return kinds.Examples(inputs, labels, names)

    def _types_by_name(self, spelled: Collection[str]) -> dict[str, str | None]:
        """The keys of `label_map` that name a type, since they name no whole tag."""
        types = {old: new for old, new in self.label_map.items() if old not in spelled}
        return {old: "O" if new is not None and schemes.is_outside(new) else new for old, new in types.items()}

    def _read_spans(self, texts: list[Any], labels: list[Any], where: str) -> kinds.Examples:
        spans = parse_labels(labels, parse_spans, column=self.label, where=where, is_empty=is_blank)
        wrong = [
            f"row {row}: {str(text)[:40]!r} is no text"
            for row, text in enumerate(texts, start=1)
            if not isinstance(text, str) and not is_missing(text)
        ]
        refuse_rows(wrong, len(texts), "hold no text for their spans", where=f"{where}: column {self.text!r}", advice=_TOKEN_SPANS)
        types = self._types_by_name(())
        kept = [
            [replace(span, type=new) for span in row or () if (new := types.get(span.type, span.type)) not in ("O", None)] for row in spans
        ]
        leaves = [any(types.get(span.type, span.type) is None for span in row or ()) for row in spans]
        table = tag_table([text if isinstance(text, str) else "" for text in texts], kept, self.words, self.spans)
        refuse_rows(table.faults, len(texts), "have spans that cannot become tags", where=where, advice=table.advice)
        self._log_spans(table, where)
        tags = [
            None if row is None else DROPPED if left else tagged.tags for row, left, tagged in zip(spans, leaves, table.rows, strict=True)
        ]
        words = [[word.text for word in tagged.words] for tagged in table.rows]
        return kinds.Examples([{"words": row} for row in words], tags, [row and [span.type for span in row] for row in spans])

    def _log_tags(self, scheme: str, rows: Sequence[Sequence[str] | None], where: str) -> None:
        outside = sorted(filter(schemes.is_outside, set[str]().union(*(row for row in rows if row)) - {"O"}))
        also = f"; {', '.join(map(repr, outside))} as O" if outside else ""
        logger.info("%s: column %r: the tags are read as %s (`scheme: %s`)%s", where, self.label, scheme, self.scheme, also)
        if "spans" in self.model_fields_set:
            logger.warning("%s: `spans` says nothing here: column %r holds a tag for each word", where, self.label)

    def _log_spans(self, table: TaggedTable, where: str) -> None:
        unit = "UTF-16 units" if table.unit == "utf16" else table.unit
        logger.info(
            "%s: column %r holds spans; their offsets count %s, and texts are divided by `words: %s`", where, self.label, unit, self.words
        )
        for what, count in table.changed.items():
            logger.warning("%s: column %r: %d spans are %s, such as in row %d", where, self.label, count, what, table.first_changed(what))
        ignored = sorted(self.model_fields_set & {"scheme", "label_separator"})
        if ignored:
            logger.warning(
                "%s: %s says nothing here: column %r holds spans", where, " and ".join(f"`{name}`" for name in ignored), self.label
            )

    def _refuse_one_word_rows(self, words: Sequence[Sequence[str]], where: str) -> None:
        """Refuse a table with a row for each word, whose sentences would be one word long."""
        num_single = sum(len(row) == 1 for row in words)
        if len(words) >= _LEAST_ROWS and num_single >= _MOST_ONE_WORD * len(words) and not self.one_word_rows:
            problem = f"{num_single} of {len(words)} rows hold one word; if the table has a row for each word, join them by"
            advice = "`layout: {token_rows: {sentence: <column of the sentences' numbers>}}`; else write `one_word_rows: true`"
            raise DataError(f"{where}: column {self.text!r}: {problem} {advice}")

    def notes(self, spelled: Sequence[Any]) -> list[str]:
        """Keys of `label_map` that rename nothing."""
        return notes_on_labels(self.label_map, spelled)

    def collect_labels(self, by_split: Mapping[str, Sequence[Any]], *, where: str) -> list[str]:
        """`O`, and B- and I- of each type of span."""
        found = collect_classes(by_split, self.label_names, where=where, least=2, refuse_single=False)
        return ["O", *(f"{position}-{name}" for name in found if name != "O" for position in "BI")]

    def arrow_types(self) -> dict[str, pa.DataType]:
        """Lists of strings."""
        import pyarrow as pa

        return {"words": pa.list_(pa.string()), "label": pa.list_(pa.string())}

    @staticmethod
    def relabelled(row: kinds.Input, label: Any) -> Any:
        """The same."""
        return label

    @staticmethod
    def texts(row: kinds.Input) -> list[str]:
        """The words, joined by spaces."""
        return [" ".join(row["words"]).strip()]

    @staticmethod
    def label_names(label: Any) -> list[str]:
        """Types of span, so that a rare I- is no class of its own."""
        return [tag if tag == "O" else tag[2:] for tag in label]

    @staticmethod
    def counted_labels(label: Any) -> list[str]:
        """A span once, by its type."""
        return [tag[2:] for tag in label if tag[:2] in ("B-", "S-")]

    @staticmethod
    def checks(
        frame: pd.DataFrame, labels: list[str] | None, *, min_rows_per_label: int, max_class_share: float
    ) -> list[kinds.Expectation]:
        """As many tags as words, all of them known, and no I- but after its own type."""
        frame["words_minus_tags"] = [len(words) - len(tags) for words, tags in zip(frame["words"], frame["label"], strict=True)]
        frame["unknown_tags"] = [len(set(tags) - set(labels or ())) for tags in frame["label"]]
        frame["spans_without_beginning"] = [
            sum(tag[:2] == "I-" and before[2:] != tag[2:] for before, tag in zip(["O", *tags], tags, strict=False))
            for tags in frame["label"]
        ]
        frame["label"] = frame["label"].map(" ".join)
        del frame["words"]
        columns = ("words_minus_tags", "unknown_tags", "spans_without_beginning")
        return [("ExpectColumnValuesToBeInSet", {"column": column, "value_set": [0]}) for column in columns]


def _hold_spans(texts: Sequence[Any], labels: Sequence[Any]) -> bool:
    """Whether the labels are spans of a text; lists without any element are, if none has one and the texts are whole."""
    lists = [label for label in labels if isinstance(label, list | tuple)]
    if any(map(is_spans, lists)):
        return True
    return bool(lists) and not any(lists) and any(isinstance(text, str) and text.strip() for text in texts)


def _renamed(tags: Sequence[str], types: Mapping[str, str | None]) -> Any:
    """Tags with their types renamed; DROPPED where one is left out with its row."""
    names = [tag if tag == "O" else types.get(tag[2:], tag[2:]) for tag in tags]
    if None in names:
        return DROPPED
    return ["O" if name == "O" else f"{tag[:2]}{name}" for tag, name in zip(tags, names, strict=True)]


def _parse_words(values: Sequence[Any], separator: str, *, where: str) -> list[list[str]]:
    """Words as they stand there; an empty one stays, for its tag's sake."""
    parsed, wrong = [], []
    for row, value in enumerate(values, start=1):
        if isinstance(value, str):
            parsed.append([word for word in value.split(separator) if word.strip()])
        elif isinstance(value, list | tuple) or value is None:
            parsed.append(["" if word is None else str(word) for word in value or []])
        else:
            wrong.append(f"row {row}: {value!r} is neither a list of words nor a string")
    refuse_rows(wrong, len(values), "hold no words", where=where)
    return parsed


COMPONENT: type[kinds.Table] = Table
