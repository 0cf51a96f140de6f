"""Labelled single-text tables from Debian: archive section, works-with tags, mdoc entities."""

from collections import Counter
from typing import Any

from tools.debian.manuals import MarkedPage
from tools.debian.mdoc import spans_to_bio
from tools.debian.packages import Package, normalise, split_of

# Sections that say what a program is for. Left out: libraries, languages, documentation and other
# sections that say what form a package has, and sections of fewer than 100 packages.
APPLICATION_SECTIONS = frozenset({
    "admin", "comm", "database", "editors", "electronics", "games", "gnome", "graphics", "hamradio", "httpd",
    "interpreters", "kde", "mail", "math", "misc", "net", "otherosfs", "science", "sound", "tex", "text",
    "utils", "vcs", "video", "web", "x11",
})  # fmt: skip
WORKS_WITH = "works-with::"
NOT_A_KIND_OF_DATA = frozenset({"works-with::TODO"})


def cut_text(text: str, limit: int | None) -> str:
    """The text up to `limit` characters, cut between words."""
    if limit is None or len(text) <= limit:
        return text
    cut = max(text.rfind(" ", 0, limit + 1), text.rfind("\n", 0, limit + 1))
    return text[: cut if cut > 0 else limit].rstrip()


def drop_repeated_texts(packages: list[Package], limit: int | None) -> list[Package]:
    """Keep the first package of those with an equal description: siblings differ in the synopsis only."""
    seen: set[str] = set()
    kept = []
    for package in packages:
        key = normalise(cut_text("\n".join(package.paragraphs), limit))
        if key and key not in seen:
            seen.add(key)
            kept.append(package)
    return kept


def section_rows(packages: list[Package], *, max_chars: int | None) -> list[dict[str, Any]]:
    """Which of the 26 application sections a package is in."""
    candidates = [package for package in packages if package.section in APPLICATION_SECTIONS]
    return [
        {**_base_row(package, max_chars), "section": package.section, "split": split_of(package.source)}
        for package in drop_repeated_texts(candidates, max_chars)
    ]


def works_with_rows(packages: list[Package], *, max_chars: int | None, min_rows: int = 60) -> list[dict[str, Any]]:
    """What kinds of data a package works with: all its works-with tags that `min_rows` packages or more have."""
    tagged = [package for package in packages if any(tag.startswith(WORKS_WITH) for tag in package.tags)]
    candidates = drop_repeated_texts(tagged, max_chars)
    counts = Counter(tag for package in candidates for tag in package.tags if tag.startswith(WORKS_WITH))
    kept = {tag for tag, count in counts.items() if count >= min_rows} - NOT_A_KIND_OF_DATA
    return [
        {
            **_base_row(package, max_chars),
            "tags": [tag.removeprefix(WORKS_WITH) for tag in package.tags if tag in kept],
            "split": split_of(package.source),
        }
        for package in candidates
        if not kept.isdisjoint(package.tags)
    ]


def _base_row(package: Package, max_chars: int | None) -> dict[str, str]:
    text = cut_text(package.text, max_chars)
    return {"id": package.name, "package": package.name, "source": package.source, "text": text}


def entity_rows(pages: list[MarkedPage], *, max_rows: int | None, min_words: int = 5, max_words: int = 160) -> list[dict[str, Any]]:
    """Words and BIO tags of paragraphs with markup, each text once; splits by page.

    Where dev or test has a text too, the copy in train goes: rows are offered test, dev, train.
    """
    rows = [row for page in pages for row in _page_rows(page, min_words, max_words)]
    seen: set[str] = set()
    kept = []
    for row in sorted(rows, key=lambda row: ({"test": 0, "dev": 1, "train": 2}[row["split"]], row["id"])):
        key = normalise(" ".join(row["words"]))
        if key not in seen:
            seen.add(key)
            kept.append(row)
    return sorted(kept[:max_rows], key=lambda row: row["id"])


def _page_rows(page: MarkedPage, min_words: int, max_words: int) -> list[dict[str, Any]]:
    rows = []
    for index, spans in enumerate(page.paragraphs):
        words, tags = spans_to_bio(list(spans))
        if len(words) >= min_words and any(tag != "O" for tag in tags):
            cut = _entity_boundary(tags, max_words)
            row_id = f"{page.name}#{index:03d}"
            rows.append(
                {
                    "id": row_id,
                    "page": page.name,
                    "words": words[:cut],
                    "tags": tags[:cut],
                    "split": split_of(page.name),
                }
            )
    return rows


def _entity_boundary(tags: list[str], max_words: int) -> int:
    """Largest cut within `max_words` that does not part an entity."""
    cut = min(max_words, len(tags))
    while 0 < cut < len(tags) and tags[cut].startswith("I-"):
        cut -= 1
    return cut
