"""Words of ASCII texts as a plain regular expression tells them: the reference for the hashes of whole blocks."""

from __future__ import annotations

import re

_SIGNS = (
    r"(?<=\w)\+|(?<=\w\+)\+|(?<!\S)\+(?!\S)|(?<!-)\+(?=\d)",  # C++, A+, a + b, +5
    r"(?<=\w)#(?!\w)",  # C#
    r"(?<=\d)%|\$(?=\d)",
    r"(?<![\w-])-(?=\d)",  # -5
    r"!(?==)|(?<!\w)!(?=\w)",  # !=, !x
    r"(?<=\d)[*^](?=\d)",
    r"(?<!\S)[<>](?=[\s=\d]|$)|(?<=\w)[<>](?=[\w=])",
    r"(?<=\W[:;])[()]|(?<=\W[:;]-)[()]",  # :) and :-(
)
_KEPT = re.compile("|".join(_SIGNS), re.ASCII)
_OPERATOR = re.compile(r"\d\s+([-*^])\s+(?=\d)", re.ASCII)  # 5 - 3


def words_of(text: str) -> list[str]:
    """The words of an ASCII text, in order, with the signs that say something."""
    text = re.sub(r"(?m)^(?:>[ \t]{0,3}|\+[ \t]{1,3})+(?=[^\s>+])", "", text)
    text = re.sub(r"(?<=[a-zA-Z])-\r?\n[ \t]*(?=[a-z])", "", text).lower()
    framed = f"\n{text}\n"
    kept = {match.start() for match in _KEPT.finditer(framed)}
    kept |= {match.start(1) for start in range(len(framed)) if (match := _OPERATOR.match(framed, start))}
    shown = "".join(sign if re.match(r"[a-z0-9_]", sign) or place in kept else " " for place, sign in enumerate(framed))
    return shown.split()
