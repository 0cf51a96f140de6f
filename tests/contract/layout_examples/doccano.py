"""Sixty texts with a span; at fault, one that ends inside a word."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def write(directory: Path, *, is_faulty: bool) -> dict[str, Any]:
    """Write the file and give the task's keys."""
    records = [{"id": number, "text": f"made by Acme {number}", "label": [[8, 12, "ORG"]]} for number in range(60)]
    records[5]["label"] = [[8, 11 if is_faulty else 12, "ORG"]]
    (directory / "mine.jsonl").write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    return {"kind": "tagging", "data": "mine.jsonl", "id": "id"}
