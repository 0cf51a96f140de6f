"""Which documents are no running text: heuristics of Gopher and C4 as thresholds on measures of a whole batch.

Gopher: Rae et al. 2021, section A.1.1 and table A1, https://arxiv.org/abs/2112.11446. C4: Raffel et al. 2020, section 2.2,
https://jmlr.org/papers/v21/20-074.html; C4 drops lines, here a document is kept or quarantined whole, so its rules are shares of lines;
and it drops pages that say "lorem ipsum", here it takes a third word, "dolor", since a text about typesetting says the first two.
Words are what stands between white space; in scripts that write none between words (Chinese, Japanese, Thai, Khmer, ...) each character is
one, which the rules on the length of words take to be of usual length. Shapes: R rows (documents), W words of all rows laid end to end.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field

from acclimate.data.screening.scripts import CHARACTERS, has_unspaced, part_characters
from acclimate.settings import Options, Share

Values = NDArray[Any]
Limit = Annotated[float, Field(ge=0)]
RuleName = Literal[
    "too_few_words", "too_many_words", "short_words", "long_words", "many_symbols", "bullet_lines", "ellipsis_lines",
    "few_alphabetic_words", "few_stop_words", "duplicate_lines", "duplicate_line_chars", "duplicate_paragraphs",
    "duplicate_paragraph_chars", "top_2_gram", "top_3_gram", "top_4_gram", "duplicate_5_grams", "duplicate_6_grams",
    "duplicate_7_grams", "duplicate_8_grams", "duplicate_9_grams", "duplicate_10_grams", "few_sentences", "few_terminal_lines",
    "javascript", "curly_bracket", "lorem_ipsum",
]  # fmt: skip

TOP_GRAMS = (2, 3, 4)
DUPLICATE_GRAMS = (5, 6, 7, 8, 9, 10)
STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")


class QualityThresholds(Options):
    """A threshold for each rule; None: the rule is off (in a preset) or as in the preset (in `QualityConfig`)."""

    min_words: Limit | None = None
    max_words: Limit | None = None
    min_mean_word_chars: Limit | None = None
    max_mean_word_chars: Limit | None = None
    max_symbols_per_word: Limit | None = Field(default=None, description="of `#` alone, and of ellipses alone")
    max_bullet_line_share: Share | None = None
    max_ellipsis_line_share: Share | None = None
    min_alphabetic_word_share: Share | None = None
    min_stop_words: Limit | None = Field(default=None, description="different ones of: the be to of and that have with")
    max_duplicate_line_share: Share | None = None
    max_duplicate_line_char_share: Share | None = None
    max_duplicate_paragraph_share: Share | None = None
    max_duplicate_paragraph_char_share: Share | None = None
    max_top_gram_shares: Annotated[list[Share], Field(min_length=3, max_length=3)] | None = Field(
        default=None, description="share of characters in the most frequent 2-, 3- and 4-gram"
    )
    max_duplicate_gram_shares: Annotated[list[Share], Field(min_length=6, max_length=6)] | None = Field(
        default=None, description="share of characters in repeated 5- to 10-grams"
    )
    min_words_for_repetition: Limit | None = Field(default=None, description="documents of fewer words are not judged by repetition")
    min_sentences: Limit | None = None
    min_terminal_line_share: Share | None = Field(default=None, description="lines that end in . ! ? or a quotation mark")
    max_javascript_line_share: Share | None = None
    max_curly_brackets: Limit | None = None
    max_lorem_ipsum: Limit | None = None


PRESETS: dict[str, QualityThresholds] = {
    "off": QualityThresholds(),
    # For technical prose of any length, two sentences too: only what hardly can be prose. Chosen on Debian's descriptions and manuals.
    "light": QualityThresholds(
        min_mean_word_chars=2,
        max_mean_word_chars=20,
        max_symbols_per_word=0.5,
        min_alphabetic_word_share=0.4,
        max_duplicate_line_share=0.5,
        max_duplicate_line_char_share=0.5,
        max_duplicate_paragraph_share=0.5,
        max_duplicate_gram_shares=[0.7, 0.68, 0.66, 0.64, 0.62, 0.6],
        min_words_for_repetition=50,
        max_lorem_ipsum=0,
    ),
    "gopher": QualityThresholds(
        min_words=50,
        max_words=100_000,
        min_mean_word_chars=3,
        max_mean_word_chars=10,
        max_symbols_per_word=0.1,
        max_bullet_line_share=0.9,
        max_ellipsis_line_share=0.3,
        min_alphabetic_word_share=0.8,
        min_stop_words=2,
        max_duplicate_line_share=0.3,
        max_duplicate_line_char_share=0.2,
        max_duplicate_paragraph_share=0.3,
        max_duplicate_paragraph_char_share=0.2,
        max_top_gram_shares=[0.2, 0.18, 0.16],
        max_duplicate_gram_shares=[0.15, 0.14, 0.13, 0.12, 0.11, 0.1],
    ),
    "c4": QualityThresholds(
        min_sentences=5, min_terminal_line_share=0.5, max_javascript_line_share=0.3, max_curly_brackets=0, max_lorem_ipsum=0
    ),
}


class QualityConfig(QualityThresholds):
    """A preset, single thresholds laid over it, and rules of it that are off (by the names that stand in the quarantine)."""

    preset: Literal["off", "light", "gopher", "c4"] = "light"
    rules_off: list[RuleName] = []


@dataclass(frozen=True)
class Rule:
    """A rule is broken where its measure is below (`min_…`) or above (`max_…`) the threshold."""

    name: str
    threshold: str
    measure: Callable[[_Batch], Values]
    position: int | None = None
    """Place in a list of thresholds."""

    def limit(self, thresholds: QualityThresholds) -> float | None:
        """Its threshold, None where it is off."""
        value = getattr(thresholds, self.threshold)
        found: float | None = value if value is None or self.position is None else value[self.position]
        return found


def judge_batch(texts: Sequence[str], config: QualityConfig) -> list[str | None]:
    """Name the first rule, in the order of `RULES`, that each document breaks; None where it breaks none."""
    thresholds = effective_thresholds(config)
    batch = _Batch(texts)
    verdicts: list[str | None] = [None] * len(texts)
    open_R = np.ones(len(texts), dtype=np.bool_)
    for rule in RULES:
        limit = rule.limit(thresholds)
        if limit is None or rule.name in config.rules_off or not open_R.any():
            continue
        measure_R = rule.measure(batch)
        broken_R = measure_R < limit if rule.threshold.startswith("min_") else measure_R > limit
        if rule.name in _REPETITION and thresholds.min_words_for_repetition is not None:
            broken_R &= batch.num_words >= thresholds.min_words_for_repetition
        for row in np.flatnonzero(broken_R & open_R).tolist():
            verdicts[row] = rule.name
        open_R &= ~broken_R
    return verdicts


def effective_thresholds(config: QualityConfig) -> QualityThresholds:
    """The preset's thresholds with those of the configuration laid over."""
    given = {name: getattr(config, name) for name in QualityThresholds.model_fields if getattr(config, name) is not None}
    return PRESETS[config.preset].model_copy(update=given)


_LETTER = r"\p{L}"
_PARAGRAPH_END = re.compile(r"\n{2,}")
_UNSPACED_WORD = f"^[{CHARACTERS}]"
_USUAL_WORD_CHARS = 5.0
# Armenian, Arabic, Urdu, Indic, Tibetan, Burmese, Ethiopic, Khmer, Chinese and Japanese.
_STOPS = "\u0589\u061f\u06d4\u0964\u0965\u0f0d\u0f0e\u104b\u1362\u17d4\u3002\uff01\uff0e\uff1f\uff61"
_THAI = "\u0e01-\u0eff"  # and Lao: a space ends a sentence, no sign does
_SENTENCE_END = re.compile(r"[.!?][\"'\u201d\u2019)\]]*(?=\s|$)")
_OTHER_SENTENCE_END = re.compile(rf"[{_STOPS}]+|[{_THAI}](?=\s|$)")
_BULLETS = ("•", "-", "*")
_ELLIPSES = ("...", "\u2026")
_TERMINALS = (".", "!", "?", '"', "'", "\u201d", "\u2019", "\u300d", "\u300f", *_STOPS, *map(chr, range(0x0E01, 0x0F00)))


class _Batch:
    """Measures of a batch of documents, each worked out when first asked for."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts

    @functools.cached_property
    def chars(self) -> Values:
        return np.fromiter(map(len, self.texts), np.int64, len(self.texts))

    @functools.cached_property
    def lines(self) -> list[list[str]]:
        """Lines of each document that hold more than white space."""
        return [[line for line in text.split("\n") if line and not line.isspace()] for text in self.texts]

    @functools.cached_property
    def num_lines(self) -> Values:
        return np.fromiter(map(len, self.lines), np.int64, len(self.texts))

    @functools.cached_property
    def words(self) -> tuple[Values, Values, pa.Array]:
        """Row of each word (W,), its number (W,) and the list of all different words."""
        split = pc.utf8_split_whitespace(pa.array(list(map(part_characters, self.texts)), pa.large_string()))
        row_W = np.repeat(np.arange(len(self.texts)), np.diff(split.offsets.to_numpy()))
        encoded = split.values.dictionary_encode()
        id_W = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
        # Text that begins or ends with white space gives an empty word there.
        is_word = pc.binary_length(encoded.dictionary).to_numpy(zero_copy_only=False)[id_W] > 0
        return row_W[is_word], id_W[is_word], encoded.dictionary

    @functools.cached_property
    def word_chars(self) -> Values:
        _, id_W, dictionary = self.words
        return np.asarray(pc.utf8_length(dictionary).to_numpy(zero_copy_only=False)[id_W])

    @functools.cached_property
    def num_words(self) -> Values:
        return np.bincount(self.words[0], minlength=len(self.texts))

    @functools.cached_property
    def mean_word_chars(self) -> Values:
        chars_W = np.where(self.is_character, _USUAL_WORD_CHARS, self.word_chars)
        return self._per_word(np.bincount(self.words[0], weights=chars_W, minlength=len(self.texts)), empty=0.0)

    @functools.cached_property
    def is_character(self) -> Values:
        """Words of scripts without spaces, (W,)."""
        _, id_W, dictionary = self.words
        if not any(map(has_unspaced, self.texts)):
            return np.zeros(len(id_W), np.bool_)
        return np.asarray(pc.match_substring_regex(dictionary, _UNSPACED_WORD).to_numpy(zero_copy_only=False)[id_W])

    @functools.cached_property
    def symbols_per_word(self) -> Values:
        hashes_R = np.fromiter((text.count("#") for text in self.texts), np.int64, len(self.texts))
        ellipses_R = np.fromiter((text.count("...") + text.count("\u2026") for text in self.texts), np.int64, len(self.texts))
        return self._per_word(np.maximum(hashes_R, ellipses_R), empty=0.0)

    @functools.cached_property
    def alphabetic_share(self) -> Values:
        row_W, id_W, dictionary = self.words
        has_letter = pc.match_substring_regex(dictionary, _LETTER).to_numpy(zero_copy_only=False)
        return self._per_word(np.bincount(row_W, weights=has_letter[id_W], minlength=len(self.texts)), empty=0.0)

    @functools.cached_property
    def stop_words(self) -> Values:
        row_W, id_W, dictionary = self.words
        bare = pc.utf8_lower(pc.utf8_trim(dictionary, ".,;:!?()\"'"))
        found = pc.fill_null(pc.index_in(bare, pa.array(STOP_WORDS, bare.type)), -1).to_numpy(zero_copy_only=False)[id_W]
        pairs = np.unique(row_W[found >= 0] * len(STOP_WORDS) + found[found >= 0])
        return np.asarray(np.bincount(pairs // len(STOP_WORDS), minlength=len(self.texts)) + len(STOP_WORDS) * self.is_unspaced)

    @functools.cached_property
    def is_unspaced(self) -> Values:
        """Documents most of whose words are such characters: they cannot hold English stop words."""
        characters_R = np.bincount(self.words[0], weights=self.is_character, minlength=len(self.texts))
        return np.asarray(characters_R > self.num_words / 2)

    @functools.cached_property
    def sentences(self) -> Values:
        counts_R = np.fromiter((len(_SENTENCE_END.findall(text)) for text in self.texts), np.int64, len(self.texts))
        others = ((row, len(_OTHER_SENTENCE_END.findall(text))) for row, text in enumerate(self.texts) if not text.isascii())
        for row, count in others:
            counts_R[row] += count
        return np.asarray(counts_R)

    def line_share(self, holds: Callable[[str], bool]) -> Values:
        counts_R = np.fromiter((sum(map(holds, lines)) for lines in self.lines), np.int64, len(self.texts))
        return counts_R / np.maximum(self.num_lines, 1)

    def counts(self, needle: str) -> Values:
        return np.fromiter((text.count(needle) for text in self.texts), np.int64, len(self.texts))

    def lower_counts(self, needle: str) -> Values:
        return np.fromiter((text.lower().count(needle) for text in self.texts), np.int64, len(self.texts))

    @functools.cached_property
    def duplicate_lines(self) -> tuple[Values, Values]:
        """Share of lines, and of characters, in lines that stood there before; each (R,)."""
        return self._duplicates(self.lines)

    @functools.cached_property
    def duplicate_paragraphs(self) -> tuple[Values, Values]:
        """Share of paragraphs, and of characters, in paragraphs that stood there before; each (R,)."""
        return self._duplicates([_PARAGRAPH_END.split(text.strip()) if "\n\n" in text else [text] for text in self.texts])

    def _duplicates(self, parts: Sequence[list[str]]) -> tuple[Values, Values]:
        share_R, char_share_R = np.zeros(len(parts)), np.zeros(len(parts))
        for row, pieces in enumerate(parts):
            if len(set(pieces)) < len(pieces):
                repeated = sum(map(len, pieces)) - sum(map(len, set(pieces)))
                share_R[row] = 1 - len(set(pieces)) / len(pieces)
                char_share_R[row] = repeated / max(1, int(self.chars[row]))
        return share_R, char_share_R

    @functools.cached_property
    def gram_shares(self) -> tuple[dict[int, Values], dict[int, Values]]:
        """By n: share of characters in the most frequent n-gram, and in n-grams that stood there before; each (R,).

        A repeated n-gram begins with a repeated (n-1)-gram, so only those are looked at for the next n: few, after the first steps.
        Of n-grams that overlap no character is counted twice. As in datatrove's filters, shares are of all characters of the text, and
        white space counts in the most frequent n-gram, not in repeated ones.
        """
        row_W, id_W, dictionary = self.words
        total_R = np.maximum(self.chars, 1)
        ends_W = np.cumsum(self.word_chars)
        starts = np.arange(len(row_W))
        gram = row_W  # the grams that are still alive, by a number of their own; here the empty gram of each row
        top, duplicate = {}, {}
        for size in range(1, DUPLICATE_GRAMS[-1] + 1):
            fits = starts + size <= len(row_W)
            starts, gram = starts[fits], gram[fits]
            inside = row_W[starts] == row_W[starts + size - 1]
            starts, gram = starts[inside], gram[inside]
            _, first, gram, counts = np.unique(
                gram * len(dictionary) + id_W[starts + size - 1], return_index=True, return_inverse=True, return_counts=True
            )
            is_repeated = counts[gram] > 1
            is_later = is_repeated.copy()
            is_later[first] = False
            if size in TOP_GRAMS:
                chars = (ends_W[starts + size - 1] - ends_W[starts] + self.word_chars[starts] + size - 1) * counts[gram]
                is_top = is_repeated & (counts[gram] == self._largest(row_W[starts], counts[gram])[row_W[starts]])
                top[size] = self._largest(row_W[starts[is_top]], chars[is_top]) / total_R
            if size in DUPLICATE_GRAMS:
                duplicate[size] = self._covered_chars(starts[is_later], size) / total_R
            starts, gram = starts[is_repeated], gram[is_repeated]
        return top, duplicate

    def _largest(self, rows: Values, values: Values) -> Values:
        largest_R = np.zeros(len(self.texts), np.int64)
        np.maximum.at(largest_R, rows, values)
        return largest_R

    def _covered_chars(self, starts: Values, size: int) -> Values:
        row_W = self.words[0]
        edges = np.bincount(starts, minlength=len(row_W) + 1) - np.bincount(starts + size, minlength=len(row_W) + 1)
        covered_W = np.cumsum(edges)[:-1] > 0
        return np.bincount(row_W[covered_W], weights=self.word_chars[covered_W], minlength=len(self.texts))

    def _per_word(self, sums_R: Values, *, empty: float) -> Values:
        return np.where(self.num_words > 0, sums_R / np.maximum(self.num_words, 1), empty)


def _top_gram(size: int) -> Callable[[_Batch], Values]:
    return lambda batch: batch.gram_shares[0][size]


def _duplicate_gram(size: int) -> Callable[[_Batch], Values]:
    return lambda batch: batch.gram_shares[1][size]


RULES: tuple[Rule, ...] = (
    Rule("too_few_words", "min_words", lambda batch: batch.num_words),
    Rule("too_many_words", "max_words", lambda batch: batch.num_words),
    Rule("short_words", "min_mean_word_chars", lambda batch: batch.mean_word_chars),
    Rule("long_words", "max_mean_word_chars", lambda batch: batch.mean_word_chars),
    Rule("many_symbols", "max_symbols_per_word", lambda batch: batch.symbols_per_word),
    Rule("bullet_lines", "max_bullet_line_share", lambda batch: batch.line_share(lambda line: line.lstrip().startswith(_BULLETS))),
    Rule("ellipsis_lines", "max_ellipsis_line_share", lambda batch: batch.line_share(lambda line: line.rstrip().endswith(_ELLIPSES))),
    Rule("few_alphabetic_words", "min_alphabetic_word_share", lambda batch: batch.alphabetic_share),
    Rule("few_stop_words", "min_stop_words", lambda batch: batch.stop_words),
    Rule("duplicate_lines", "max_duplicate_line_share", lambda batch: batch.duplicate_lines[0]),
    Rule("duplicate_line_chars", "max_duplicate_line_char_share", lambda batch: batch.duplicate_lines[1]),
    Rule("duplicate_paragraphs", "max_duplicate_paragraph_share", lambda batch: batch.duplicate_paragraphs[0]),
    Rule("duplicate_paragraph_chars", "max_duplicate_paragraph_char_share", lambda batch: batch.duplicate_paragraphs[1]),
    *(Rule(f"top_{size}_gram", "max_top_gram_shares", _top_gram(size), place) for place, size in enumerate(TOP_GRAMS)),
    *(
        Rule(f"duplicate_{size}_grams", "max_duplicate_gram_shares", _duplicate_gram(size), place)
        for place, size in enumerate(DUPLICATE_GRAMS)
    ),
    Rule("few_sentences", "min_sentences", lambda batch: batch.sentences),
    Rule("few_terminal_lines", "min_terminal_line_share", lambda batch: batch.line_share(lambda line: line.rstrip().endswith(_TERMINALS))),
    Rule("javascript", "max_javascript_line_share", lambda batch: batch.line_share(lambda line: "javascript" in line.lower())),
    Rule("curly_bracket", "max_curly_brackets", lambda batch: batch.counts("{")),
    Rule("lorem_ipsum", "max_lorem_ipsum", lambda batch: batch.lower_counts("lorem ipsum dolor")),
)
"""Each rule once, in the order in which a document is judged."""

_REPETITION = frozenset(rule.name for rule in RULES if rule.name.startswith(("duplicate_", "top_")))
