"""Manuals packaged by Debian, read to paragraphs of prose: HTML manuals, man pages, lintian's tag texts."""

import gzip
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tools.debian.archive import DebFile
from tools.debian.html import html_paragraphs, strip_tags
from tools.debian.mdoc import Span, mdoc_paragraphs, spans_to_text
from tools.debian.packages import Split, normalise, parse_deb822, split_of
from tools.debian.roff import man_paragraphs

# Path of the HTML pages below the unpacked package; what does not match is not read.
HTML_PAGES = {
    "linux-doc-6.1": "usr/share/doc/linux-doc-6.1/html/**/*.html",
    "python3.11-doc": "usr/share/doc/python3.11/html/**/*.html",
    "postgresql-doc-15": "usr/share/doc/postgresql-doc-15/html/*.html",
    "debian-handbook": "usr/share/doc/debian-handbook/html/en-US/*.html",
    "debian-policy": "usr/share/doc/debian-policy/**/*.html",
    "debian-reference-en": "usr/share/debian-reference/*.en.html",
    "debian-faq": "usr/share/doc/debian/FAQ/*.html",
    "developers-reference": "usr/share/developers-reference/*.html",
}
MAN_PAGES = ("manpages", "manpages-dev")
MDOC_PAGES = "freebsd-manpages"
PACKAGES = (*HTML_PAGES, *MAN_PAGES, MDOC_PAGES, "lintian")
TYPOGRAPHIC = str.maketrans("\u201c\u201d\u2018\u2019\u00a0", "\"\"'' ")
PAGES_WITHOUT_PROSE = re.compile(
    r"/(_static|_sources|translations|devicetree/bindings)/|/(genindex[^/]*|search|py-modindex|bookindex)\.html$"
    r"|/(README|legalnotice|ap-license|license|copyright|gfdl|fdl|release-[0-9-]+)\.html$"
)


@dataclass(frozen=True)
class Manual:
    """One page or chapter. `part` is the package it is from; `split` is train for all but man pages."""

    part: str
    name: str
    split: Split
    paragraphs: tuple[str, ...]


@dataclass(frozen=True)
class MarkedPage:
    """One mdoc page with its authors' markup."""

    name: str
    paragraphs: tuple[tuple[Span, ...], ...]


def read_manuals(debs: dict[str, DebFile]) -> list[Manual]:
    """All manuals but the mdoc pages, in a fixed order."""
    manuals = [manual for part, pattern in HTML_PAGES.items() for manual in _html_manuals(debs[part], pattern)]
    manuals += [manual for part in MAN_PAGES for manual in _man_manuals(debs[part])]
    return [*manuals, _lintian_manual(debs["lintian"])]


def read_marked_pages(deb: DebFile) -> list[MarkedPage]:
    """The mdoc pages, one for each content: most files of the package are links to another."""
    pages = [MarkedPage(name, tuple(tuple(paragraph) for paragraph in mdoc_paragraphs(text))) for name, text in _man_sources(deb.root)]
    return [page for page in pages if page.paragraphs]


def manual_of(page: MarkedPage) -> Manual:
    """The page as running text."""
    return Manual(MDOC_PAGES, page.name, split_of(page.name), prose(spans_to_text(list(spans)) for spans in page.paragraphs))


def prose(paragraphs: Iterable[str]) -> tuple[str, ...]:
    """Paragraphs that read as text: 40 characters or more, mostly letters."""
    return tuple(text for text in (_plain_quotes(paragraph) for paragraph in paragraphs) if _is_prose(text))


def pack_paragraphs(paragraphs: list[str], *, target: int = 1500, limit: int = 4000) -> list[str]:
    """Join neighbouring paragraphs into documents of about `target` characters, none over `limit`."""
    documents: list[str] = []
    for paragraph in (piece for text in paragraphs for piece in split_long(text, limit)):
        fits = documents and len(documents[-1]) + len(paragraph) < target
        if fits or (documents and len(paragraph) < 200 and len(documents[-1]) + len(paragraph) < limit):
            documents[-1] += "\n" + paragraph
        else:
            documents.append(paragraph)
    return documents


def split_long(text: str, limit: int) -> list[str]:
    """Cut a text at sentence ends, else at spaces, into pieces of at most `limit` characters."""
    pieces = []
    while len(text) > limit:
        cut = max(text.rfind(". ", 0, limit) + 1, text.rfind("\n", 0, limit))
        cut = cut if cut > limit // 2 else text.rfind(" ", 0, limit)
        cut = cut if cut > 0 else limit
        pieces.append(text[:cut].strip())
        text = text[cut:].strip()
    return [*pieces, text] if text else pieces


def _html_manuals(deb: DebFile, pattern: str) -> Iterator[Manual]:
    for path in sorted(deb.root.glob(pattern)):
        name = path.relative_to(deb.root).as_posix()
        if path.is_file() and not PAGES_WITHOUT_PROSE.search(f"/{name}"):
            paragraphs = prose(html_paragraphs(path.read_text(encoding="utf-8", errors="replace")))
            short_name = re.sub(r"^usr/share/(doc/)?[^/]+/|html/|en-US/|\.html|\.en", "", name)
            yield Manual(deb.name, short_name, "train", paragraphs)


def _man_manuals(deb: DebFile) -> Iterator[Manual]:
    for name, text in _man_sources(deb.root):
        if re.search(r"^\.Dt ", text, flags=re.MULTILINE):
            paragraphs = [spans_to_text(spans) for spans in mdoc_paragraphs(text)]
        else:
            paragraphs = man_paragraphs(text)
        yield Manual(deb.name, name, split_of(name), prose(paragraphs))


def _man_sources(root: Path) -> Iterator[tuple[str, str]]:
    """Name (`printf.3`) and source of each page in English, one for each content.

    A page under several names keeps the one in its own title line, else the first.
    """
    names_of: dict[str, list[str]] = {}
    for path in sorted(root.glob("usr/share/man/man*/*.gz")):
        if not path.is_symlink():
            text = gzip.decompress(path.read_bytes()).decode("utf-8", errors="replace")
            names_of.setdefault(text, []).append(re.sub(r"(freebsd|type|const|head)?\.gz$", "", path.name))
    for text, names in names_of.items():
        title = re.search(r"^\.(?:Dt|TH)\s+\"?([^\s\"]+)\"?\s+\"?(\w+)", text, flags=re.MULTILINE)
        wanted = f"{title[1]}.{title[2]}".lower() if title else ""
        if not re.match(r"\.so ", text):
            yield next((name for name in names if name.lower() == wanted), names[0]), text


def _lintian_manual(deb: DebFile) -> Manual:
    paragraphs = []
    for path in sorted(deb.root.glob("usr/share/lintian/tags/**/*.tag")):
        for stanza in parse_deb822(path.read_text(encoding="utf-8")):
            folded = stanza.get("Explanation", "")
            paragraphs += [strip_tags(" ".join(block.split())) for block in re.split(r"\n\.(?:\n|$)", folded)]
    return Manual("lintian", "tags", "train", prose(paragraphs))


def _plain_quotes(text: str) -> str:
    plain = text.translate(TYPOGRAPHIC)
    return " ".join(re.sub(r"``|''", '"', plain.replace("¶", "")).split())


def _is_prose(text: str) -> bool:
    num_letters = sum(character.isalpha() for character in text)
    return len(text) >= 40 and num_letters / len(text) >= 0.7 and normalise(text).count(" ") >= 5
