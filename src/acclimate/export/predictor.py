"""Labels, scores or spans from raw text, by an exported ONNX graph.

Needs numpy, onnxruntime and tokenizers alone and imports nothing of acclimate: this file travels inside the registered model.

Shapes: R rows, B rows of one batch, T tokens, C labels, K words of a row that the model read.
"""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnxruntime
    from tokenizers import Encoding, Tokenizer

logger = logging.getLogger(__name__)

INPUT_NAMES = ("input_ids", "attention_mask", "token_type_ids")
Inputs = dict[str, NDArray[np.int64]]
"""The graph's inputs, each (B, T)."""
MAX_TAGGED_CHARS = 1_000_000
"""A longer text is refused: tagging holds a word and its tokens for all of it, about 0.5 kB a character."""
_CHARS_PER_TOKEN, _CHARS_PER_TOKEN_OF_PAIR = 1000, 50
"""What stands beyond so many characters for each token that the model reads is not even tokenized: the tokenizer keeps what it cuts
off, of a pair every part of one text with every part of the other. Two texts of 16,000 characters, read by 16 tokens, took 16 GB."""
CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"

_OPENING = {"(": ")", "[": "]", "{": "}", "<": ">"}
_CLOSING = {closing: opening for opening, closing in _OPENING.items()}
_QUOTES = "\"'`\u201c\u201d\u2018\u2019"
_STOPS = ".,;:!?"


class PredictorError(ValueError):
    """What was given to a predictor, or the directory it is loaded from, is not fit."""


@dataclass(frozen=True)
class Word:
    """A word of a raw text and where it stands: `text[start:end]`."""

    text: str
    start: int
    end: int


class Predictor:
    """A fine-tuned model as an ONNX graph with its tokenizer.

    Not safe to pickle (it holds a native session); load it where it is used. Safe to call from several threads.
    """

    def __init__(self, session: onnxruntime.InferenceSession, tokenizer: Tokenizer, task: dict[str, Any]) -> None:
        self.session = session
        self.task = task
        self.kind: str = task["kind"]
        self.labels: list[str] = task["labels"] or []
        tokenizer.enable_truncation(task["max_tokens"])
        self.pad_id = _pad_id(tokenizer)
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self._room = task["max_tokens"] - tokenizer.num_special_tokens_to_add(task["pair"])
        self._input_names = [value.name for value in session.get_inputs()]

    @classmethod
    def load(
        cls,
        directory: Path,
        *,
        variant: str = "model.onnx",
        providers: list[str] | None = None,
        threads: int | None = None,
    ) -> Predictor:
        """Load an export directory: `task.json`, `tokenizer.json` and a graph.

        Args:
            directory: what the stage `export` wrote.
            variant: file name of the graph, `model.onnx` or `model.int8.onnx`.
            providers: onnxruntime's execution providers, most wanted first; None is the CPU.
            threads: threads of one operator; None lets onnxruntime take every core.

        Raises:
            PredictorError: a file is missing, or the first provider asked for is not the one that runs.
        """
        from tokenizers import Tokenizer

        for name in ("task.json", "tokenizer.json", variant):
            if not (directory / name).is_file():
                raise PredictorError(f"{directory / name}: no such file; expected the directory that the stage `export` writes")
        session = open_session(directory / variant, providers=providers, threads=threads)
        task = json.loads((directory / "task.json").read_text(encoding="utf-8"))
        return cls(session, Tokenizer.from_file(str(directory / "tokenizer.json")), task)

    def predict(self, texts: list[str], pairs: list[str] | None = None, *, batch_size: int = 32) -> list[dict[str, Any]]:
        """Predict from raw text.

        A text longer than the task's `max_tokens` is cut there, with a warning; for tagging it is read in windows instead.

        Args:
            texts: one or more texts.
            pairs: the second texts of a task on pairs, as many as `texts`.
            batch_size: rows to a batch. Rows are sorted by length, so padding is rare.

        Returns:
            One dictionary a text, by kind of task:
            classification `{"label", "probability", "probabilities": {label: p}}`;
            multi_label `{"labels": [...], "probabilities": {label: p}}`, a label is given from 0.5 on;
            regression `{"score"}`;
            tagging `{"spans": [{"type", "start", "end", "text"}]}` with character offsets into the text.

        Raises:
            PredictorError: not a list of texts, an empty text, a missing or needless `pairs`, half of a surrogate pair, a text to tag
                that is longer than `MAX_TAGGED_CHARS`, or a batch size below 1.
        """
        _check_texts(texts, "texts")
        if not isinstance(batch_size, int) or batch_size < 1:
            raise PredictorError(f"batch_size is {str(batch_size)[:40]!r}; it must be a whole number from 1 on")
        self._check_pairs(texts, pairs)
        if self.kind == "tagging":
            if (longest := max(map(len, texts))) > MAX_TAGGED_CHARS:
                raise PredictorError(f"a text has {longest:,} characters; at most {MAX_TAGGED_CHARS:,} are tagged at once; split it")
            return [{"spans": spans} for spans in self._tag(texts, batch_size)]
        logits_RC = np.stack(self.logits(self.encode(texts, pairs), batch_size=batch_size))
        return [self._describe(row) for row in logits_RC.astype(np.float64)]

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> list[Encoding]:
        """Tokenize texts or pairs of texts, cut at `max_tokens`."""
        limit = self.task["max_tokens"]
        chars = limit * (_CHARS_PER_TOKEN if pairs is None else _CHARS_PER_TOKEN_OF_PAIR)
        columns = [[text[:chars] for text in column] for column in (texts, pairs) if column is not None]
        inputs = columns[0] if pairs is None else list(zip(*columns, strict=True))
        encodings: list[Encoding] = self._tokenizer.encode_batch(inputs)
        num_cut = sum(bool(encoding.overflowing) for encoding in encodings)
        if num_cut:
            logger.warning("%d of %d texts are longer than %d tokens; the rest of each is not read", num_cut, len(inputs), limit)
        return encodings

    def encode_words(self, rows: Sequence[Sequence[str]]) -> list[Encoding]:
        """Tokenize rows that are lists of words already, cut at `max_tokens`."""
        visible = [[self._visible(word) for word in row] for row in rows]
        encodings: list[Encoding] = self._tokenizer.encode_batch(visible, is_pretokenized=True)
        return encodings

    def logits(self, encodings: Sequence[Encoding], *, batch_size: int = 32) -> list[NDArray[np.float32]]:
        """Run the graph over rows of any length.

        Returns:
            For each row its logits: (C,), or (T, C) for tagging, without padding; in the order given.
        """
        return batched_logits(self.run, encodings, pad_id=self.pad_id, per_token=self.kind == "tagging", batch_size=batch_size)

    def run(self, inputs: Inputs) -> NDArray[np.float32]:
        """The logits of one padded batch, (B, C), or (B, T, C) for tagging."""
        output: NDArray[np.float32] = self.session.run(None, {name: inputs[name] for name in self._input_names})[0]
        return output

    def _check_pairs(self, texts: list[str], pairs: list[str] | None) -> None:
        name = self.task["name"]
        if not self.task["pair"] and pairs is not None:
            raise PredictorError(f"task {name!r} reads single texts; leave `pairs` out")
        if self.task["pair"]:
            if pairs is None:
                raise PredictorError(f"task {name!r} reads pairs of texts; give the second ones as `pairs`")
            _check_texts(pairs, "pairs")
            if len(pairs) != len(texts):
                raise PredictorError(f"{len(texts)} texts but {len(pairs)} pairs; give one for each")

    def _describe(self, logits_C: NDArray[np.float64]) -> dict[str, Any]:
        if self.kind == "regression":
            return {"score": float(logits_C[0])}
        if self.kind == "multi_label":
            by_label = dict(zip(self.labels, _sigmoid(logits_C).tolist(), strict=True))
            return {"labels": [label for label, p in by_label.items() if p > 0.5], "probabilities": by_label}
        probabilities = _softmax(logits_C).tolist()
        best = int(logits_C.argmax())
        return {
            "label": self.labels[best],
            "probability": probabilities[best],
            "probabilities": dict(zip(self.labels, probabilities, strict=True)),
        }

    def _tag(self, texts: list[str], batch_size: int) -> list[list[dict[str, Any]]]:
        windows = [(row, window) for row, text in enumerate(texts) for window in self._windows(split_words(text))]
        encodings = self.encode_words([[word.text for word in window] for _, window in windows])
        spans: list[list[dict[str, Any]]] = [[] for _ in texts]
        for (row, window), encoding, logits_TC in zip(windows, encodings, self.logits(encodings, batch_size=batch_size), strict=True):
            for kind, first, last in spans_of(self._word_tags(encoding, logits_TC, len(window))):
                start, end = window[first].start, window[last].end
                spans[row].append({"type": kind, "start": start, "end": end, "text": texts[row][start:end]})
        return spans

    def _windows(self, words: list[Word]) -> list[list[Word]]:
        """Cut a long text between words so that each part fits the model. A word longer than the model is a window alone."""
        lengths = self._tokenizer.encode_batch([self._visible(word.text) for word in words], add_special_tokens=False)
        windows: list[list[Word]] = [[]]
        used = 0
        for word, encoding in zip(words, lengths, strict=True):
            if windows[-1] and used + len(encoding.ids) > self._room:
                windows.append([])
                used = 0
            windows[-1].append(word)
            used += len(encoding.ids)
        return windows

    def _visible(self, word: str) -> str:
        """The word, or the unknown token for one that would give no token: each word must have a place for its tag.

        The same rule as in training (acclimate.data.encoding.encode_words); a test holds the two together.
        """
        if word.isascii() and word.isprintable() and word.strip():
            return word
        normalizer = self._tokenizer.normalizer
        if word.strip() and (normalizer.normalize_str(word) if normalizer else word).strip():
            return word
        return "[UNK]" if self._tokenizer.token_to_id("[UNK]") is not None else "?"

    def _word_tags(self, encoding: Encoding, logits_TC: NDArray[np.float32], num_words: int) -> list[str]:
        tags = ["O"] * num_words
        for word, token in first_tokens(encoding).items():
            tags[word] = self.labels[int(logits_TC[token].argmax())]
        return tags


def open_session(path: Path, *, providers: list[str] | None = None, threads: int | None = None) -> onnxruntime.InferenceSession:
    """Open a graph, on the provider asked for or not at all.

    onnxruntime falls back to the CPU without a word (https://github.com/microsoft/onnxruntime/issues/23372).

    Raises:
        PredictorError: the first provider of `providers` is not the one that would run.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    wanted = providers or [CPU]
    missing = [provider for provider in wanted if provider not in onnxruntime.get_available_providers()]
    if missing:
        available = ", ".join(onnxruntime.get_available_providers())
        raise PredictorError(f"{path.name}: this onnxruntime has no {', '.join(missing)}; it has: {available}")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Threads that sleep rather than spin: 5.2 s against 8.6 s for 400 rows of MiniLM on two busy cores, no loss on idle ones.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if threads is not None:
        options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=wanted)
    active = session.get_providers()
    if active[0] != wanted[0]:
        raise PredictorError(f"{path.name}: asked to run on {wanted[0]}, would run on {active[0]}; are its driver and libraries installed?")
    return session


def batched_logits(
    run: Callable[[Inputs], NDArray[np.float32]], encodings: Sequence[Encoding], *, pad_id: int, per_token: bool, batch_size: int
) -> list[NDArray[np.float32]]:
    """Run a model over rows sorted by length, in batches padded to their longest row.

    Args:
        run: gives the logits of one batch, (B, C) or (B, T, C).
        per_token: whether `run` gives (B, T, C).

    Returns:
        For each row its logits without padding, (C,) or (T, C); in the order given.
    """
    order = sorted(range(len(encodings)), key=lambda row: len(encodings[row].ids))
    logits: list[NDArray[np.float32]] = [np.empty(0, dtype=np.float32)] * len(encodings)
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        output = run(pad([encodings[row] for row in rows], pad_id))
        for row, values in zip(rows, output, strict=True):
            logits[row] = values[: len(encodings[row].ids)] if per_token else values
    return logits


def pad(encodings: Sequence[Encoding], pad_id: int) -> Inputs:
    """Encodings as the graph's inputs, padded to the longest of them."""
    shape = (len(encodings), max(len(encoding.ids) for encoding in encodings))
    inputs = {name: np.zeros(shape, dtype=np.int64) for name in INPUT_NAMES}
    inputs["input_ids"][:] = pad_id
    for row, encoding in enumerate(encodings):
        length = len(encoding.ids)
        inputs["input_ids"][row, :length] = encoding.ids
        inputs["attention_mask"][row, :length] = 1
        inputs["token_type_ids"][row, :length] = encoding.type_ids
    return inputs


def _pad_id(tokenizer: Tokenizer) -> int:
    """The padding token's id. RoBERTa-like models count positions by it, so it must be the right one."""
    if tokenizer.padding is not None:
        return int(tokenizer.padding["pad_id"])
    found = (tokenizer.token_to_id(token) for token in ("[PAD]", "<pad>"))
    return next((token_id for token_id in found if token_id is not None), 0)


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


def _check_texts(texts: object, name: str) -> None:
    if not isinstance(texts, list):
        raise PredictorError(f"`{name}` must be a list of texts, found {type(texts).__name__}")
    if not texts:
        raise PredictorError(f"`{name}` is empty; give one text or more")
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise PredictorError(f"{name}[{index}] is {type(text).__name__}; each must be a string")
        if not text.strip():
            raise PredictorError(f"{name}[{index}] is empty; each must hold text")
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            raise PredictorError(f"{name}[{index}] holds half of a surrogate pair, which is no character") from None


def _softmax(logits_C: NDArray[np.float64]) -> NDArray[np.float64]:
    exponent_C = np.exp(logits_C - logits_C.max())
    return np.asarray(exponent_C / exponent_C.sum())


def _sigmoid(logits_C: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.exp(-np.logaddexp(0.0, -logits_C)))
