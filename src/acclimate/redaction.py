"""Remove secrets from text before it is written to a file, a database or a log."""

from __future__ import annotations

import re

HIDDEN = "***"

_USER_INFO = re.compile(r"(?<=://)[^\s/?#@'\"]+@")
_QUERY = re.compile(r"(?<=[?&;])([\w.%-]+)=([^\s&;#'\"]+)")


def redact(text: str) -> str:
    """Hide the user information and the query values of every URL in a text.

    Scheme, host, port, path and the names of query parameters stay, so that a reader still knows which URL it was.
    """
    if "://" not in text:
        return text
    return _QUERY.sub(rf"\1={HIDDEN}", _USER_INFO.sub(f"{HIDDEN}@", text))
