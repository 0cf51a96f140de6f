"""Sixty accepted examples; at fault, one that holds no span."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def write(directory: Path, *, is_faulty: bool) -> dict[str, Any]:
    """Write the file and give the task's keys."""
    records: list[dict[str, Any]] = [
        {"text": f"made by Acme {number}", "spans": [{"start": 8, "end": 12, "label": "ORG"}], "answer": "accept"} for number in range(60)
    ]
    records[9] |= {"spans": [{"start": 8, "label": "ORG"}]} if is_faulty else {}
    (directory / "mine.jsonl").write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    return {"kind": "tagging", "data": "mine.jsonl"}
