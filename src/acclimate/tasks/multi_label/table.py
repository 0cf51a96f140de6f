"""A text or a pair of texts, and any number of labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from acclimate import kinds
from acclimate.data.reading.sources import map_labels
from acclimate.data.schema import collect_classes, is_missing, notes_of_unused, parse_labels, parse_list, read_texts
from acclimate.settings import Options

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from acclimate.data.screening.texts import Rewriting


class Table(Options):
    """Columns of the table."""

    text: str = Field(default="text", description="column of the text")
    text_pair: str | None = Field(default=None, description="column of the second text, for tasks on pairs")
    label: str = Field(default="label", description="column of the lists of labels, or of strings that `label_separator` splits")
    label_map: dict[str, str] = Field(default={}, description="labels as the table spells them -> as the task shall have them")
    label_separator: str | None = Field(default=None, description="splits a string of labels")

    default_metric: ClassVar[str] = "micro_f1"
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
        """Texts and labels."""
        return [column for column in (self.text, self.text_pair, self.label) if column]

    def read(self, cells: Mapping[str, list[Any]], *, where: str) -> kinds.Examples:
        """Clean texts, parse and rename labels. An empty string or list says that none of the labels holds."""
        parse = partial(parse_list, separator=self.label_separator)
        spelled = parse_labels(cells[self.label], parse, column=self.label, where=where, is_empty=is_missing)
        inputs = read_texts(cells, {"text": self.text, "text_pair": self.text_pair}, where=where)
        return kinds.Examples(inputs, map_labels(spelled, self.label_map), spelled)

    def notes(self, spelled: Sequence[Any]) -> list[str]:
        """Keys of `label_map` that rename nothing."""
        return notes_of_unused(self.label_map, spelled)

    def collect_labels(self, by_split: Mapping[str, Sequence[Any]], *, where: str) -> list[str]:
        """The labels, sorted."""
        advice = "are these numbers? then kind `regression`"
        return collect_classes(by_split, self.label_names, where=where, least=1, if_numbers=advice)

    def arrow_types(self) -> dict[str, pa.DataType]:
        """Strings, and a list of them."""
        import pyarrow as pa

        return {"text": pa.string(), **({"text_pair": pa.string()} if self.pair else {}), "label": pa.list_(pa.string())}

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
        """The labels that hold."""
        return list(label)

    @staticmethod
    def counted_labels(label: Any) -> list[str]:
        """The labels that hold."""
        return list(label)

    @staticmethod
    def checks(
        frame: pd.DataFrame, labels: list[str] | None, *, min_rows_per_label: int, max_class_share: float
    ) -> list[kinds.Expectation]:
        """Known labels, each often enough in training."""
        rows = frame["label"].map(list)
        in_training = Counter(label for row in rows[frame["split"] == "train"] for label in set(row))
        frame["training_rows_of_its_rarest_label"] = [
            min((in_training[label] for label in row), default=min_rows_per_label) for row in rows
        ]
        frame["unknown_labels"] = [len(set(row) - set(labels or ())) for row in rows]
        frame["label"] = rows.map(" ".join)
        return [
            ("ExpectColumnValuesToBeInSet", {"column": "unknown_labels", "value_set": [0]}),
            ("ExpectColumnValuesToBeBetween", {"column": "training_rows_of_its_rarest_label", "min_value": min_rows_per_label}),
        ]


COMPONENT: type[kinds.Table] = Table
