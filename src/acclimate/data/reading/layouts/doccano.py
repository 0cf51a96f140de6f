"""doccano's JSONL, of its first version and of the later ones (https://doccano.github.io/doccano)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from pydantic import Field

from acclimate.data.reading.formats import Reading
from acclimate.data.reading.layouts import Layout, Record, chosen_field, whole_records

_TEXTS = ("text", "data")
_LABELS = ("label", "labels", "entities", "cats", "annotations")


class Doccano(Layout):
    """The field of the text as `text`, and that of the labels as `label`: spans, or the names of classes."""

    label: str | None = Field(default=None, description=f"field of the labels; without it, the one that is filled of {', '.join(_LABELS)}")

    endings: ClassVar[tuple[str, ...]] = (".jsonl", ".ndjson", ".json")

    def records(self, reading: Reading) -> Iterator[Record]:
        """The documents."""
        for number, record in whole_records(reading):
            if not isinstance(record, Mapping):
                raise reading.fault(f"record {number}: expected an object, found {type(record).__name__}")
            text = chosen_field(record, _TEXTS, None, reading, number)
            label = chosen_field(record, _LABELS, self.label, reading, number)
            yield number, {**record, "text": record[text], "label": _names(record[label])}


def _names(label: Any) -> Any:
    """Spans, or names of classes in a list."""
    if isinstance(label, Mapping):
        return [name for name, value in label.items() if value]
    if isinstance(label, list):
        return [
            each["label"] if isinstance(each, Mapping) and set(each) & {"label", "user"} and not _is_span(each) else each for each in label
        ]
    return label


def _is_span(annotation: Mapping[str, Any]) -> bool:
    return "start_offset" in annotation


COMPONENT: type[Layout] = Doccano
