"""Sixty files in two folders; at fault, one that is not UTF-8."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def write(directory: Path, *, is_faulty: bool) -> dict[str, Any]:
    """Write the files and give the task's keys."""
    for number in range(60):
        path = directory / "mine" / "ab"[number % 2] / f"{number:02d}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"text of number %d%s" % (number, b"\xff" if is_faulty and number == 4 else b""))
    return {"kind": "classification", "data": "mine"}
