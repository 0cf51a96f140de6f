"""Four rows for the contract tests."""

from __future__ import annotations

from typing import Any

INPUTS = [{"words": ["an", "apple"]}, {"words": ["ls", "-l"]}, {"words": ["plays", "music"]}, {"words": ["the", "ripe"]}]
LABELS: list[Any] = [["O", "B-x"], ["B-x", "I-x"], ["O", "O"], ["O", "B-x"]]
LABEL_LIST: list[str] | None = ["O", "B-x", "I-x"]
OPTIONS: dict[str, Any] = {}
