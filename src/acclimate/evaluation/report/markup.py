"""The few pieces of HTML that every section is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from acclimate.evaluation.report.style import STYLE

CONTENT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""No script runs, nothing is loaded, no form is sent: a text that somebody forgot to escape does nothing."""


@dataclass(frozen=True)
class Section:
    """One part of the page; with an empty body it is left out."""

    anchor: str
    title: str
    body: str


def document(title: str, body: str) -> str:
    """A whole page that stands alone. The body is HTML already."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{CONTENT_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>{body}</body></html>\n"
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, text_columns: int = 1) -> str:
    """A table whose first columns are text and whose others are numbers, right-aligned. Cells are HTML already."""

    def cells(values: Sequence[str], tag: str) -> str:
        return "".join(f"<{tag}{'' if i < text_columns else ' class=num'}>{value}</{tag}>" for i, value in enumerate(values))

    heads = f"<thead><tr>{cells([escape(name) for name in head], 'th')}</tr></thead>"
    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    return f'<div class="scroll"><table>{heads}<tbody>{body}</tbody></table></div>'


def figure(title: str, drawing: str, note: str = "") -> str:
    """A chart with its title above and an optional note below. The note is HTML already."""
    caption = f'<p class="note">{note}</p>' if note else ""
    return f"<figure><figcaption>{escape(title)}</figcaption>{drawing}{caption}</figure>"


def grid(figures: Sequence[str]) -> str:
    """Figures side by side where there is room."""
    shown = [each for each in figures if each]
    return f'<div class="figures">{"".join(shown)}</div>' if shown else ""


def note(text: str) -> str:
    """A remark under a table. HTML already."""
    return f'<p class="note">{text}</p>'


def details(summary: str, body: str) -> str:
    """Something to unfold."""
    return f"<details><summary>{escape(summary)}</summary>{body}</details>"


def badge(text: str, tone: str) -> str:
    """A short word in a box; tone is good, bad or plain."""
    return f'<span class="badge {tone}">{escape(text)}</span>'
