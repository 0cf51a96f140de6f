"""spaCy's training data as JSON or JSONL (https://spacy.io/api/data-formats)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from acclimate.data.reading.formats import Reading
from acclimate.data.reading.layouts import Layout, Record, chosen_field, whole_records

_LABELS = ("entities", "ents", "cats")
_HOLDS = 0.5
"""A category holds from this score."""


class Spacy(Layout):
    """`[text, {"entities": ...}]`, `[text, {"cats": ...}]`, `doc.to_json()`, or the sentences of version 2's JSON."""

    label: Literal["entities", "ents", "cats"] | None = Field(
        default=None, description="what `label` is; without it, the one that is filled"
    )

    endings: ClassVar[tuple[str, ...]] = (".json", ".jsonl", ".ndjson")
    hints: ClassVar[Mapping[str, str]] = {
        ".spacy": "a DocBin; write `doc.to_json()` of each of `DocBin().from_disk(path).get_docs(nlp.vocab)` as a line of JSONL"
    }

    def records(self, reading: Reading) -> Iterator[Record]:
        """The texts."""
        for number, record in whole_records(reading):
            if isinstance(record, list):
                if len(record) != 2 or not isinstance(record[0], str) or not isinstance(record[1], Mapping):
                    raise reading.fault(f'record {number}: expected [text, {{"entities": ...}}] or [text, {{"cats": ...}}]')
                record = {**record[1], "text": record[0]}
            if not isinstance(record, Mapping):
                raise reading.fault(f"record {number}: expected a list or an object, found {type(record).__name__}")
            if "paragraphs" in record:
                yield from ((number, sentence) for sentence in _sentences(record, reading, number))
                continue
            if not isinstance(record.get("text"), str):
                raise reading.fault(f"record {number}: no `text`; present: {', '.join(record)}")
            label = chosen_field(record, _LABELS, self.label, reading, number)
            yield number, {**record, "label": _names(record[label], reading, number) if label == "cats" else record[label]}


def _names(cats: Any, reading: Reading, number: int) -> list[str]:
    if not isinstance(cats, Mapping) or not all(isinstance(score, int | float) for score in cats.values()):
        raise reading.fault(f"record {number}: `cats` is no object of a number for each name")
    return [name for name, score in cats.items() if score >= _HOLDS]


def _sentences(document: Mapping[str, Any], reading: Reading, number: int) -> Iterator[dict[str, Any]]:
    """Words and tags, which are BILUO there."""
    try:
        for paragraph in document["paragraphs"]:
            for sentence in paragraph["sentences"]:
                tokens = sentence["tokens"]
                yield {"id": document.get("id"), "text": [each["orth"] for each in tokens], "label": [each["ner"] for each in tokens]}
    except (KeyError, TypeError) as error:
        raise reading.fault(f"record {number}: no `tokens` with `orth` and `ner` in `sentences` of `paragraphs` ({error!r})") from None


COMPONENT: type[Layout] = Spacy
