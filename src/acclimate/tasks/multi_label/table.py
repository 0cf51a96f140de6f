"""A text or a pair of texts, and any number of labels."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field, model_validator

from acclimate import kinds
from acclimate.data.label_lists import are_vectors, from_columns, is_list_text, names_of_vector, parse_list, unpacked
from acclimate.data.naming import is_missing
from acclimate.data.schema import LabelMap, collect_classes, map_labels, notes_on_labels, parse_labels, read_texts
from acclimate.errors import DataError
from acclimate.settings import Options

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from acclimate.data.screening.texts import Rewriting


logger = logging.getLogger(__name__)
LabelNames = Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=2)]


class Table(Options):
    """Columns of the table."""

    text: str = Field(default="text", description="column of the text")
    text_pair: str | None = Field(default=None, description="column of the second text, for tasks on pairs")
    label: str | LabelNames = Field(
        default="label",
        description="column of the lists of labels, or of strings that `label_separator` splits; or the columns of 0 and 1, one a label",
    )
    places: LabelNames | None = Field(
        default=None, alias="label_names", description="of vectors of 0 and 1, by position; or of the columns of `label`"
    )
    label_map: LabelMap = Field(
        default={}, description="labels as the table spells them -> as the task shall have them; null: the row leaves"
    )
    label_separator: str | None = Field(default=None, description="splits a string of labels")

    default_metric: ClassVar[str] = "micro_f1"
    rewritten: ClassVar[Mapping[str, Rewriting]] = {"text": "text", "text_pair": "text"}
    counted: ClassVar[str] = "Rows by label"

    @model_validator(mode="after")
    def _one_name_a_label(self) -> Table:
        if len(set(self._names)) < len(self._names):
            raise ValueError("label_names: a name stands in it twice")
        if isinstance(self.label, list) and len(self._names) != len(self.label):
            raise ValueError(f"label_names: {len(self._names)} names for the {len(self.label)} columns of `label`")
        return self

    @property
    def _names(self) -> list[str]:
        return self.places or (self.label if isinstance(self.label, list) else [])

    @property
    def _label_columns(self) -> list[str]:
        return self.label if isinstance(self.label, list) else [self.label]

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
        return [column for column in (self.text, self.text_pair, *self._label_columns) if column]

    def read(self, cells: Mapping[str, list[Any]], *, where: str) -> kinds.Examples:
        """Clean texts, parse and rename labels. An empty string or list says that none of the labels holds."""
        spelled = self._from_columns(cells, where) if isinstance(self.label, list) else self._from_lists(cells[self.label], where)
        inputs = read_texts(cells, {"text": self.text, "text_pair": self.text_pair}, where=where)
        renamed = map_labels(spelled, self.label_map)
        # In one order and each once: which stands first says nothing.
        return kinds.Examples(inputs, [sorted(set(row)) if isinstance(row, list) else row for row in renamed], spelled)

    def _from_columns(self, cells: Mapping[str, list[Any]], where: str) -> list[list[str] | None]:
        found = from_columns(cells, dict(zip(self._label_columns, self._names, strict=True)))
        return parse_labels(found, _or_raise, column=", ".join(self._label_columns), where=where, is_empty=is_missing)

    def _from_lists(self, cells: list[Any], where: str) -> list[list[str] | None]:
        assert isinstance(self.label, str)
        parse = partial(parse_list, separator=self.label_separator)
        spelled = unpacked(parse_labels(cells, parse, column=self.label, where=where, is_empty=is_missing))
        if as_text := sum(map(is_list_text, cells)):
            logger.info("%s: column %r: %d of %d cells are lists saved as text; read as lists", where, self.label, as_text, len(cells))
        if self.places:
            named = partial(names_of_vector, names=self.places)
            return parse_labels(spelled, named, column=self.label, where=where, is_empty=is_missing)
        if are_vectors(spelled):
            first = next(row for row in spelled if row)
            raise DataError(
                f"{where}: column {self.label!r}: vectors of 0 and 1, such as [{', '.join(first[:8])}{', ...' if len(first) > 8 else ''}], "
                f"where names of labels are wanted; name the {len(first)} places: `label_names: [first, second, ...]`"
            )
        return spelled

    def notes(self, spelled: Sequence[Any]) -> list[str]:
        """Keys of `label_map` that rename nothing, and labels that look alike."""
        num_empty = sum(label == [] for label in spelled)
        empty = f"label: {num_empty} rows hold no label, and count as rows of which none is true; take out those that nobody labelled"
        return notes_on_labels(self.label_map, spelled) + [empty] * bool(num_empty)

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


def _or_raise(found: list[str] | ValueError) -> list[str]:
    if isinstance(found, ValueError):
        raise found
    return found


COMPONENT: type[kinds.Table] = Table
