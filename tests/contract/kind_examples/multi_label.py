"""Four rows for the contract tests."""

from __future__ import annotations

from typing import Any

INPUTS = [{"text": "an apple"}, {"text": "a kernel module"}, {"text": "plays music"}, {"text": "the ripe apple"}]
LABELS: list[Any] = [["a"], ["a", "c"], [], ["b"]]
LABEL_LIST: list[str] | None = ["a", "b", "c"]
OPTIONS: dict[str, Any] = {}
