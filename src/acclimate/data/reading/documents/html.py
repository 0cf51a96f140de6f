"""A page (https://html.spec.whatwg.org) as its reader sees it: no markup, scripts, styles or head; a block begins and ends a line."""

from __future__ import annotations

import codecs
import re
from collections import Counter
from typing import Any

from acclimate.data.reading.documents import UnreadableError
from acclimate.data.reading.options import ReadOptions
from acclimate.data.reading.streams import DEFAULT_ENCODING

_UNSEEN = frozenset(("head", "iframe", "noscript", "object", "script", "style", "svg", "template", "title"))
_BLOCKS = re.compile(
    "address|article|aside|blockquote|body|br|caption|center|dd|details|dialog|div|dl|dt|fieldset|figcaption|figure|footer|form|h[1-6]|header|"
    "hr|html|legend|li|main|menu|nav|ol|option|p|pre|section|select|summary|table|tbody|tfoot|thead|tr|ul"
)
_CELLS = frozenset(("td", "th"))
_UNNESTED = (  # elements without an end, or whose end tag is optional and whose beginning ends the one before
    "area base br caption col colgroup dd dt embed hr img input li link meta option p param source tbody td tfoot th thead tr track wbr"
)
_NESTS = re.compile(rf"<(?P<end>/)?(?!(?:{_UNNESTED.replace(' ', '|')})\b)[a-z][^<>]*>", re.IGNORECASE)
_MAX_DEPTH = 4096
"""The parser's time grows with the square of the depth: 100,000 nested elements, half a megabyte, took it 9 s."""
_MAX_ATTRIBUTES = 2000
"""Each attribute is compared with all before it: 200,000 of one element, two megabytes, took minutes."""
_OPTION, _MAX_OPTIONS = re.compile(r"<option\b", re.IGNORECASE), 20_000
"""Lexbor looks through all options of a list for each: 20,000 take a second, 100,000 take 32."""
_VALUE = re.compile(r"\"[^\"]*\"|'[^']*'")
_MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
_DECLARED = re.compile(
    rb"<meta[^>]{0,300}?charset\s*=\s*[\"']?\s*([\w.:-]+)|<\?xml[^>]{0,100}?encoding\s*=\s*[\"']([\w.:-]+)", re.IGNORECASE
)
_DECLARED_WITHIN = 4096
_WIDER = {"iso8859-1": "cp1252", "ascii": "cp1252", "gb2312": "gb18030", "shift_jis": "cp932"}
"""Names that pages use for a wider encoding (https://encoding.spec.whatwg.org/#names-and-labels)."""


def declared_encoding(content: bytes) -> str | None:
    """The encoding that a page's byte order mark or its head names, as Python knows it; None where it names none that is known."""
    for mark, name in _MARKS.items():
        if content.startswith(mark):
            return name
    found = _DECLARED.search(content[:_DECLARED_WITHIN])
    if found is None:
        return None
    try:
        name = codecs.lookup((found[1] or found[2]).decode("ascii")).name
    except (LookupError, UnicodeDecodeError):
        return None
    return None if name.startswith("utf-16") else _WIDER.get(name, name)  # a head that can be read byte by byte is not UTF-16


def read_page(content: bytes, options: ReadOptions, notes: Counter[str]) -> str:
    """The text of a page, in the encoding that the options name, else in the one it declares, else in UTF-8.

    Raises:
        UnreadableError: it is of another encoding, or nested too deeply.
    """
    declared = declared_encoding(content) if options.encoding == DEFAULT_ENCODING else None
    notes[f"pages that declare {declared}"] += declared not in (None, "utf-8")
    encoding = declared or options.encoding
    try:
        page = content.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UnreadableError(f"line {line}: byte {content[error.start]:#04x} is not {encoding}; give the pages' own `encoding`") from None
    return page_text(page)


def page_text(page: str) -> str:
    """What a page shows: spaces as a browser folds them, one line for a block, cells of a row side by side.

    Raises:
        UnreadableError: nested too deeply.
    """
    from selectolax.lexbor import LexborHTMLParser

    if _depth(page) > _MAX_DEPTH:
        raise UnreadableError(f"elements are nested more than {_MAX_DEPTH:,} deep, which no page needs")
    if len(_OPTION.findall(page)) > _MAX_OPTIONS:
        raise UnreadableError(f"a page with more than {_MAX_OPTIONS:,} options to choose from, which the parser takes minutes to read")
    if _has_long_tag(page):
        raise UnreadableError(f"an element has more than {_MAX_ATTRIBUTES:,} attributes, which no page needs")
    root = LexborHTMLParser(page.replace("\0", "")).root
    lines = "".join(_pieces(root)).split("\n") if root else []
    return "\n".join(line.strip(" \t") for line in lines if line.strip())


def _depth(page: str) -> int:
    depth = deepest = 0
    for tag in _NESTS.finditer(page):
        depth = max(0, depth + (-1 if tag["end"] else 1))
        deepest = max(deepest, depth)
    return deepest


def _has_long_tag(page: str) -> bool:
    long = (stretch for stretch in page.split(">") if len(stretch) > _MAX_ATTRIBUTES)
    tags = (stretch[tag.start() :] for stretch in long if (tag := re.search(r"<[a-zA-Z]", stretch)))
    return any(len(re.findall(r"[\s/]+[^\s/]", _VALUE.sub("", tag))) > _MAX_ATTRIBUTES for tag in tags)


def _pieces(root: Any) -> list[str]:
    """Text and line ends in the page's order. The stack holds what is still to be said: nodes, and what follows their children."""
    pieces: list[str] = []
    stack: list[Any] = [(root, False)]
    while stack:
        node, is_kept = stack.pop()
        if isinstance(node, str):
            pieces.append(node)
        elif node.tag == "-text":
            text = node.text_content or ""
            pieces.append(text if is_kept else re.sub(r"[ \t\r\n\f]+", " ", text))
        elif node.tag[0] not in "-!" and node.tag not in _UNSEEN:
            mark = "\n" if _BLOCKS.fullmatch(node.tag) else "\t" if node.tag in _CELLS else ""
            stack.append((mark, False))
            stack += [(child, is_kept or node.tag in ("pre", "textarea")) for child in reversed(_children(node))]
            pieces.append(mark if mark == "\n" else "")
    return pieces


def _children(node: Any) -> list[Any]:
    found, child = [], node.child
    while child is not None:
        found.append(child)
        child = child.next
    return found
