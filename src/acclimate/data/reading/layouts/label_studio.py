"""Label Studio's exports JSON and JSON-MIN (https://labelstud.io/guide/export)."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

from acclimate.data.reading.formats import Reading
from acclimate.data.reading.layouts import Layout, Record, whole_records

_READ = {"labels": "labels", "choices": "choices", "rating": "rating", "number": "number"}
"""Kind of control -> where its value holds the label."""
_ABOUT = ("id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time", "agreement")
_NO_REGION = ("relation", "pairwise")
_SKIPPED = "skipped or not annotated"
logger = logging.getLogger(__name__)
Row = Mapping[str, Any]
Region = Mapping[str, Any]


class LabelStudio(Layout):
    """`label` holds the spans of a control `Labels`, the list of a control `Choices`, or a number; of several annotators the first has it.

    A ground truth goes before other annotations. A skipped annotation counts as none.
    """

    control: str | None = Field(default=None, description="name of the control in the labelling configuration; without it, the only one")
    text: str | None = Field(default=None, description="key of the text in the task's data; without it, `text` or the only text")

    endings: ClassVar[tuple[str, ...]] = (".json", ".jsonl", ".ndjson")

    def records(self, reading: Reading) -> Iterator[Record]:
        """The tasks."""
        tasks = list(whole_records(reading))
        for number, task in tasks:
            if not isinstance(task, Mapping):
                raise reading.fault(f"record {number}: expected an object, found {type(task).__name__}")
        notes: Counter[str] = Counter()
        rows = [(number, *self._annotation(task, notes, reading, number)) for number, task in tasks]
        control, kind = self._control(rows, reading)
        for number, data, regions in rows:
            text = self._text(data, reading, number)
            label = None if regions is None else _label(regions, control, kind, reading, number)
            yield number, {**data, "text": data[text], "label": label}
        for what, count in notes.items():
            logger.warning("%s: %s: %d %s", reading.where, reading.path, count, what)
        logger.info("%s: %s: the labels are those of control %r (%s)", reading.where, reading.path, control, kind)

    def _annotation(self, task: Row, notes: Counter[str], reading: Reading, number: int) -> tuple[Row, list[Region] | None]:
        """A task's data, and the regions of the annotation that counts; None where there is none."""
        if not isinstance(task.get("data"), Mapping):
            return _of_the_short_form(task, self.control)
        given = task.get("annotations", task.get("completions"))
        if not isinstance(given, list):
            raise reading.fault(f"record {number}: no list `annotations`; present: {', '.join(task)}")
        if not all(isinstance(each, Mapping) for each in given):
            raise reading.fault(f"record {number}: one of its annotations is no object")
        usable = [each for each in given if not each.get("was_cancelled")]
        usable.sort(key=lambda each: not each.get("ground_truth"))
        data = {"id": task.get("id"), **task["data"]}
        if not usable:
            notes[f"tasks are {_SKIPPED}: their rows have no label"] += 1
            return data, None
        if len(usable) > 1:
            notes["tasks have further annotations, which are not read: the ground truth or the first counts"] += 1
        annotator = usable[0].get("completed_by")
        data.setdefault("annotator", annotator.get("id") if isinstance(annotator, Mapping) else annotator)
        return data, _regions(usable[0].get("result", []), reading, number)

    def _control(self, rows: Sequence[tuple[int, Row, list[Region] | None]], reading: Reading) -> tuple[str, str]:
        """Name and kind of the control that is read.

        Raises:
            DataError: there are several, none, or it is about no text.
        """
        kinds = {str(region["from_name"]): str(region["type"]) for _, _, regions in rows for region in regions or ()}
        named = ", ".join(f"{name} ({kind})" for name, kind in sorted(kinds.items()))
        if self.control is not None and self.control not in kinds:
            raise reading.fault(f"no annotation by control {self.control!r}; there are: {named or 'none'}")
        if not kinds:
            hint = "export the project again, or name the control by `layout: {label_studio: {control: ...}}`"
            fields = ", ".join(dict.fromkeys(str(key) for _, data, _ in rows for key in data))
            raise reading.fault(f"no annotation is found in the fields {fields}; {hint}")
        if self.control is None and len(kinds) > 1:
            hint = "choose one by `layout: {label_studio: {control: ...}}`"
            raise reading.fault(f"annotations by {len(kinds)} controls: {named}; {hint}")
        control = self.control or next(iter(kinds))
        if kinds[control] not in _READ:
            raise reading.fault(f"control {control!r} gives {kinds[control]}; read are {', '.join(_READ)} of plain text")
        return control, kinds[control]

    def _text(self, data: Row, reading: Reading, number: int) -> str:
        """The key of the text."""
        texts = [key for key, value in data.items() if isinstance(value, str) and key not in _ABOUT and key != self.control]
        key = self.text or ("text" if "text" in data else texts[0] if len(texts) == 1 else None)
        if key is None or key not in data:
            hint = "name that of the text by `layout: {label_studio: {text: ...}}`"
            raise reading.fault(f"record {number}: its data has the keys {', '.join(data)}; {hint}")
        return key


def _regions(result: Any, reading: Reading, number: int) -> list[Region]:
    """What an annotation holds, but for relations between spans."""
    if not isinstance(result, list) or not all(isinstance(each, Mapping) for each in result):
        raise reading.fault(f"record {number}: `result` of an annotation is no list of objects")
    regions = [each for each in result if each.get("type") not in _NO_REGION]
    for region in regions:
        if not {"from_name", "type", "value"} <= region.keys() or not isinstance(region["value"], Mapping):
            raise reading.fault(f"record {number}: an annotation is not whole; it holds `from_name`, `type` and an object `value`")
    return regions


def _of_the_short_form(task: Row, control: str | None) -> tuple[Row, list[Region] | None]:
    """The same of JSON-MIN, where each control is a field."""
    data, regions = dict(task), list[Region]()
    for name, value in task.items():
        if isinstance(value, list) and value and all(isinstance(each, Mapping) for each in value):
            kind = next((key for key in value[0] if key in _READ or key.endswith("labels")), "regions")
            regions += [{"from_name": name, "type": kind, "value": each} for each in value]
        elif isinstance(value, Mapping) and "choices" in value:
            regions.append({"from_name": name, "type": "choices", "value": value})
        elif name == control and isinstance(value, str):
            regions.append({"from_name": name, "type": "choices", "value": {"choices": [value]}})
    return data, regions


def _label(regions: Sequence[Region], control: str, kind: str, reading: Reading, number: int) -> Any:
    """Spans, names, or a number."""
    values = [region["value"].get(_READ[kind]) for region in regions if region["from_name"] == control]
    if any(value is None or isinstance(value, list) != (kind in ("labels", "choices")) for value in values):
        raise reading.fault(f"record {number}: an annotation of {control!r} is not whole: its `value` holds no {_READ[kind]!r}")
    if kind == "labels":
        return [region["value"] for region in regions if region["from_name"] == control]
    if kind == "choices":
        return [choice for value in values for choice in value]
    return values[0] if values else None


COMPONENT: type[Layout] = LabelStudio
