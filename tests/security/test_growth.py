"""Time grows with the length of a text, whoever wrote it: no text that is built for it takes minutes."""

from __future__ import annotations

import contextlib
import gc
import itertools
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from acclimate.adapters.tracking_worker import flatten
from acclimate.data.leakage.comparison import duplicate_key
from acclimate.data.leakage.hashing import hash_texts, hash_words
from acclimate.data.leakage.near_duplicates import DuplicatesConfig, fingerprints
from acclimate.data.reading.readers import iter_batches, row_prefixes
from acclimate.data.screening.cleaning import clean_text, repair_mojibake, strip_html
from acclimate.data.screening.language import LanguageConfig, judge_languages
from acclimate.data.screening.personal_data import find_personal_data
from acclimate.data.screening.personal_data import redact as redact_personal_data
from acclimate.data.screening.quality import PRESETS, QualityConfig, judge_batch
from acclimate.errors import DataError
from acclimate.redaction import redact
from acclimate.tasks.tagging.decode import split_words

_SIZES = (2_000, 8_000, 32_000)
_MOST = 8.0
"""Four times the text takes 4 times as long where time is linear, and 16 times where it is quadratic; this is the geometric mean."""
_MEASURABLE_S = 0.02
"""At the largest size even a pass over the text for each of its characters, one nanosecond a step, takes longer than this."""
_TRIES = 5

_PAGE = "<b></b><p></p>"
_PIECES = {
    "opened tags": "<a ",
    "opened tags that close": "</a ",
    "tags with long attributes": "<a" + " x=1" * 500,
    "brackets": "<",
    "comments that do not end": "<!--",
    "scripts that do not end": "<script>",
    "styles that do not begin": "<style ",
    "scripts and styles in turn": "<script><style>",
    "ends of scripts": "</script ",
    "doctypes": "<!doctype ",
    "entities": "&#",
    "entities that do not end": "&amp",
    "@": "@",
    "addresses that do not end": "a@",
    "domains without an end": "a@b.",
    "addresses": "a1@b.org ",
    "dotted": "a.",
    "digits": "1",
    "digits apart": "1 ",
    "digits and hyphens": "1-",
    "digits, dots": "1.1.1.1.",
    "addresses of machines": "2001:db8:",
    "telephone numbers": "+4930123456",
    "national numbers": "(212) 555-1234",
    "account numbers": "DE89",
    "cards": "4111111111111111,",
    "keys of AWS": "AKIA",
    "keys of npm": "npm_" + "a1" * 18,
    "beginnings of tokens": "-eyJaaaaaaaaaaaa",
    "two parts of a token": "eyJaaaaaaaaaaaa.",
    "private keys": "-----BEGIN PRIVATE KEY-----",
    "private keys that do not end": "-----BEGIN PRIVATE KEY-----\n" + "A" * 50 + "\n-----END ",
    "logins": "://a:",
    "assignments": "password=",
    "equal signs": "=",
    "spaces": " ",
    "tabs and spaces": "\t ",
    "line ends": "\n",
    "spaces before line ends": " \n",
    "odd spaces": "\u2003",
    "one word": "a",
    "words": "lorem ipsum ",
    "quotes": '"',
    "stops": ".",
    "stops and quotes": '."',
    "opening brackets": "(",
    "brackets of every kind": "([{<",
    "marks out of order": "\u0301\u0316",
    "marks that decompose": "\u0f73",
    "one mark": "\u0308",
    "marks of Hebrew": "\u05b0\u05c1",
    "letters with marks": "e\u0301\u0316",
    "syllables in parts": "\u1100\u1161\u11a8",
    "sigmas": "\u03a3'",
    "capitals that grow": "\u0130",
    "Han": "\u4e2d",
    "mojibake": "\u00c3\u00a9",
    "mojibake of mojibake": "\u00c3\u0192\u00c2\u00a9",
    "mojibake of quotes": "\u00e2\u20ac\u0153",
    "bytes that begin a sign": "\u00c3",
    "controls": "\x01\x85",
    "zero-width": "\u200b",
    "right to left": "\u202e\u05d0",
    "emoji": "\U0001f468\u200d\U0001f469",
    "URLs": "https://a@b?c=d&",
    "slashes": "/",
    "nested lists": "[",
    "nested objects": '{"a":',
    "nested text": '{"text": "\\',
}
_STARTS = {"": "", "after a page": _PAGE, "after a dot": ".", "after a phone": "tel: ", "after a letter": "a", "after a bracket": "("}
_ENDS = {"": "", "before a letter": "x", "before an at": "@", "before a dot": ".x"}

_PRESETS = [QualityConfig(preset=name) for name in PRESETS if name != "off"]  # type: ignore[arg-type]
_TOKEN_PATTERN = re.compile(r"(?u)\b\w[\w.+-]*\b")


def _judge(text: str) -> None:
    for config in _PRESETS:
        judge_batch([text], config)


FUNCTIONS: dict[str, Callable[[str], Any]] = {
    "strip_html": strip_html,
    "clean_text": clean_text,
    "repair_mojibake": repair_mojibake,
    "duplicate_key": duplicate_key,
    "find_personal_data": find_personal_data,
    "redact_personal_data": redact_personal_data,
    "judge_batch": _judge,
    "hash_words": lambda text: hash_words([text]),
    "hash_texts": lambda text: hash_texts([text]),
    "fingerprints": lambda text: fingerprints([text], DuplicatesConfig()),
    "split_words": split_words,
    "redact": redact,
    "flatten": lambda text: flatten({text: text}),
    "words of the baseline": _TOKEN_PATTERN.findall,
}


def _seconds(function: Callable[[Any], Any], argument: Any) -> float:
    """Of this process: what others do on the machine counts little."""
    start = time.process_time()
    function(argument)
    return time.process_time() - start


def growth(function: Callable[[Any], Any], make: Callable[[int], Any], sizes: Sequence[int] = _SIZES) -> float:
    """How many times longer four times as much takes, at the first size that can be measured; 0 where none can."""
    gc.disable()  # it looks at all objects of the process
    try:
        for small, large in itertools.pairwise(sizes):
            if _seconds(function, make(large)) < _MEASURABLE_S:
                continue
            short = long = float("inf")
            for _ in range(_TRIES):
                short = min(short, _seconds(function, make(small)))
                long = min(long, _seconds(function, make(large)))
                if long < _MOST * short:
                    break
            if long >= _MOST * short or large == sizes[-1]:
                return long / short
    finally:
        gc.enable()
    return 0.0


def _made(piece: str, start: str, end: str) -> Callable[[int], str]:
    return lambda size: start + piece * (size // len(piece) + 1) + end


@pytest.mark.parametrize("name", FUNCTIONS)
def test_time_is_linear_in_a_hostile_text(name: str) -> None:
    """Every piece; the starts and the ends that let a pattern begin and fail are taken in turn."""
    slow = {}
    starts, ends = list(_STARTS.values()), list(_ENDS.values())
    for number, (attack, piece) in enumerate(_PIECES.items()):
        start, end = _PAGE if name == "strip_html" else starts[number % len(starts)], ends[number % len(ends)]
        ratio = growth(FUNCTIONS[name], _made(piece, start, end))
        if ratio >= _MOST:
            slow[attack] = round(ratio, 1)
    assert slow == {}


@pytest.mark.parametrize("ending", [".json", ".jsonl", ".csv", ".txt"])
def test_time_is_linear_in_a_hostile_file(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"file{ending}"

    def read(content: str) -> None:
        path.write_text(content, encoding="utf-8")
        with contextlib.suppress(DataError):
            list(iter_batches(path, ["text"], where="tables.a"))

    heads = {".json": '[{"text": "', ".jsonl": '{"text": "', ".csv": 'text,label\n"', ".txt": ""}
    slow = {}
    for attack, piece in _PIECES.items():
        for head in {"", heads[ending]}:
            ratio = growth(read, _made(piece, head, ""), (32_000, 128_000))
            if ratio >= _MOST:
                slow[attack, head] = round(ratio, 1)
    assert slow == {}


def test_time_is_linear_in_the_number_of_files() -> None:
    root = Path("data")
    assert growth(lambda names: row_prefixes([root / name for name in names], root), lambda size: [f"{n}.csv" for n in range(size)]) < _MOST


def test_a_long_text_is_not_read_whole_for_its_language() -> None:
    config = LanguageConfig(languages=["en"])
    assert growth(lambda text: judge_languages([text], config), lambda size: "a" * 100 * size) < _MOST
