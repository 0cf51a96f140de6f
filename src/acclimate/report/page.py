"""The report as a page and as text."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable

from acclimate.report import views, worth
from acclimate.report.facts import Facts
from acclimate.report.render import render
from acclimate.report.wording import METRIC_NAMES

COLUMNS = 100
_INDENT = 11
_ASCII = str.maketrans({"\u2212": "-", "\u00b1": "+-", "\u2013": "-"})


def page(facts: Facts, *, docs_link: str | None) -> str:
    """One HTML file that loads nothing.

    Args:
        docs_link: of the Data Docs, relative to the page; None when there are none.
    """
    return render("report.html", title=facts.title, facts=facts, views=views, worth=worth, metrics=METRIC_NAMES, docs_link=docs_link)


def summary(facts: Facts) -> str:
    """The report in about a dozen lines, none wider than 100 columns; what was not made has no line."""
    return render("summary.txt", facts=facts, views=views, worth=worth, entry=_entry).translate(_ASCII).replace("\u202f", " ")


def _entry(name: str, caller: Callable[[], str]) -> str:
    """Wrap an entry under itself; a name too long for its column has a line of its own."""
    head = f"{name}\n" if len(name) > _INDENT - 2 else ""
    first = " " * _INDENT if head else name.ljust(_INDENT)
    text = re.sub("[ \n]+", " ", caller().translate(_ASCII)).strip()
    lines = textwrap.wrap(text, COLUMNS, initial_indent=first, subsequent_indent=" " * _INDENT, break_long_words=False)
    return head + "\n".join(lines) + "\n"
