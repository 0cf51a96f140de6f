"""HTML manuals to prose paragraphs, with the standard library's parser.

Knows the navigation of Sphinx and DocBook output, the two generators behind Debian's manuals.
"""

import re
from html.parser import HTMLParser

VOID = frozenset({
    "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr",
})  # fmt: skip
INLINE = frozenset({
    "a", "abbr", "acronym", "b", "big", "cite", "code", "dfn", "em", "font", "i", "kbd", "q", "samp", "small",
    "span", "strong", "sub", "sup", "tt", "u", "var", "br", "wbr", "img",
})  # fmt: skip
SKIPPED_TAGS = frozenset({
    "head", "script", "style", "pre", "nav", "footer", "form", "svg", "math", "noscript", "dt",
})  # fmt: skip
SKIPPED_CLASSES = frozenset({
    "sphinxsidebar", "related", "footer", "navheader", "navfooter", "toc", "toctree-wrapper", "contents",
    "headerlink", "docnav", "wy-nav-side", "wy-nav-top", "rst-footer-buttons", "wy-breadcrumbs", "local",
    "table-of-contents", "footnotes", "index", "inline-search", "programlisting", "screen", "synopsis",
    "refsynopsisdiv", "translation", "version_switcher_placeholder",
})  # fmt: skip
SKIPPED_ROLES = frozenset({"navigation", "search", "contentinfo"})


class ParagraphReader(HTMLParser):
    """Collects the text of block elements; a skipped element is skipped with all it holds."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.paragraphs: list[str] = []
        self._pieces: list[str] = []
        self._skipped_tag = ""
        self._skipped_depth = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Open an element: skip it, break the paragraph, or go on."""
        if self._skipped_depth:
            self._skipped_depth += tag == self._skipped_tag
        elif tag not in VOID and _is_skipped(tag, dict(attrs)):
            self._skipped_tag, self._skipped_depth = tag, 1
            if tag not in INLINE:
                self._end_paragraph()
        elif tag == "br":
            self._pieces.append(" ")
        elif tag not in INLINE:
            self._end_paragraph()

    def handle_endtag(self, tag: str) -> None:
        """Close an element."""
        if self._skipped_depth:
            self._skipped_depth -= tag == self._skipped_tag
        elif tag not in INLINE:
            self._end_paragraph()

    def handle_data(self, data: str) -> None:
        """Collect text."""
        if not self._skipped_depth:
            self._pieces.append(data)

    def close(self) -> None:
        """End of the document."""
        super().close()
        self._end_paragraph()

    def _end_paragraph(self) -> None:
        text = " ".join("".join(self._pieces).split())
        self._pieces.clear()
        if text:
            self.paragraphs.append(text)


def _is_skipped(tag: str, attributes: dict[str, str | None]) -> bool:
    classes = (attributes.get("class") or "").split()
    return tag in SKIPPED_TAGS or not SKIPPED_CLASSES.isdisjoint(classes) or (attributes.get("role") or "") in SKIPPED_ROLES


def html_paragraphs(html: str) -> list[str]:
    """Paragraphs of one page in reading order: no navigation, no code blocks, no signatures."""
    reader = ParagraphReader()
    reader.feed(html)
    reader.close()
    return reader.paragraphs


def strip_tags(text: str) -> str:
    """Plain text of a short inline HTML fragment."""
    return " ".join(html_paragraphs(re.sub(r"</?(code|em|strong|var)>", "", text)))
