"""Prodigy's JSONL, as `prodigy db-out` writes it (https://prodi.gy/docs/api-interfaces)."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from acclimate.data.reading.formats import Reading
from acclimate.data.reading.layouts import Layout, Record, whole_records

_ACCEPTED = "accept"
_ANSWERS = (_ACCEPTED, "reject", "ignore")
logger = logging.getLogger(__name__)


class Prodigy(Layout):
    """`label` holds the spans, the accepted options, or the label; nothing where the answer is `reject` or `ignore`."""

    endings: ClassVar[tuple[str, ...]] = (".jsonl", ".ndjson", ".json")

    def records(self, reading: Reading) -> Iterator[Record]:
        """The examples."""
        others: Counter[str] = Counter()
        for number, record in whole_records(reading):
            if not isinstance(record, Mapping) or not isinstance(record.get("text"), str):
                raise reading.fault(f"record {number}: Prodigy's examples hold a `text`; images and audio are not read")
            answer = record.get("answer", _ACCEPTED)
            if answer not in _ANSWERS:
                raise reading.fault(f"record {number}: answer {str(answer)[:40]!r} is none of {', '.join(_ANSWERS)}")
            others[answer] += 1
            yield number, {**record, "label": _label(record, reading, number) if answer == _ACCEPTED else None}
        del others[_ACCEPTED]
        if others:
            named = ", ".join(f"{answer} {count}" for answer, count in sorted(others.items()))
            logger.warning("%s: %s: rows whose answer is not accept have no label: %s", reading.where, reading.path, named)


def _label(record: Mapping[str, Any], reading: Reading, number: int) -> Any:
    """Spans, names of accepted options, or a name."""
    for name in ("spans", _ACCEPTED, "label"):
        if name in record:
            return record[name]
    if "options" in record or "tokens" in record:
        return []
    raise reading.fault(f"record {number}: it has none of `spans`, `accept` and `label`; present: {', '.join(record)}")


COMPONENT: type[Layout] = Prodigy
