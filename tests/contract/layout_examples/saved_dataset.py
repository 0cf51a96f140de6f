"""Sixty rows; at fault, a label that is no class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from datasets import Dataset


def write(directory: Path, *, is_faulty: bool) -> dict[str, Any]:
    """Write the directory and give the task's keys."""
    labels = [0.5 if is_faulty and number == 4 else float(number % 2) for number in range(60)]
    rows = {"text": [f"text of number {number}" for number in range(60)], "label": labels}
    Dataset.from_dict(rows).save_to_disk(str(directory / "mine"))
    return {"kind": "classification", "data": "mine"}
