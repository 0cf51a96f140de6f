"""Sixty texts with entities; at fault, a text alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def write(directory: Path, *, is_faulty: bool) -> dict[str, Any]:
    """Write the file and give the task's keys."""
    records: list[Any] = [[f"made by Acme {number}", {"entities": [[8, 12, "ORG"]]}] for number in range(60)]
    records[6] = ["made by Acme"] if is_faulty else records[6]
    (directory / "mine.json").write_text(json.dumps(records), encoding="utf-8")
    return {"kind": "tagging", "data": "mine.json"}
