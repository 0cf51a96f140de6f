"""Sixty tasks with choices; at fault, one without a text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def write(directory: Path, *, is_faulty: bool) -> dict[str, Any]:
    """Write the file and give the task's keys."""
    tasks = [
        {
            "id": number,
            "data": {"text": f"text of number {number}"},
            "annotations": [{"result": [{"from_name": "topic", "type": "choices", "value": {"choices": ["ab"[number % 2], "c"]}}]}],
        }
        for number in range(60)
    ]
    tasks[3]["data"] = {"html": 1} if is_faulty else tasks[3]["data"]
    (directory / "mine.json").write_text(json.dumps(tasks), encoding="utf-8")
    return {"kind": "multi_label", "data": "mine.json"}
