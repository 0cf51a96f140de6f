"""What counts as one text: how texts are folded before exact copies, near-copies and overlaps with evaluation texts are found."""

from __future__ import annotations

import hashlib
import re
import unicodedata

from acclimate.data.naming import IGNORABLE
from acclimate.data.screening.cleaning import compose

_IGNORED = re.compile(f"[{IGNORABLE}]+")
HYPHENS = "\u2010\u2011\u2212\ufe63\uff0d"
"""What else is written as a hyphen or minus."""
_LINE_MARKS = re.compile(r"^(?:>[ \t]{0,3}|\+[ \t]{1,3})+(?=[^\s>+])", re.MULTILINE)
_LINE_END_HYPHEN = re.compile(rf"(?<=[^\W\d_])[-{HYPHENS}\u00ad]\n[ \t]*(?=[^\W\d_A-Z])")


def join_lines(text: str) -> str:
    """A word that a hyphen parts at a line's end in one piece; a compound such as `well-known` parted so loses its hyphen too."""
    is_parted = "-\n" in text or (not text.isascii() and any(sign in text for sign in f"{HYPHENS}\u00ad"))
    return _LINE_END_HYPHEN.sub("", text) if is_parted else text


def drop_line_marks(text: str) -> str:
    """The text without the marks of a quoted mail or a diff at the beginnings of its lines: `> > text`, `+ text`."""
    is_marked = text[:1] in (">", "+") or "\n>" in text or "\n+" in text
    return _LINE_MARKS.sub("", text) if is_marked else text


def is_ignored(text: str) -> bool:
    """Whether signs stand in a text that show nothing."""
    return _IGNORED.search(text) is not None


def fold(text: str) -> str:
    """What stays of a text where looks are passed over: case, ligatures, width, signs that show nothing, hyphens at line ends.

    This is NFKC_Casefold (Unicode 17, section 3.13, D147). A text is only compared in this form, and kept in its own.
    """
    text = drop_line_marks(text)
    if text.isascii():
        return (join_lines(text) if "-\n" in text else text).lower()
    text = join_lines(text)
    text = _IGNORED.sub("", text).casefold()
    while not unicodedata.is_normalized("NFKC", text):  # more than once for a few Greek letters
        text = unicodedata.normalize("NFKC", compose(_full_width_marks(text))).casefold()
    return text


def _full_width_marks(text: str) -> str:
    """Marks of kana that `compose` puts in order; NFKC alone takes minutes over 1 MB of half-width ones."""
    return text.replace("\uff9e", "\u3099").replace("\uff9f", "\u309a")


def duplicate_key(text: str) -> str:
    """What two texts share that differ as `fold` says, or in white space."""
    return " ".join(fold(text).split())


def key_digest(text: str) -> str:
    """Names the group of all texts with one duplicate key, in 16 characters."""
    return hashlib.sha256(duplicate_key(text).encode("utf-8", "surrogatepass")).hexdigest()[:16]
