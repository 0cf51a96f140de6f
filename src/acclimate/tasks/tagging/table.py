"""A list of words, and as many BIO tags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from acclimate import kinds
from acclimate.data.reading.sources import map_labels
from acclimate.data.schema import collect_classes, notes_of_unused, parse_labels, parse_list, refuse_rows
from acclimate.data.screening.cleaning import clean_text
from acclimate.settings import Options

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


class Table(Options):
    """Columns of the table."""

    text: str = Field(default="text", description="column of the lists of words, or of strings that `label_separator` splits")
    label: str = Field(default="label", description="column of the lists of tags, or of strings that `label_separator` splits")
    label_map: dict[str, str] = Field(default={}, description="tags as the table spells them -> as the task shall have them")
    label_separator: str | None = Field(default=None, description="splits strings of words and tags; without it, a space")

    default_metric: ClassVar[str] = "entity_f1"
    # Words keep their number for their tags' sake, so only their own cleaning applies.
    cleaned: ClassVar[tuple[str, ...]] = ()
    counted: ClassVar[str] = "Entities by type"

    @property
    def pair(self) -> bool:
        """One list of words."""
        return False

    @property
    def carried(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def columns(self) -> list[str]:
        """Words and tags."""
        return [self.text, self.label]

    def read(self, cells: Mapping[str, list[Any]], *, where: str) -> kinds.Examples:
        """Words, cleaned, and tags in BIO, as many as words.

        Raises:
            DataError: cells that cannot be read, or rows that are wrongly tagged.
        """
        separator = self.label_separator or " "
        spelled = parse_labels(cells[self.label], partial(parse_list, separator=separator), column=self.label, where=where)
        tags = map_labels(spelled, self.label_map)
        words = _parse_words(cells[self.text], separator, where=f"{where}: column {self.text!r}")
        found = [_tag_problem(*row) for row in zip(words, tags, strict=True)]
        refuse_rows(
            [f"row {row}: {problem}" for row, problem in enumerate(found, start=1) if problem],
            len(words),
            "are wrongly tagged",
            where=where,
        )
        return kinds.Examples([{"words": row} for row in words], tags, spelled)

    def notes(self, spelled: Sequence[Any]) -> list[str]:
        """Keys of `label_map` that rename nothing."""
        return notes_of_unused(self.label_map, spelled)

    def collect_labels(self, by_split: Mapping[str, Sequence[Any]], *, where: str) -> list[str]:
        """`O`, and B- and I- of each type of span."""
        found = collect_classes(by_split, self.label_names, where=where, least=2, refuse_single=False)
        return ["O", *(f"{position}-{name}" for name in found if name != "O" for position in "BI")]

    def arrow_types(self) -> dict[str, pa.DataType]:
        """Lists of strings."""
        import pyarrow as pa

        return {"words": pa.list_(pa.string()), "label": pa.list_(pa.string())}

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


def _parse_words(values: Sequence[Any], separator: str, *, where: str) -> list[list[str]]:
    """Cleaned words; one of nothing but control characters stays as an empty one, for its tag's sake."""
    parsed, wrong = [], []
    for row, value in enumerate(values, start=1):
        if isinstance(value, str):
            parsed.append([clean_text(word) for word in value.split(separator) if word.strip()])
        elif isinstance(value, list | tuple) or value is None:
            parsed.append([clean_text("" if word is None else str(word)) for word in value or []])
        else:
            wrong.append(f"row {row}: {value!r} is neither a list of words nor a string")
    refuse_rows(wrong, len(values), "hold no words", where=where)
    return parsed


def _tag_problem(words: Sequence[str], tags: Sequence[str]) -> str | None:
    """Words and tags of equal number, tags in BIO with every I- after its own type."""
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


COMPONENT: type[kinds.Table] = Table
