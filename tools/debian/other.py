"""Text of another domain: plain English essays, as Debian packages them, on which a control is trained."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tools.debian.html import html_paragraphs
from tools.debian.manuals import pack_paragraphs, prose
from tools.debian.packages import normalise, stable_order

PACKAGE = "anarchism"
"""An Anarchist FAQ: of Debian main's plain prose the largest in present-day English, and as the corpus it explains. Others are shorter
than a control needs (a game's stories, 1.7 MB) or in older English (novels of 1811 to 1818, the Bible, dictionaries of 1913)."""
PAGES = "usr/share/doc/anarchism/html/sec*.html"
_DOCUMENT_CHARS, _MOST_CHARS, _LEAST_CHARS = 600, 1200, 40
"""Paragraphs are joined up to the first, and cut between sentences at the second, so that documents are about as long as the corpus's."""


@dataclass(frozen=True)
class Essay:
    """One page."""

    name: str
    paragraphs: tuple[str, ...]


def read_essays(root: Path) -> Iterator[Essay]:
    """Every page of the package with its prose."""
    for path in sorted(root.glob(PAGES)):
        yield Essay(path.stem, prose(html_paragraphs(path.read_text(encoding="utf-8", errors="replace"))))


def other_rows(essays: Iterable[Essay], *, num_bytes: int | None) -> list[dict[str, str]]:
    """Whole pages, chosen by a fixed shuffle until `num_bytes` are reached; a paragraph that stands there twice is kept once."""
    rows, total, seen = list[dict[str, str]](), 0, set[str]()
    for essay in sorted(essays, key=lambda essay: stable_order(essay.name)):
        if num_bytes is not None and total >= num_bytes:
            break
        new = {normalise(text): text for text in essay.paragraphs if normalise(text) not in seen}
        seen.update(new)
        packed = pack_paragraphs(list(new.values()), target=_DOCUMENT_CHARS, limit=_MOST_CHARS)
        documents = [text for text in packed if len(text) >= _LEAST_CHARS]
        rows += [
            {"id": f"{PACKAGE}/{essay.name}#{index}", "text": text, "source": PACKAGE, "group": essay.name}
            for index, text in enumerate(documents)
        ]
        total += sum(len(text.encode()) for text in documents)
    return sorted(rows, key=lambda row: (row["group"], int(row["id"].rpartition("#")[2])))
