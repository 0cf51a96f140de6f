"""Four rows for the contract tests."""

from __future__ import annotations

from typing import Any

INPUTS = [{"text": "an apple"}, {"text": "a kernel module"}, {"text": "plays music"}, {"text": "the ripe apple"}]
LABELS: list[Any] = [10.0, 30.0, 20.0, 50.0]
LABEL_LIST: list[str] | None = None
OPTIONS: dict[str, Any] = {}
