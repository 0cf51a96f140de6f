"""A text or a pair of texts, and one label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from acclimate import kinds
from acclimate.data.label_lists import list_in_text, refuse_mapping
from acclimate.data.naming import is_blank, name_of
from acclimate.data.schema import LabelMap, collect_classes, map_labels, notes_on_labels, parse_labels, read_texts
from acclimate.settings import Options

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from acclimate.data.screening.texts import Rewriting


class Table(Options):
    """Columns of the table."""

    text: str = Field(default="text", description="column of the text")
    text_pair: str | None = Field(default=None, description="column of the second text, for tasks on pairs")
    label: str = "label"
    label_map: LabelMap = Field(
        default={}, description="labels as the table spells them -> as the task shall have them; null: the row leaves"
    )

    default_metric: ClassVar[str] = "macro_f1"
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
        """Texts and label."""
        return [column for column in (self.text, self.text_pair, self.label) if column]

    def read(self, cells: Mapping[str, list[Any]], *, where: str) -> kinds.Examples:
        """Clean texts, parse and rename labels."""
        spelled = parse_labels(cells[self.label], self._parse, column=self.label, where=where, is_empty=_is_empty)
        inputs = read_texts(cells, {"text": self.text, "text_pair": self.text_pair}, where=where)
        return kinds.Examples(inputs, map_labels(spelled, self.label_map), spelled)

    def _parse(self, value: Any) -> str:
        """The name of the class; of a list with one label, that label's."""
        refuse_mapping(value)
        listed = list_in_text(value) if isinstance(value, str) and name_of(value) not in self.label_map else value
        if isinstance(listed, list | tuple):
            if len(listed) != 1:
                raise ValueError(f"{value!r} holds {len(listed)} labels; for several labels a row use kind `multi_label`")
            return self._parse(listed[0])
        name = name_of(value)
        if not name:
            raise ValueError("the label is empty")
        if isinstance(value, float) and not value.is_integer():
            raise ValueError(f"{value!r} is no class; for numbers use kind `regression`")
        return name

    def notes(self, spelled: Sequence[Any]) -> list[str]:
        """Keys of `label_map` that rename nothing, and labels that look alike."""
        return notes_on_labels(self.label_map, spelled)

    def collect_labels(self, by_split: Mapping[str, Sequence[Any]], *, where: str) -> list[str]:
        """The classes, sorted."""
        advice = "are these numbers? then kind `regression`"
        return collect_classes(by_split, self.label_names, where=where, least=2, if_numbers=advice)

    def arrow_types(self) -> dict[str, pa.DataType]:
        """Strings."""
        import pyarrow as pa

        return {"text": pa.string(), **({"text_pair": pa.string()} if self.pair else {}), "label": pa.string()}

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
        """The class."""
        return [label]

    @staticmethod
    def counted_labels(label: Any) -> list[str]:
        """The class."""
        return [label]

    @staticmethod
    def checks(
        frame: pd.DataFrame, labels: list[str] | None, *, min_rows_per_label: int, max_class_share: float
    ) -> list[kinds.Expectation]:
        """Known labels, each often enough in training, none of them nearly all."""
        in_training = Counter(frame["label"][frame["split"] == "train"])
        frame["training_rows_of_its_rarest_label"] = [in_training[label] for label in frame["label"]]
        frame["share_of_the_largest_class"] = float(frame["label"].value_counts(normalize=True).max())
        return [
            ("ExpectColumnValuesToBeInSet", {"column": "label", "value_set": labels}),
            ("ExpectColumnValuesToBeBetween", {"column": "training_rows_of_its_rarest_label", "min_value": min_rows_per_label}),
            ("ExpectColumnMaxToBeBetween", {"column": "share_of_the_largest_class", "max_value": max_class_share}),
        ]


def _is_empty(value: Any) -> bool:
    return is_blank(value) or (isinstance(value, list | tuple) and all(map(is_blank, value)))


COMPONENT: type[kinds.Table] = Table
