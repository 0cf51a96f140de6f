"""From a question and a context to the span of the context that answers it.

Needs NumPy alone and imports nothing of acclimate: this file travels inside the registered model, beside predictor.py. Training takes
its windows and its spans from here too.

Shapes: T tokens, K readable positions of a row, A tokens of the longest answer.
"""

from __future__ import annotations

import copy
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

    from acclimate.export import predictor

MAX_CHARS = 1_000_000
"""A longer text is refused: all its windows are held, about 0.3 kB a character with the default overlap."""
NO_ANSWER = 0
"""The position that says that a window holds no answer: the first token, [CLS] of BERT."""
_CONTEXT = 1


@dataclass(frozen=True)
class Places:
    """Where answers may stand in each row."""

    example_of_row: NDArray[np.int64]
    positions: list[NDArray[np.int64]]
    """Readable positions of each row, (K,): NO_ANSWER, then the tokens of the context."""
    characters: list[NDArray[np.int64]]
    """First and past the last character of each of them in the context, (K, 2); (0, 0) for NO_ANSWER."""
    contexts: Sequence[str]
    """One an example."""


@dataclass
class Rows:
    """Windows, those of one example side by side."""

    encodings: list[Encoding]
    places: Places
    num_cut: int
    """Questions that were cut."""


class Windows:
    """Rows of question and context. A long context is read in windows that overlap; a question has half a row at most.

    Args:
        overlap: share of a row that two neighbouring windows of a context have in common, below a half.
    """

    def __init__(self, tokenizer: Tokenizer, max_length: int, *, overlap: float) -> None:
        room = max_length - tokenizer.num_special_tokens_to_add(True)
        if room < 2:
            raise ValueError(f"{max_length} tokens leave no room for a question and a context")
        self._max_question = room // 2
        # Copies, set once: threads share them.
        self._whole, self._in_windows = copy.deepcopy(tokenizer), copy.deepcopy(tokenizer)
        for each in (self._whole, self._in_windows):
            each.encode_special_tokens = tokenizer.encode_special_tokens  # a copy is made of JSON, which does not hold it
            each.no_padding()
        self._whole.no_truncation()
        self._in_windows.enable_truncation(max_length, stride=int(overlap * room), strategy="only_second")

    def read(self, questions: Sequence[str], contexts: Sequence[str]) -> Rows:
        """The rows of each question with its context."""
        short = self._shortened(questions)
        encodings: list[Encoding] = []
        examples: list[int] = []
        for example, first in enumerate(self._in_windows.encode_batch(list(zip(short, contexts, strict=True)))):
            windows = [first, *first.overflowing]
            encodings += windows
            examples += [example] * len(windows)
        found = [_readable(encoding) for encoding in encodings]
        places = Places(np.array(examples, dtype=np.int64), [each[0] for each in found], [each[1] for each in found], contexts)
        num_cut = sum(whole != cut for whole, cut in zip(questions, short, strict=True))
        return Rows(encodings, places, num_cut)

    def _shortened(self, questions: Sequence[str]) -> list[str]:
        """Questions without what stands beyond their room. A cut may change how the rest is tokenized, so each is looked at again."""
        short, pending = list(questions), list(range(len(questions)))
        while pending:
            encodings = self._whole.encode_batch([short[row] for row in pending], add_special_tokens=False)
            too_long = [(row, each) for row, each in zip(pending, encodings, strict=True) if len(each.ids) > self._max_question]
            for row, encoding in too_long:
                short[row] = short[row][: min(encoding.offsets[self._max_question][0], len(short[row]) - 1)]
            pending = [row for row, _ in too_long]
        return short


def _readable(encoding: Encoding) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions and characters of a row, see `Places`."""
    offsets_T2 = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)
    in_context_T = np.array([part == _CONTEXT for part in encoding.sequence_ids], dtype=np.bool_)
    positions = np.flatnonzero(in_context_T & (offsets_T2[:, 1] > offsets_T2[:, 0]))
    return np.concatenate([[NO_ANSWER], positions]), np.concatenate([np.zeros((1, 2), dtype=np.int64), offsets_T2[positions]])


def best_spans(
    places: Places, logits: Sequence[NDArray[np.float32]], *, unanswerable: bool, max_answer_tokens: int
) -> list[dict[str, Any]]:
    """The likeliest span of each example over all its windows.

    The score of a span is the sum of its start's and its end's logits, that of no answer the least one of any window.

    Args:
        logits: start and end of each row's readable positions, (K, 2).
        unanswerable: whether no answer is given where it scores more than every span.

    Returns:
        `text`, `start` and `end` in characters of the context (empty, -1 and -1 for no answer), and `scores`: of the span, of no answer.
    """
    best = [(-np.inf, -1, -1)] * len(places.contexts)
    none = [np.inf] * len(places.contexts)
    for example, characters_K2, logits_K2 in zip(places.example_of_row.tolist(), places.characters, logits, strict=True):
        none[example] = np.minimum(none[example], logits_K2[0].sum(dtype=np.float64))  # keeps a NaN, as Python's min does not
        score, first, last = _best_span(logits_K2[1:].astype(np.float64), max_answer_tokens)
        if score > best[example][0] or np.isnan(score):  # a NaN stays
            best[example] = (score, int(characters_K2[1 + first, 0]), int(characters_K2[1 + last, 1]))
    return [
        _prediction(context, span, float(score_of_none), unanswerable=unanswerable)
        for context, span, score_of_none in zip(places.contexts, best, none, strict=True)
    ]


def _best_span(logits_N2: NDArray[np.float64], max_length: int) -> tuple[float, int, int]:
    if not len(logits_N2):
        return -np.inf, 0, 0
    ends_NA = sliding_window_view(np.concatenate([logits_N2[:, 1], np.full(max_length - 1, -np.inf)]), max_length)
    scores_NA = logits_N2[:, :1] + ends_NA
    first, more = divmod(int(scores_NA.argmax()), max_length)
    return float(scores_NA[first, more]), first, first + more


def _prediction(context: str, span: tuple[float, int, int], none: float, *, unanswerable: bool) -> dict[str, Any]:
    score, start, end = span
    scores = [none if start < 0 else score, none]
    if start < 0 or (unanswerable and none > score):
        return {"text": "", "start": -1, "end": -1, "scores": scores}
    while end < len(context) and unicodedata.combining(context[end]):  # accents that the tokenizer drops belong to their letter
        end += 1
    return {"text": context[start:end], "start": start, "end": end, "scores": scores}


class Decoder:
    """The answer, its characters in the context, and by how much it scores above no answer."""

    outputs: ClassVar[Mapping[str, Any]] = {"answer": "string", "start": "long", "end": "long", "score": "double"}
    max_chars: ClassVar[int | None] = MAX_CHARS
    per_token: ClassVar[bool] = True
    inputs: ClassVar[tuple[str, ...]] = ("question", "context")

    def __init__(self, task: Mapping[str, Any], reader: predictor.Reader) -> None:
        options = task["options"]
        self._windows = Windows(reader.tokenizer, reader.max_length, overlap=options["overlap"])
        self._prepared = reader.prepared
        self._choice = {name: options[name] for name in ("unanswerable", "max_answer_tokens")}

    def read(self, columns: Sequence[Sequence[str]]) -> Rows:
        """Windows of each question's context; an answer is quoted from the context as it was given."""
        questions, contexts = columns
        rows = self._windows.read(self._prepared.texts(questions), self._prepared.in_place(contexts))
        return replace(rows, places=replace(rows.places, contexts=contexts))

    def read_table(self, examples: Sequence[Mapping[str, Any]]) -> Rows:
        """The table's texts are prepared."""
        return self._windows.read(*([example[name] for example in examples] for name in self.inputs))

    def raw(self, example: Mapping[str, Any]) -> list[str]:
        """The texts."""
        return [example[name] for name in self.inputs]

    def predictions(self, rows: Rows, logits: Sequence[NDArray[np.float32]]) -> list[dict[str, Any]]:
        """The best span of each example, see `best_spans`."""
        readable = [row_T2[positions] for row_T2, positions in zip(logits, rows.places.positions, strict=True)]
        return best_spans(rows.places, readable, **self._choice)

    def numbers(self, prediction: Any) -> NDArray[np.float32]:
        """The scores of the span and of no answer."""
        return np.asarray(prediction["scores"], dtype=np.float32)

    def decisions(self, prediction: Any) -> NDArray[np.int64]:
        """Start and end."""
        return np.array([prediction["start"], prediction["end"]], dtype=np.int64)

    def answers(self, rows: Rows, logits: Sequence[NDArray[np.float32]]) -> list[dict[str, Any]]:
        """One an example."""
        return [
            {"answer": found["text"], "start": found["start"], "end": found["end"], "score": found["scores"][0] - found["scores"][1]}
            for found in self.predictions(rows, logits)
        ]


COMPONENT: type[predictor.Decoder] = Decoder
