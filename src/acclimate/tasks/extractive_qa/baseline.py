"""Words near those of the question as the baseline; logistic regression over frozen features of tokens as the probe.

Shapes: W words of a context, S places where an answer may start, K readable positions of a row, D width.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from math import log
from statistics import median_high
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from acclimate import kinds
from acclimate.data.screening.scripts import has_unspaced, word_pattern
from acclimate.evaluation.arrays import Floats
from acclimate.evaluation.linear import logistic_logits, standardized
from acclimate.tasks.extractive_qa.decode import best_spans
from acclimate.tasks.extractive_qa.model import Own, span_in_row

MAX_TRAIN_TOKENS = 8_000
"""A probe is fitted on about so many tokens, every start and end among them, which bounds its time."""
_REACH = 20
"""Words on either side of an answer that are compared with the question."""
_WORD = re.compile(r"\w+")


class Baseline:
    """A sliding window over the context, after that of Richardson et al. 2013 (https://aclanthology.org/D13-1020), or a constant."""

    description: ClassVar[str] = (
        "the words next to those of the question, rare ones above all, as many as answers have in the middle; "
        "or the context's first words; or no answer: what is best on dev"
    )
    audit: ClassVar[kinds.LabelAudit | None] = None

    def candidates(
        self, rows: Mapping[str, kinds.Columns], gold: Mapping[str, Sequence[Any]], labels: Sequence[str] | None
    ) -> list[tuple[float | None, dict[str, Any]]]:
        """Predictions as `decode.best_spans` gives them."""
        lengths = [len(_words_in(answers["texts"][0])) for answers in gold["train"] if answers["texts"][0]]
        num_words = max(1, median_high(lengths)) if lengths else 1
        contexts = set(rows["train"]["context"])
        frequency = Counter(word for context in contexts for word in {word[0].lower() for word in _words_in(context)})

        def rarity(word: str) -> float:
            return log((1 + len(contexts)) / (1 + frequency[word])) + 1e-3

        def nearest(question: str, context: str) -> dict[str, Any]:
            return _nearest_words(question, context, num_words, rarity)

        def first(_question: str, context: str) -> dict[str, Any]:
            return _words(context, _words_in(context)[:num_words])

        def none(_question: str, context: str) -> dict[str, Any]:
            return _words(context, [])

        return [
            (None, {split: [*map(answer, rows[split]["question"], rows[split]["context"])] for split in ("dev", "test")})
            for answer in (nearest, first, none)
        ]

    def probe(
        self, train: kinds.ProbeRows, others: Sequence[kinds.ProbeRows], *, num_outputs: int, regularization: float, tolerance: float
    ) -> list[Any]:
        """One regression for the start and one for the end over tokens of contexts; their log-odds are the logits.

        It always gives a span. Most windows hold no answer, so a probe that may say so says nothing else, in every layer.
        """
        ends_K2 = _starts_and_ends(train)
        kept = _sample(ends_K2, _firsts(train))
        features, rest = standardized(train.features[kept], [split.features for split in others])
        by_end = [
            logistic_logits(features, gold_K, rest, num_labels=2, inverse_penalty=1 / regularization, tolerance=tolerance)
            for gold_K in ends_K2[kept].T.astype(int)
        ]
        return [
            _predictions(np.stack([odds[:, 1] - odds[:, 0] for odds in logits], axis=1), split)
            for *logits, split in zip(*by_end, others, strict=True)
        ]


def _words_in(text: str) -> list[re.Match[str]]:
    return list((word_pattern(text) if has_unspaced(text) else _WORD).finditer(text))


def _nearest_words(question: str, context: str, num_words: int, rarity: Callable[[str], float]) -> dict[str, Any]:
    words = _words_in(context)
    if not words:
        return _words(context, [])
    asked = {word[0].lower() for word in _words_in(question)}
    weights_W = np.array([rarity(word) if word in asked else 0.0 for word in (match[0].lower() for match in words)])
    num_words = min(num_words, len(words))
    nearness = 1 / np.arange(1, _REACH + 1)
    before_W = np.convolve(weights_W, np.concatenate([[0.0], nearness]))[: len(words)]
    after_W = np.convolve(weights_W[::-1], np.concatenate([[0.0], nearness]))[: len(words)][::-1]
    inside_S = np.convolve(weights_W, np.ones(num_words), mode="valid")
    scores_S = before_W[: len(inside_S)] + after_W[num_words - 1 :] - inside_S
    start = int(scores_S.argmax())
    return _words(context, words[start : start + num_words])


def _words(context: str, words: Sequence[re.Match[str]]) -> dict[str, Any]:
    start, end = (words[0].start(), words[-1].end()) if words else (-1, -1)
    return {"text": context[start:end] if words else "", "start": start, "end": end, "scores": [0.0, 0.0]}


def _starts_and_ends(split: kinds.ProbeRows) -> NDArray[np.bool_]:
    """Whether each position is a start, an end."""
    assert split.encoded is not None
    found = np.zeros((len(split.features), 2), dtype=np.bool_)
    for row, before in enumerate(_firsts(split)):
        start, end = span_in_row(split.gold, split.encoded, row)
        found[before + start, 0] = found[before + end, 1] = True
    return found


def _firsts(split: kinds.ProbeRows) -> NDArray[np.int64]:
    """Where the positions of each row begin, with that of no answer."""
    assert split.per_row is not None
    return np.asarray(np.cumsum(split.per_row) - split.per_row, dtype=np.int64)


def _sample(ends_K2: NDArray[np.bool_], firsts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Every start and end in a context, and other tokens of contexts in equal steps."""
    in_context_K = np.ones(len(ends_K2), dtype=np.bool_)
    in_context_K[firsts] = False
    wanted_K = ends_K2.any(axis=1)
    others = np.flatnonzero(in_context_K & ~wanted_K)
    step = max(1, -(-len(others) // MAX_TRAIN_TOKENS))
    return np.sort(np.concatenate([np.flatnonzero(in_context_K & wanted_K), others[::step]]))


def _predictions(logits_K2: Floats, split: kinds.ProbeRows) -> list[Any]:
    assert split.encoded is not None
    own: Own = split.encoded.own
    rows = np.split(logits_K2.astype(np.float32), _firsts(split)[1:])
    return best_spans(own.places, rows, unanswerable=False, max_answer_tokens=own.options["max_answer_tokens"])


COMPONENT: type[kinds.Baseline] = Baseline
