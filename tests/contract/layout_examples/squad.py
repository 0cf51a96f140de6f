"""Sixty questions; at fault, an answer that stands elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def write(directory: Path, *, is_faulty: bool) -> dict[str, Any]:
    """Write the file and give the task's keys."""
    start = [5 if is_faulty and number == 8 else 4 for number in range(60)]
    paragraphs = [
        {
            "context": f"the answer{number} stands here",
            "qas": [{"id": f"q{number}", "question": "which?", "answers": [{"text": f"answer{number}", "answer_start": start[number]}]}],
        }
        for number in range(60)
    ]
    file = {"version": "1.1", "data": [{"title": "one", "paragraphs": paragraphs[:20]}, {"title": "two", "paragraphs": paragraphs[20:]}]}
    (directory / "mine.json").write_text(json.dumps(file), encoding="utf-8")
    return {"kind": "extractive_qa", "data": "mine.json", "id": "id"}
