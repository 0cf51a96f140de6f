"""From texts to spans of words.

Needs NumPy alone and imports nothing of acclimate: this file travels inside the registered model, beside predictor.py.

Shapes: T tokens, C tags, K words of a row that the model read.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tokenizers import Encoding

    from acclimate.export import predictor

MAX_CHARS = 1_000_000
"""A longer text is refused: a word and its tokens are held for all of it, about 0.5 kB a character."""

_OPENING = {"(": ")", "[": "]", "{": "}", "<": ">"}
_CLOSING = {closing: opening for opening, closing in _OPENING.items()}
_QUOTES = "\"'`\u201c\u201d\u2018\u2019"
_STOPS = ".,;:!?"
_UNSPACED = re.compile(
    "[\u0e01-\u0eff\u1000-\u109f\u1780-\u17ff\u3041-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9d\U00020000-\U000323af]"
)
"""Letters of scripts that put no space between words: Thai, Lao, Burmese, Khmer, Japanese and Chinese."""
_JOINERS = "_\u200c\u200d"


@dataclass(frozen=True)
class Word:
    """A word of a raw text and where it stands: `text[start:end]`."""

    text: str
    start: int
    end: int


@dataclass
class Rows:
    """Windows of texts, or rows of a table, which are one window each."""

    encodings: list[Encoding]
    windows: list[tuple[int, list[Word]]] = field(default_factory=list)
    """For each row the number of its text, and its words."""
    texts: Sequence[str] = ()


class Decoder:
    """Spans with character offsets into the text. A long text is read in windows, cut between words."""

    outputs: ClassVar[Mapping[str, Any]] = {"spans": [{"type": "string", "start": "long", "end": "long", "text": "string"}]}
    max_chars: ClassVar[int | None] = MAX_CHARS
    per_token: ClassVar[bool] = True
    inputs: ClassVar[tuple[str, ...]] = ("text",)

    def __init__(self, task: Mapping[str, Any], reader: predictor.Reader) -> None:
        self._reader = reader
        self._labels: list[str] = task["labels"] or []
        self._split = SPLITS[task.get("options", {}).get("words", "ends")]

    def read(self, columns: Sequence[Sequence[str]]) -> Rows:
        """Windows of the texts' words."""
        (texts,) = columns
        windows = [(number, window) for number, text in enumerate(texts) for window in self._windows(self._prepared(self._split(text)))]
        return Rows(self._reader.words([[word.text for word in window] for _, window in windows]), windows, texts)

    def _prepared(self, words: list[Word]) -> list[Word]:
        """Words as ingest would have them, where they stand in the raw text."""
        texts = self._reader.prepared.words([word.text for word in words])
        return [Word(text, word.start, word.end) for text, word in zip(texts, words, strict=True)]

    def read_table(self, examples: Sequence[Mapping[str, Any]]) -> Rows:
        """Rows of words, cut."""
        return Rows(self._reader.words([example["words"] for example in examples]))

    def raw(self, example: Mapping[str, Any]) -> list[str]:
        """The words, joined by spaces."""
        return [" ".join(example["words"])]

    def predictions(self, rows: Rows, logits: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """The logits of the words that were read, (K C,)."""
        return [row_TC[list(first_tokens(each).values())].ravel() for row_TC, each in zip(logits, rows.encodings, strict=True)]

    def numbers(self, prediction: Any) -> NDArray[np.float32]:
        """The logits."""
        return np.asarray(prediction, dtype=np.float32)

    def decisions(self, prediction: Any) -> NDArray[np.int64]:
        """The tag of each word."""
        return np.asarray(self.numbers(prediction).reshape(-1, len(self._labels)).argmax(axis=1), dtype=np.int64)

    def answers(self, rows: Rows, logits: Sequence[NDArray[np.float32]]) -> list[dict[str, Any]]:
        """The spans of each text."""
        spans: list[list[dict[str, Any]]] = [[] for _ in rows.texts]
        for (number, window), encoding, logits_TC in zip(rows.windows, rows.encodings, logits, strict=True):
            for kind, first, last in spans_of(self._word_tags(encoding, logits_TC, len(window))):
                start, end = window[first].start, window[last].end
                spans[number].append({"type": kind, "start": start, "end": end, "text": rows.texts[number][start:end]})
        return [{"spans": found} for found in spans]

    def _windows(self, words: list[Word]) -> list[list[Word]]:
        """Cut a long text between words so that each part fits the model. A word longer than the model is a window alone."""
        lengths = self._reader.num_tokens([self._reader.visible(word.text) for word in words])
        windows: list[list[Word]] = [[]]
        room, used = self._reader.room(), 0
        for word, length in zip(words, lengths, strict=True):
            if windows[-1] and used + length > room:
                windows.append([])
                used = 0
            windows[-1].append(word)
            used += length
        return windows

    def _word_tags(self, encoding: Encoding, logits_TC: NDArray[np.float32], num_words: int) -> list[str]:
        tags = ["O"] * num_words
        for word, token in first_tokens(encoding).items():
            tags[word] = self._labels[int(logits_TC[token].argmax())]
        return tags


def first_tokens(encoding: Encoding) -> dict[int, int]:
    """For each word that kept a token, the position of its first; words and tokens count from 0."""
    first: dict[int, int] = {}
    for token, word in enumerate(encoding.word_ids):
        if word is not None:
            first.setdefault(word, token)
    return first


def split_words(text: str) -> list[Word]:
    """Split at white space and detach punctuation at a word's ends.

    Tagging tables hold words already, with punctuation as words of its own; this gives raw text the same look.
    What stands inside a word stays (`/etc/passwd`, `syncmask[0]`, `open(2)`): only quotes, stops and unbalanced brackets go.
    """
    words = []
    start = 0
    for chunk in text.split():
        start = text.index(chunk, start)
        words += _detach(text, start, start + len(chunk))
        start += len(chunk)
    return words


def _detach(text: str, start: int, end: int) -> list[Word]:
    before, after = [], []
    count = Counter(text[start:end])  # of what is left of the word
    last = text[start:end].rstrip(_STOPS + _QUOTES)[-1:]
    while end - start > 1 and _opens(text[start], count, last):
        before.append(Word(text[start], start, start + 1))
        count[text[start]] -= 1
        start += 1
    while end - start > 1 and _closes(text[end - 1], count):
        after.append(Word(text[end - 1], end - 1, end))
        count[text[end - 1]] -= 1
        end -= 1
    return [*before, Word(text[start:end], start, end), *reversed(after)]


def _opens(first: str, count: Mapping[str, int], last: str) -> bool:
    """Whether a word's first sign is detached. `last` is its last sign that is neither stop nor quote."""
    if first in _OPENING:
        return count[first] > count[_OPENING[first]] or last == _OPENING[first]
    return first in _QUOTES


def _closes(last: str, count: Mapping[str, int]) -> bool:
    if last in _CLOSING:
        return count[last] > count[_CLOSING[last]]
    return last in _QUOTES or last in _STOPS


def split_signs(text: str) -> list[Word]:
    """Split at white space and around each sign: runs of letters, digits and `_` are words, every other sign is one.

    A letter of a script without spaces is a word with the marks on it, as BERT reads Chinese.
    """
    words: list[Word] = []
    start, is_run = 0, False
    for place, sign in enumerate(text):
        category = unicodedata.category(sign)[0]
        in_run = category in "LN" and not _UNSPACED.match(sign)
        is_mark = category == "M" and not text[start].isspace()
        goes_on = place > start and (is_mark or (is_run and (in_run or sign in _JOINERS)))
        if not goes_on:
            _add(words, text, start, place)
            start, is_run = place, in_run or sign == "_"
    _add(words, text, start, len(text))
    return words


def _add(words: list[Word], text: str, start: int, end: int) -> None:
    if text[start:end].strip():
        words.append(Word(text[start:end], start, end))


SPLITS: Mapping[str, Callable[[str], list[Word]]] = {"ends": split_words, "signs": split_signs}


def spans_of(tags: Sequence[str]) -> list[tuple[str, int, int]]:
    """Spans of BIO tags as (type, first word, last word). An `I-` without its `B-` begins a span, as conlleval reads it."""
    spans: list[tuple[str, int, int]] = []
    for index, tag in enumerate(tags):
        if tag == "O":
            continue
        prefix, _, kind = tag.partition("-")
        goes_on = prefix == "I" and bool(spans) and spans[-1][0] == kind and spans[-1][2] == index - 1
        if goes_on:
            spans[-1] = (kind, spans[-1][1], index)
        else:
            spans.append((kind, index, index))
    return spans


COMPONENT: type[predictor.Decoder] = Decoder
