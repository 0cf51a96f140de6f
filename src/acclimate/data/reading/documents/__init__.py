"""Readers of documents that are no plain text, one module a format: the bytes of a file in, its text out."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from acclimate.data.reading.streams import split_endings

DocumentFormat = Literal["text", "html", "eml", "mbox", "pdf", "docx"]
_BY_ENDING: dict[str, DocumentFormat] = {
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
    ".eml": "eml",
    ".mbox": "mbox",
    ".mbx": "mbox",
    ".pdf": "pdf",
    ".docx": "docx",
}


class UnreadableError(ValueError):
    """One document gives no text; the message says why, and what would help."""


def format_of(name: str) -> DocumentFormat:
    """The format that a file's ending stands for; plain text where it stands for none."""
    return _BY_ENDING.get(split_endings(Path(name))[0], "text")
