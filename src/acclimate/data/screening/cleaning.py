"""Text as the model should see it.

Imports nothing of acclimate: this file travels inside the registered model, so that serving cleans as ingest did.
"""

from __future__ import annotations

import html
import html.entities
import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Sequence

# --- mojibake -------------------------------------------------------------------------------------------------------------------

# A lead byte of UTF-8 (C2 to F4) and a following byte (80 to BF), both read as Latin-1 or Windows-1252; or a C1 control. Where no other C1
# control stands in the text, U+0085 is half of a Latin letter (C3 85, C5 85) or a line end.
_READ_AS_1252 = "".join(bytes([byte]).decode("cp1252", "ignore") for byte in range(0x80, 0xA0))
_MOJIBAKE = re.compile(f"[\u00c2-\u00f4][\u0080-\u0084\u0086-\u00bf{_READ_AS_1252}]|[\u00c2-\u00c5]\u0085|[\u0080-\u0084\u0086-\u009f]")
_OTHER_C1 = re.compile("[\u0080-\u0084\u0086-\u009f]")
_LINE_END = re.compile("(\n)")
_LINE_END_OR_NEL = re.compile("(\n|(?<![\u00c2-\u00c5])\u0085)")


def repair_mojibake(text: str) -> str:
    """Mend UTF-8 that was read as Latin-1 or Windows-1252, line by line, by ftfy (https://ftfy.readthedocs.io).

    ftfy's own test reads 5 million characters a second; the guard before it 70 million. It lets ftfy see a line only where two
    neighbours could be two bytes of UTF-8, so mojibake of other encodings (MacRoman, Windows-1251) stays.
    """
    if text.isascii() or not _MOJIBAKE.search(text):
        return text
    from ftfy import fix_encoding

    line_end = _LINE_END if _OTHER_C1.search(text) else _LINE_END_OR_NEL
    return "".join(fix_encoding(line) if _MOJIBAKE.search(line) else line for line in line_end.split(text))


# --- HTML -----------------------------------------------------------------------------------------------------------------------

_BLOCKS = (
    "address|article|aside|blockquote|body|br|center|dd|div|dl|dt|fieldset|figcaption|figure|footer|form|h[1-6]|head|header|hr|html|li|"
    "link|main|meta|nav|ol|option|p|pre|section|select|table|tbody|td|tfoot|th|thead|title|tr|ul"
)
_INLINES = (
    "a|abbr|acronym|b|big|button|cite|code|del|em|font|i|iframe|img|input|ins|kbd|label|mark|q|s|samp|script|small|span|strike|strong|"
    "style|sub|sup|textarea|tt|u|var"
)
# Placeholders such as <summary> and <object> have these names too, so they make no page, but on a page they are tags.
_OTHERS = (
    "applet|area|audio|base|basefont|bdi|bdo|blink|canvas|caption|col|colgroup|data|datalist|details|dfn|dialog|dir|embed|hgroup|legend|"
    "map|marquee|menu|meter|nobr|noscript|object|optgroup|output|param|picture|progress|rp|rt|ruby|search|slot|source|summary|svg|"
    r"template|time|track|video|wbr|g|path|[a-z][a-z0-9]*-[\w-]*|[a-z]\w{0,9}:[\w-]+"
)
_OFFICE = "(?:o|v|w|m|st1):[a-z]+"
# No part of it reads across another "<", so that many tags that never end cost no more than their length.
_REST_OF_TAG = r"(?:\s(?:[^<>\"']++|\"[^\"<]*+\"|'[^'<]*+')*+)?\s?/?>"
_PAGE_TAG = re.compile(rf"<(/?)(?:{_BLOCKS}|{_INLINES}|{_OFFICE}){_REST_OF_TAG}", re.IGNORECASE)
_OFFICE_TAG = re.compile(rf"</?{_OFFICE}{_REST_OF_TAG}", re.IGNORECASE)
_BLOCK_TAG = re.compile(rf"</?(?:{_BLOCKS}){_REST_OF_TAG}", re.IGNORECASE)
_TAG = re.compile(rf"</?(?:{_BLOCKS}|{_INLINES}|{_OTHERS}){_REST_OF_TAG}", re.IGNORECASE)
_UNSEEN = re.compile(rf"<(?:(!--)|(script|style){_REST_OF_TAG}|!doctype[^<>]*>|!\[[^<>]*>|\?xml[^<>]*>)", re.IGNORECASE)
_UNSEEN_ENDS = {
    "!--": re.compile("-->"),
    **{name: re.compile(rf"</{name}\s?>", re.IGNORECASE) for name in ("script", "style")},
}
_NAMED = re.compile("&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_MIN_TAGS = 4
"""Fewer tags than this are taken for a text about HTML, such as "put it into <b> and </b>"."""

_BREAK = r"<(?:br|hr)(?:\s[^<>]{0,200})?/?>|</?p(?:\s[^<>]{0,200})?>"
_BREAK_TAG = re.compile(rf"[^\S\n]*(?:{_BREAK})[^\S\n]*", re.IGNORECASE)
_MAYBE_BREAK = re.compile(r"<(?:[bh]r|/?p)[\s/>]", re.IGNORECASE)
_LINE_BREAK = r"<[bh]r(?:\s[^<>]{0,200})?/?>"
# Two in a row, or three with text between them; one right behind a word or stop; one between two sentences; a paragraph as a whole.
_SURE_BREAK = re.compile(
    rf"{_LINE_BREAK}\s*{_LINE_BREAK}|(?:{_LINE_BREAK}[^<]{{12,}}){{2}}{_LINE_BREAK}|(?<=[\w.,;:!?)\u2026\u3002\uff01\uff1f\uff09]){_LINE_BREAK}|"
    rf"{_LINE_BREAK}(?=(?-i:[A-Z0-9]))|(?<=[.!?\u2026\u3002])\s*(?:{_LINE_BREAK}|</?p>)(?!\s*(?-i:[a-z]))|^(?:{_LINE_BREAK}|<p>)[^<]*[.!?]",
    re.IGNORECASE | re.MULTILINE,
)
_ALWAYS = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|amp|lt|gt|quot|apos|nbsp);")
_NAMES = "|".join(sorted(html.entities.name2codepoint))
_ANY_ENTITY = re.compile(rf"&(?:#[0-9]{{1,7}}|#[xX][0-9a-fA-F]{{1,6}}|apos|{_NAMES});")
_INSIDE_A_WORD = re.compile(rf"[\w;]&(?:{_NAMES});|&(?:{_NAMES});[\w&]")
# Signs of writing and letters with accents; in C `p = &reg;` is an address.
_SIGNS = (
    "euro|pound|yen|cent|hellip|[nm]dash|[lr][sd]quo|[sb]b?dquo|sbquo|[lr]s?aquo|bull|middot|deg|copy|reg|trade|sect|times|frac[13][24]|szlig|shy|"
    "(?:[aeiouyAEIOUY]|[nN])(?:uml|acute|grave|circ|tilde|ring)|[cC]cedil|[oO]slash|(?:ae|AE|oe|OE)lig|e[nm]sp|thinsp|i?excl|iquest"
)
_SIGN = re.compile(rf"{_ALWAYS.pattern}|(?<![=|&*+-])(?<![=|&*+-]\s)(?<!return\s)&(?:{_SIGNS});")
_ABOUT_HTML = re.compile(r"html|xml|entit(?:y|ies)|encod|escap", re.IGNORECASE)


def strip_html(text: str) -> str:
    """Take tags out of a page's remains, and decode left-over entities (once).

    A text is a page's remains when it has four tags that HTML knows, one of them a closing one, or one of Office (`<o:p>`), or a tag at
    its beginning and one at its end; `<stdio.h>`, `<section>` in a path, `a < b` and a sentence about `<b>` and `</b>` stay. Block tags
    become line ends, and so do `<br>`, `<hr>` and `<p>` of other texts where they part sentences. A page's entities are decoded; of
    those in other texts the six that escaping leaves behind, all of HTML 4 where one stands inside a word (`Gr&uuml;n`), and signs of
    writing (`5 &euro;`) unless the text says HTML, entity or the like.

    Not by a parser: selectolax reads `<stdio.h>` as a tag and a comment that does not end to the end of the page, and moves text out of
    tables; guarded against that it took twice the time.
    """
    if "<" in text and _is_page(text):
        text = _TAG.sub("", _BLOCK_TAG.sub("\n", _drop_unseen(text)))
        return _NAMED.sub(lambda match: html.unescape(match[0]), text)
    if "&" in text:
        about_html = _ABOUT_HTML.search(text) is not None
        entity = _ANY_ENTITY if _INSIDE_A_WORD.search(text) else _ALWAYS if about_html else _SIGN
        text = entity.sub(lambda match: html.unescape(match[0]), text)
    if "<" in text and _MAYBE_BREAK.search(text) and _SURE_BREAK.search(text):
        text = _BREAK_TAG.sub("\n", text)
    return text


def _is_page(text: str) -> bool:
    tags = [(match.start(), match.end(), match[1]) for match in _PAGE_TAG.finditer(text)]
    if not any(closing for _, _, closing in tags):
        return False
    is_whole = not tags[0][2] and not text[: tags[0][0]].strip() and not text[tags[-1][1] :].strip()
    return len(tags) >= _MIN_TAGS or is_whole or _OFFICE_TAG.search(text) is not None


def _drop_unseen(text: str) -> str:
    """Take out comments, scripts, style sheets and doctypes, each for a space; one that does not end stays.

    An end that was not found is not looked for again. One regular expression did that at each beginning: 80 kB of `<!--` took 9.3 s.
    """
    seen, position = [], 0
    ends = dict(_UNSEEN_ENDS)
    for start in _UNSEEN.finditer(text):
        name = (start[1] or start[2] or "").casefold()  # re.IGNORECASE takes the long s of `<\u017fcript>` for an s too
        if start.start() < position or (name and name not in ends):
            continue
        end = ends[name].search(text, start.end()) if name else start
        if end is None:
            del ends[name]
        else:
            seen.append(text[position : start.start()])
            position = end.end()
    return " ".join([*seen, text[position:]])


# --- characters -----------------------------------------------------------------------------------------------------------------

_LINE_ENDS = (0x0B, 0x0C, 0x0D, 0x1C, 0x1D, 0x1E, 0x85, 0x2028, 0x2029)
"""Word's and PowerPoint's line break, page break, separators of files and records, NEL, Unicode's line and paragraph separator."""
_UNIT_SEPARATOR = 0x1F
_INVISIBLE = (
    *(code for code in (*range(0x20), *range(0x7F, 0xA0)) if code not in (0x09, 0x0A, _UNIT_SEPARATOR, *_LINE_ENDS)),
    0xAD,  # soft hyphen
    0x34F,  # grapheme joiner
    0x61C,  # direction marks, and those below
    0x200B,  # zero-width space
    *range(0x200E, 0x2010),
    *range(0x202A, 0x202F),
    *range(0x2060, 0x2070),  # word joiner, invisible operators, isolates
    *range(0xFE00, 0xFE10),  # variation selectors
    0xFEFF,  # byte order mark
    *range(0xFFF9, 0xFFFC),  # interlinear annotation
    *range(0x1D173, 0x1D17B),  # of music
    *range(0xE0001, 0xE0080),  # tags
    *range(0xE0100, 0xE01F0),  # more variation selectors
)
"""Controls; signs of Unicode's category Cf but joiners, Mongolian's and visible ones; variation selectors."""
_REPLACED: dict[int, str | None] = {**dict.fromkeys(_INVISIBLE), **dict.fromkeys(_LINE_ENDS, "\n"), _UNIT_SEPARATOR: " "}
_RUNS = [list(run) for _, run in itertools.groupby(enumerate(sorted(_REPLACED)), key=lambda pair: pair[1] - pair[0])]
_CONTROL = re.compile(
    "[" + "".join(f"{chr(run[0][1])}-{chr(run[-1][1])}" for run in _RUNS) + "]"
)  # listed one by one they take thrice the time
_ASCII_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
# Between signs of other scripts and in emoji they say which form a sign has; in ASCII nothing.
_NEEDLESS_JOINERS = re.compile("(?:^|(?<=[\x00-\x7f]))[\u200c\u200d]+(?![^\x00-\x7f])")
_MARKS = re.compile(r"[^\w\s\x00-\x7f]{32,}")  # combining marks are neither letters nor spaces; what else this finds is left as it is
_SPACES = re.compile(r"[^\S\n]+")
_ODD_SPACE = re.compile(r"[^\S\n ]")
_BLANK_LINES = re.compile(r"\n{3,}")


def drop_control_characters(text: str) -> str:
    """Line feeds for all that parts lines; no controls, soft hyphens, zero-width spaces nor direction marks.

    Joiners (U+200C, U+200D) stay in Persian, Indic and emoji.
    """
    is_ascii = text.isascii()
    if (_ASCII_CONTROL if is_ascii else _CONTROL).search(text):
        text = text.replace("\r\n", "\n").translate(_REPLACED)
    return text if is_ascii else _NEEDLESS_JOINERS.sub("", text)


def compose(text: str) -> str:
    """Unicode's normal form C (https://unicode.org/reports/tr15/)."""
    return text if text.isascii() else unicodedata.normalize("NFC", _MARKS.sub(_in_order, text))


def _in_order(marks: re.Match[str]) -> str:
    """A run of combining marks in canonical order, which is the same text. Python sorts one by insertion: 1 MB of marks takes minutes."""
    signs = "".join(unicodedata.normalize("NFD", sign) for sign in marks[0])
    runs = itertools.groupby(signs, key=lambda sign: unicodedata.combining(sign) > 0)
    return "".join("".join(sorted(run, key=unicodedata.combining) if is_mark else run) for is_mark, run in runs)


def normalize_spaces(text: str) -> str:
    """Single spaces, none before a line end, at most one blank line in a row, trimmed."""
    if "  " in text or _ODD_SPACE.search(text):
        text = _SPACES.sub(" ", text)
    text = text.replace(" \n", "\n")
    return (_BLANK_LINES.sub("\n\n", text) if "\n\n\n" in text else text).strip()


# --- all of it ------------------------------------------------------------------------------------------------------------------

RULES: dict[str, Callable[[str], str]] = {
    # Mojibake first: C1 controls are half of it. NFC after the control characters, which may stand between a letter and its accent.
    "mojibake": repair_mojibake,
    "html": strip_html,
    "control_characters": drop_control_characters,
    "nfc": compose,
    "whitespace": normalize_spaces,
}
"""Name of each rule, in the order in which they are applied."""
NEEDS = {"mojibake": "ftfy"}
"""Package that a rule imports."""


def clean(texts: Sequence[str], rules: Collection[str] = tuple(RULES), changed: Counter[str] | None = None) -> list[str]:
    """Apply rules to every text; those beyond ASCII again until nothing changes: a control character gone, its neighbours may be mojibake.

    Args:
        rules: names of `RULES`. `html` is applied once: what an entity stood for is text.
        changed: counts by rule the texts that it changed.
    """
    cleaned = list(texts)
    found: dict[str, set[int]] = {}
    names, rows = [name for name in RULES if name in rules], list(range(len(cleaned)))
    while rows:
        before = [cleaned[row] for row in rows]
        after = before
        for name in names:
            last, after = after, list(map(RULES[name], after))
            hit = {row for row, old, new in zip(rows, last, after, strict=True) if old is not new and old != new}
            found[name] = found.get(name, set()) | hit
        for row, text in zip(rows, after, strict=True):
            cleaned[row] = text
        rows = [row for row, old, new in zip(rows, before, after, strict=True) if old is not new and old != new and not new.isascii()]
        names = [name for name in names if name != "html"]
    if changed is not None:
        changed.update({name: len(hit) for name, hit in found.items()})
    return cleaned


def clean_text(text: str) -> str:
    """NFC, no control characters, single spaces, at most one blank line in a row, trimmed."""
    return normalize_spaces(compose(drop_control_characters(text)))
