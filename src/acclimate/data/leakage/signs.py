"""Which signs say something, so that texts differ by them: `C++`, `C#`, `-5`, `5%`, `a < b`, `3 * 4`, `!x`, `:)`, an emoji.

Other signs only part words. Of an ASCII sign its neighbours decide, which are looked up for a whole block of bytes at once.
"""

from __future__ import annotations

import itertools
import unicodedata

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Positions = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

MARK = "\x01"
"""Stands before a sign that is not ASCII and says something."""
CANDIDATES = "+#%$-<>!*/^()" + MARK
"""ASCII signs that may say something."""
EDGE = "\x00"
"""Stands between texts in a block."""
_DROP, _KEEP, _LOOK_FURTHER = 0, 1, 2
_LETTER, _WIDE, _DIGIT, _SPACE, _OTHER = "a", "\x80", "1", " ", "?"
_KIND_OF = _LETTER + _WIDE + _DIGIT + _SPACE + EDGE + "+-=:" + _OTHER
"""Kinds of bytes beside a sign: a letter, a byte that is not ASCII, a digit, white space, each of these, and the rest."""
_DRAWN = ((0x2190, 0x21FF), (0x2500, 0x25FF))
"""Arrows, lines of tables and bullets, which say nothing of the text."""
_SAY_NOTHING = frozenset("\u00a9\u00ae\u00b0|")


def written_sign(sign: str) -> str | None:
    """How a sign that is not ASCII is written before bytes are looked at; None where it only parts words."""
    code, category = ord(sign), unicodedata.category(sign)
    if category == "Pd" or sign == "\u2212":  # the dash and minus of typesetters: the byte table looks for a number behind it
        return "-"
    is_emoji_colour = 0x1F3FB <= code <= 0x1F3FF
    says_something = category in ("Sm", "Sc", "So") or is_emoji_colour
    if not says_something or sign in _SAY_NOTHING or any(first <= code <= last for first, last in _DRAWN):
        return None
    return f" {MARK}{sign} "


def _kind(code: int) -> int:
    sign = chr(code)
    if code >= 128:
        kind = _WIDE
    elif sign.isalpha() or sign == "_":
        kind = _LETTER
    elif sign.isdigit() or sign.isspace():
        kind = _DIGIT if sign.isdigit() else _SPACE
    else:
        kind = sign.replace(";", ":") if sign in EDGE + "+-=:;" else _OTHER
    return _KIND_OF.index(kind)


def _verdict(sign: str, before: str, after: str) -> int:
    """Whether a sign says something between two neighbours, by their kinds."""
    is_word, is_next_word = (kind in (_LETTER, _WIDE, _DIGIT) for kind in (before, after))
    is_first, is_last = before in _SPACE + EDGE, after in _SPACE + EDGE
    keeps = {
        MARK: after == _WIDE,
        "+": is_word or (is_first and is_last) or (after == _DIGIT and before != "-"),
        "#": is_word and not is_next_word,
        "%": before == _DIGIT,
        "$": after == _DIGIT,
        "-": after == _DIGIT and not is_word and before != "-",
        "!": after == "=" or (is_next_word and not is_word),
        "*": before == _DIGIT == after,
        "^": before == _DIGIT == after,
    }
    compares = (is_first and (is_last or after in "=1")) or (is_word and (is_next_word or after == "="))
    if keeps.get(sign, sign in "<>" and compares):
        return _KEEP
    is_smile = sign in "()" and before in ":-"
    return _LOOK_FURTHER if is_smile or (sign in "-*/^" and is_first and is_last) or (sign == "+" == before) else _DROP


_KINDS = np.array([_kind(code) for code in range(256)], dtype=np.uint8)
_VERDICTS = np.array([_verdict(*each) for each in itertools.product(CANDIDATES, _KIND_OF, _KIND_OF)], dtype=np.uint8)
_IS_DIGIT: Flags = np.equal(_KINDS, _KIND_OF.index(_DIGIT))
_IS_SPACE: Flags = np.equal(_KINDS, _KIND_OF.index(_SPACE))
_IS_COLON: Flags = np.equal(_KINDS, _KIND_OF.index(":"))
_IS_WORD: Flags = np.less_equal(_KINDS, _KIND_OF.index(_DIGIT))


def kept_signs(raw: Bytes, codes: Bytes, candidates: Positions) -> Positions:
    """The candidates that say something.

    Args:
        raw: a block of texts, with an EDGE before, between and behind them.
        codes: the same with each candidate as its place in `CANDIDATES`, from 1.
        candidates: where these stand, in order.
    """
    size = len(_KIND_OF)
    before, after = _KINDS[raw[candidates - 1]], _KINDS[raw[candidates + 1]]
    verdicts = _VERDICTS[((codes[candidates].astype(np.intp) - 1) * size + before) * size + after]
    unsure = np.flatnonzero(verdicts == _LOOK_FURTHER)
    if len(unsure):
        verdicts[unsure] = _looks_further(raw, candidates[unsure])
    kept: Positions = candidates[verdicts == _KEEP]
    return kept


def _looks_further(raw: Bytes, places: Positions) -> Flags:
    """Whether signs say something by more than what stands beside them: `C++`, `5 - 3`, ` :)`, ` :-(`."""
    signs, before = raw[places], raw[places - 1]
    two_back, three_back = raw[np.maximum(places - 2, 0)], raw[np.maximum(places - 3, 0)]
    has_eyes = np.where(_IS_COLON[before], ~_IS_WORD[two_back], _IS_COLON[two_back] & ~_IS_WORD[three_back])
    is_mouth = (signs == ord("(")) | (signs == ord(")"))
    is_second_plus = (signs == ord("+")) & (before == ord("+")) & _IS_WORD[two_back]
    is_operator = ~is_mouth & (signs != ord("+")) & _IS_DIGIT[_past_space(raw, places, -1)] & _IS_DIGIT[_past_space(raw, places, 1)]
    return np.asarray((is_mouth & has_eyes) | is_second_plus | is_operator)


def _past_space(raw: Bytes, places: Positions, step: int) -> Bytes:
    """The next byte in a direction that is no white space."""
    places = places + step
    while (is_space := _IS_SPACE[raw[places]]).any():
        places = places + step * is_space
    return raw[places]
