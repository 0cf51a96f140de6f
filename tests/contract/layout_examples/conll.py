"""Sixty sentences; at fault, a tag that no scheme allows there."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def write(directory: Path, *, is_faulty: bool) -> dict[str, Any]:
    """Write the file and give the task's keys."""
    blocks = [f"The O\nserver O\nof O\nAcme{number} B-ORG\nInc I-ORG\n" for number in range(60)]
    if is_faulty:
        blocks[7] = "The O\nserver I-ORG\n"
    (directory / "mine.conll").write_text("\n".join(blocks), encoding="utf-8")
    return {"kind": "tagging", "data": "mine.conll"}
