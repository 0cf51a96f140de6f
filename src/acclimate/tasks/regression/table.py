"""A text or a pair of texts, and a number."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from acclimate import kinds
from acclimate.data.naming import is_blank
from acclimate.data.schema import parse_labels, read_texts
from acclimate.errors import DataError
from acclimate.settings import Options

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from acclimate.data.screening.texts import Rewriting


_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|[+-]?(?:nan|inf|infinity)", re.IGNORECASE)
_COMMA = re.compile(r"[+-]?[0-9]*,[0-9]+")
_THOUSANDS = re.compile(r"[+-]?[1-9][0-9]{0,2}(,[0-9]{3})+(\.[0-9]+)?")


class Table(Options):
    """Columns of the table."""

    text: str = Field(default="text", description="column of the text")
    text_pair: str | None = Field(default=None, description="column of the second text, for tasks on pairs")
    label: str = Field(default="label", description="column of the numbers")

    default_metric: ClassVar[str] = "spearman"
    rewritten: ClassVar[Mapping[str, Rewriting]] = {"text": "text", "text_pair": "text"}
    counted: ClassVar[str] = "Rows by label"

    @property
    def pair(self) -> bool:
        """Whether there is a second text."""
        return self.text_pair is not None

    @property
    def carried(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def columns(self) -> list[str]:
        """Texts and number."""
        return [column for column in (self.text, self.text_pair, self.label) if column]

    def read(self, cells: Mapping[str, list[Any]], *, where: str) -> kinds.Examples:
        """Clean texts, parse numbers."""
        numbers = parse_labels(cells[self.label], _parse, column=self.label, where=where, is_empty=is_blank)
        inputs = read_texts(cells, {"text": self.text, "text_pair": self.text_pair}, where=where)
        return kinds.Examples(inputs, numbers, numbers)

    def notes(self, spelled: Sequence[Any]) -> list[str]:
        """None."""
        return []

    def collect_labels(self, by_split: Mapping[str, Sequence[Any]], *, where: str) -> None:
        """There are none; but the training rows must differ.

        Raises:
            DataError: all training labels are equal.
        """
        if len(set(by_split["train"])) < 2:
            raise DataError(f"{where}: every training label is {by_split['train'][0]:g}; there is nothing to learn")

    def arrow_types(self) -> dict[str, pa.DataType]:
        """Strings and a number."""
        import pyarrow as pa

        return {"text": pa.string(), **({"text_pair": pa.string()} if self.pair else {}), "label": pa.float64()}

    @staticmethod
    def relabelled(row: kinds.Input, label: Any) -> Any:
        """The same."""
        return label

    @staticmethod
    def texts(row: kinds.Input) -> list[str]:
        """One text or two."""
        return [row["text"], *([row["text_pair"]] if row.get("text_pair") is not None else [])]

    @staticmethod
    def label_names(label: Any) -> list[str]:
        """A number is no class."""
        return []

    @staticmethod
    def counted_labels(label: Any) -> list[str]:
        """Nothing to count."""
        return []

    @staticmethod
    def checks(
        frame: pd.DataFrame, labels: list[str] | None, *, min_rows_per_label: int, max_class_share: float
    ) -> list[kinds.Expectation]:
        """Finite numbers."""
        return [("ExpectColumnValuesToBeBetween", {"column": "label", "min_value": -1e9, "max_value": 1e9})]


def _parse(value: Any) -> float:
    if isinstance(value, bool):
        raise ValueError(f"{value!r} is no number; for classes use kind `classification`")
    if isinstance(value, str) and not _NUMBER.fullmatch(value.strip()):
        raise ValueError(f"{value[:60]!r} is no number{_advice(value.strip())}")
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{str(value)[:60]!r} is no number") from None
    if not math.isfinite(number):
        raise ValueError(f"{value!r} is not finite")
    return number


def _advice(value: str) -> str:
    if value.endswith("%"):
        return "; write it without the percent sign"
    if _THOUSANDS.fullmatch(value):
        return '; if its commas part thousands, take them out; if it is a decimal comma, write `decimal: ","`'
    return '; `decimal: ","` reads a decimal comma' if _COMMA.fullmatch(value) else ""


COMPONENT: type[kinds.Table] = Table
