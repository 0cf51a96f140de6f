"""Four rows for the contract tests; two of them are several windows long."""

from __future__ import annotations

from typing import Any

_LONG = "The kernel loads a module on demand, and the daemon that asked for it waits until the module answers; then it plays music."
INPUTS = [
    {"question": "What is ripe?", "context": "The ripe apple fell."},
    {"question": "What does it play?", "context": _LONG},
    {"question": "Who waits?", "context": _LONG},
    {"question": "What is blue?", "context": "The ripe apple fell."},
]
LABELS: list[Any] = [
    [{"text": "apple", "start": 9}],
    [{"text": "music", "start": _LONG.index("music")}],
    [{"text": "the daemon", "start": _LONG.index("the daemon")}, {"text": "daemon", "start": _LONG.index("daemon")}],
    [],
]
LABEL_LIST: list[str] | None = None
OPTIONS: dict[str, Any] = {"unanswerable": True}
