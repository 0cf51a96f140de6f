"""Which signs say something, so that texts differ by them: `C++`, `C#`, `-5`, `5%`, `a < b`, `3 * 4`, `!x`, `:)`, an emoji.

Other signs only part words. Of an ASCII sign its neighbours decide, which are looked up for a whole block of bytes at once.
"""

from __future__ import annotations

import itertools
import unicodedata

import numpy as np
import numpy.typing as npt

from acclimate.data.leakage.comparison import HYPHENS

Bytes = npt.NDArray[np.uint8]
Positions = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

MARK = "\x01"
"""Stands before a sign that is not ASCII and says something."""
CANDIDATES = "+#%$-<>!*^:;" + MARK
"""ASCII signs that may say something."""
MOUTHS = "()"
"""Of these the eyes before them decide: `:)`. Brackets are frequent, and eyes are rare."""
EDGE = "\x00"
"""Stands between texts in a block."""
_DROP, _KEEP, _LOOK_FURTHER = 0, 1, 2
_LETTER, _WIDE, _DIGIT, _SPACE, _OTHER = "a", "\x80", "1", " ", "?"
_KIND_OF = _LETTER + _WIDE + _DIGIT + _SPACE + EDGE + "+-=(" + _OTHER
"""Kinds of bytes beside a sign: a letter, a byte that is not ASCII, a digit, white space, each of these, and the rest."""
_DRAWN = ((0x2190, 0x21FF), (0x2500, 0x25FF))
"""Arrows, lines of tables and bullets, which say nothing of the text."""
_SAY_NOTHING = frozenset("\u00a9\u00ae\u00b0|")


def written_sign(sign: str) -> str | None:
    """How a sign that is not ASCII is written before bytes are looked at; None where it only parts words."""
    code, category = ord(sign), unicodedata.category(sign)
    if sign in HYPHENS:  # the byte table looks for a number behind it
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
        kind = sign.replace(")", "(") if sign in EDGE + "+-=()" else _OTHER
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
    is_smile = sign in ":;" and not is_word and after in "(-"
    return _LOOK_FURTHER if is_smile or (sign in "-*^" and is_first and is_last) or (sign == "+" == before) else _DROP


_KINDS = np.array([_kind(code) for code in range(256)], dtype=np.uint8)
_VERDICTS = np.array([_verdict(*each) for each in itertools.product(CANDIDATES, _KIND_OF, _KIND_OF)], dtype=np.uint8)
_IS_DIGIT: Flags = np.equal(_KINDS, _KIND_OF.index(_DIGIT))
_IS_SPACE: Flags = np.equal(_KINDS, _KIND_OF.index(_SPACE))
_IS_MOUTH: Flags = np.equal(_KINDS, _KIND_OF.index("("))
_IS_WORD: Flags = np.less_equal(_KINDS, _KIND_OF.index(_DIGIT))


_MAY_BE_KEPT, _PARTS_WORD = 1, 2
_BY_NEXT_KIND = {(sign, after): any(_verdict(sign, before, after) for before in _KIND_OF) for sign in CANDIDATES for after in _KIND_OF}
_BY_NEXT_BYTE = np.array(
    [
        _PARTS_WORD if sign + chr(after) == "-\n" else _MAY_BE_KEPT * _BY_NEXT_KIND[sign, _KIND_OF[_kind(after)]]
        for sign, after in itertools.product(CANDIDATES, range(256))
    ],
    dtype=np.uint8,
)


def candidate_signs(raw: Bytes, codes: Bytes, num_below: int) -> tuple[Positions, Positions]:
    """Where signs stand that may say something by the byte behind them, and hyphens at line ends.

    Args:
        codes: the block with each of `CANDIDATES` as its place among them, from 1.
        num_below: codes below this are candidates.
    """
    places = np.flatnonzero(codes < num_below)
    found = _BY_NEXT_BYTE[(codes[places].astype(np.intp) - 1) * 256 + raw[places + 1]]
    return places[found == _MAY_BE_KEPT], places[found == _PARTS_WORD]


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
    unsure = candidates[verdicts == _LOOK_FURTHER]
    kept = candidates[verdicts == _KEEP]
    return np.concatenate([kept, _looks_further(raw, unsure)]) if len(unsure) else kept


def _looks_further(raw: Bytes, places: Positions) -> Positions:
    """Those that say something by more than what stands beside them, as `C++` and `5 - 3`; of `:)` and `:-(` the mouth."""
    signs, before, after = raw[places], raw[places - 1], raw[places + 1]
    is_eyes = (signs == ord(":")) | (signs == ord(";"))
    has_mouth, has_nose = is_eyes & _IS_MOUTH[after], is_eyes & (after == ord("-")) & _IS_MOUTH[raw[places + 2]]
    is_second_plus = (signs == ord("+")) & (before == ord("+")) & _IS_WORD[raw[np.maximum(places - 2, 0)]]
    is_operator = ~is_eyes & (signs != ord("+")) & _IS_DIGIT[_past_space(raw, places, -1)] & _IS_DIGIT[_past_space(raw, places, 1)]
    return np.concatenate([places[is_second_plus | is_operator], places[has_mouth] + 1, places[has_nose] + 2])


def _past_space(raw: Bytes, places: Positions, step: int) -> Bytes:
    """The next byte in a direction that is no white space."""
    places = places + step
    while (is_space := _IS_SPACE[raw[places]]).any():
        places = places + step * is_space
    return raw[places]
