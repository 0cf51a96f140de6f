"""How finely a tokenizer cuts a domain's words: tokens a word, unknown tokens, and the words that are broken most.

Fertility and the share of split words as in Rust et al. 2021, section 3.2, https://arxiv.org/abs/2012.15613. A word is what the tokenizer's
own pre-tokenization cuts out, so punctuation is a word of its own and x86_64 three; compare tokenizers of one kind only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from acclimate.settings import Count, Options

Numbers = NDArray[np.int64]


class FertilityConfig(Options):
    """What is listed of the words that the tokenizer breaks."""

    listed_words: Count = 50
    max_counted_words: Count = 200_000


@dataclass(frozen=True)
class BrokenWord:
    """A word that takes more than one token."""

    word: str
    count: int
    pieces: tuple[str, ...]


@dataclass(frozen=True)
class Fertility:
    """Sums over a stream of texts, special tokens left out."""

    documents: int
    words: int
    tokens: int
    unknown: int
    split_words: int
    broken: tuple[BrokenWord, ...]
    """Those that cost the most extra tokens, first."""

    @property
    def tokens_per_word(self) -> float:
        """Fertility; 1 where every word is known."""
        return self.tokens / max(1, self.words)

    @property
    def unknown_share(self) -> float:
        """Share of tokens that are the unknown token."""
        return self.unknown / max(1, self.tokens)

    @property
    def split_share(self) -> float:
        """Share of words that take more than one token."""
        return self.split_words / max(1, self.words)


def sampled_batches(path: Path, *, max_chars: int) -> Iterator[list[str]]:
    """Texts of a Parquet file of any size, about `max_chars` characters of them, spread evenly over it."""
    file = pq.ParquetFile(path)
    total = sum(
        file.metadata.row_group(group).column(file.schema_arrow.get_field_index("text")).total_uncompressed_size
        for group in range(file.metadata.num_row_groups)
    )
    step = max(1, -(-total // max_chars))
    start = 0
    for batch in file.iter_batches(batch_size=4096, columns=["text"]):
        yield batch["text"].to_pylist()[-start % step :: step]
        start += batch.num_rows


def measure_fertility(batches: Iterable[Sequence[str]], tokenizer: Tokenizer, config: FertilityConfig | None = None) -> Fertility:
    """Tokenize every text and count.

    Memory is that of one batch and of `max_counted_words` broken words: beyond that, the half that cost the fewest tokens is forgotten,
    so a listed count can miss early occurrences of a word that was rare then. The sums are exact.

    Args:
        batches: texts, some thousand in each batch.
    """
    config = config or FertilityConfig()
    unknown_id = _unknown_id(tokenizer)
    sums = np.zeros(5, dtype=np.int64)
    counts: dict[str, int] = {}
    pieces: dict[str, tuple[str, ...]] = {}
    for texts in batches:
        for text, encoding in zip(texts, tokenizer.encode_batch(list(texts), add_special_tokens=False), strict=True):
            firsts, lengths = _words(encoding)
            sums += [1, len(firsts), len(encoding.ids), encoding.ids.count(unknown_id), (lengths > 1).sum()]
            for word, tokens in _broken_words(text, encoding, firsts[lengths > 1], lengths[lengths > 1]):
                counts[word] = counts.get(word, 0) + 1
                pieces[word] = tokens
        if len(counts) > config.max_counted_words:
            kept = _costliest(counts, pieces)[: config.max_counted_words // 2]
            counts, pieces = {word: counts[word] for word in kept}, {word: pieces[word] for word in kept}
    broken = _merge(counts, pieces, tokenizer)[: config.listed_words]
    documents, words, tokens_in_all, unknown, split_words = sums.tolist()
    return Fertility(documents, words, tokens_in_all, unknown, split_words, tuple(broken))


def _unknown_id(tokenizer: Tokenizer) -> int:
    """-1 where the tokenizer has no unknown token (byte-level BPE)."""
    found = (tokenizer.token_to_id(name) for name in ("[UNK]", "<unk>"))
    return next((number for number in found if number is not None), -1)


def _words(encoding: Encoding) -> tuple[Numbers, Numbers]:
    """First token and number of tokens of each word."""
    numbers = np.array([-1 if number is None else number for number in encoding.word_ids], dtype=np.int64)
    firsts = np.flatnonzero(np.diff(numbers, prepend=-2))
    return firsts, np.diff(firsts, append=numbers.size)


def _broken_words(text: str, encoding: Encoding, firsts: Numbers, lengths: Numbers) -> Iterator[tuple[str, tuple[str, ...]]]:
    tokens, offsets = (encoding.tokens, encoding.offsets) if len(firsts) else ([], [])
    for first, length in zip(firsts.tolist(), lengths.tolist(), strict=True):
        word = text[offsets[first][0] : offsets[first + length - 1][1]].strip()
        yield word, tuple(tokens[first : first + length])


def _merge(counts: dict[str, int], pieces: dict[str, tuple[str, ...]], tokenizer: Tokenizer) -> list[BrokenWord]:
    """Broken words as the tokenizer normalizes them (lower case, say), costliest first."""
    normalize = tokenizer.normalizer.normalize_str if tokenizer.normalizer else str
    merged: dict[str, int] = {}
    merged_pieces: dict[str, tuple[str, ...]] = {}
    for word in sorted(counts):
        name = normalize(word).strip()
        merged[name] = merged.get(name, 0) + counts[word]
        merged_pieces.setdefault(name, pieces[word])
    return [BrokenWord(word, merged[word], merged_pieces[word]) for word in _costliest(merged, merged_pieces)]


def _costliest(counts: dict[str, int], pieces: dict[str, tuple[str, ...]]) -> list[str]:
    return sorted(counts, key=lambda word: (-counts[word] * (len(pieces[word]) - 1), word))
