"""Sixty sentences; at fault, a word without a tag."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def write(directory: Path, *, is_faulty: bool) -> dict[str, Any]:
    """Write the file and give the task's keys."""
    rows = [f"{number},{word},{tag}" for number in range(60) for word, tag in (("The", "O"), (f"Acme{number}", "B-ORG"), ("Inc", "I-ORG"))]
    rows[4] = "1,Acme," if is_faulty else rows[4]
    (directory / "mine.csv").write_text("\n".join(["sentence,text,label", *rows]), encoding="utf-8")
    return {"kind": "tagging", "data": "mine.csv", "layout": {"token_rows": {"sentence": "sentence"}}}
