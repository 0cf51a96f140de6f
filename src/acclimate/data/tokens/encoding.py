"""Text to token ids, ragged: one flat array and offsets, no padding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from acclimate.errors import DataError, ModelError

_UNKNOWN = "\U00010600"
"""A letter that no WordPiece vocabulary holds (Linear A): the unknown token, which as "[UNK]" in a text would be text."""


@dataclass(frozen=True)
class Encoded:
    """Encoded rows. Row i holds `ids[offsets[i]:offsets[i + 1]]`."""

    ids: np.ndarray
    """int32, flat."""
    type_ids: np.ndarray
    """int32, flat; zeros where there is no pair."""
    offsets: np.ndarray
    """int64, (rows + 1,)."""
    word_positions: list[np.ndarray] | None
    """Where only some tokens are read: for each row their positions in it, such as the first sub-token of each kept word."""
    truncated: int
    """Rows that were cut."""
    only_special: int
    """Rows without any token but special ones."""
    example_of_row: np.ndarray | None = None
    """int64, (rows,): which example each row is of, in order, where an example is several rows; None: a row is an example."""
    own: Any = None
    """What a kind of task keeps of its rows, for its targets and predictions."""

    def row(self, index: int) -> np.ndarray:
        """Token ids of one row."""
        return self.ids[self.offsets[index] : self.offsets[index + 1]]

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each row, (rows,)."""
        return np.diff(self.offsets)


@dataclass(frozen=True)
class Vocabulary:
    """What an objective must know of the tokenizer."""

    size: int
    mask_id: int | None
    """[MASK] or <mask>; None where the tokenizer has neither."""
    special_ids: tuple[int, ...]
    special: Mapping[str, int] = field(default_factory=dict)
    """The special tokens themselves, with their ids."""


def load_tokenizer(directory: Path) -> Tokenizer:
    """The fast tokenizer of an encoder, truncation and padding switched off; "[MASK]" in a text is text, not the control token.

    Raises:
        ModelError: no tokenizer.json, or it cannot be read.
    """
    path = directory / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # noqa: BLE001 - the Rust library raises bare Exception
        raise ModelError(f"{path}: no tokenizer can be read from it ({error})") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    return tokenizer


def read_vocabulary(directory: Path) -> Vocabulary:
    """Size and special tokens of an encoder's tokenizer."""
    tokenizer = load_tokenizer(directory)
    special = {token.content: number for number, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    return Vocabulary(tokenizer.get_vocab_size(), special.get("[MASK]", special.get("<mask>")), tuple(sorted(special.values())), special)


def count_tokens(tokenizer: Tokenizer, texts: Sequence[str]) -> list[int]:
    """How many tokens each text has, special ones not counted."""
    return [len(encoding.ids) for encoding in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]


def encode_texts(tokenizer: Tokenizer, texts: Sequence[str], pairs: Sequence[str] | None = None, *, max_length: int) -> Encoded:
    """Encode texts, or pairs of texts cut longest first, with special tokens; ids equal those of transformers' fast tokenizer.

    Args:
        max_length: special tokens count.
    """
    tokenizer.enable_truncation(max_length, strategy="longest_first")
    try:
        encodings = tokenizer.encode_batch(list(texts) if pairs is None else list(zip(texts, pairs, strict=True)))
    finally:
        tokenizer.no_truncation()
    return _ragged(encodings, None)


def encode_inputs(tokenizer: Tokenizer, inputs: Sequence[Mapping[str, Any]], *, max_length: int) -> Encoded:
    """Encode rows with a `text` and, where the task is on pairs, a `text_pair`; see `encode_texts`."""
    pairs = [row["text_pair"] for row in inputs] if inputs and "text_pair" in inputs[0] else None
    return encode_texts(tokenizer, [row["text"] for row in inputs], pairs, max_length=max_length)


def encode_words(tokenizer: Tokenizer, rows: Sequence[Sequence[str]], *, max_length: int) -> Encoded:
    """Encode rows of words, keeping where each word begins.

    A word that gives no token (an odd control character, say) becomes the unknown token, so that no tag is lost before the cut.
    """
    tokenizer.enable_truncation(max_length)
    try:
        encodings = tokenizer.encode_batch([_visible(tokenizer, words) for words in rows], is_pretokenized=True)
    finally:
        tokenizer.no_truncation()
    return _ragged(encodings, [_first_positions(encoding.word_ids) for encoding in encodings])


def _visible(tokenizer: Tokenizer, words: Sequence[str]) -> list[str]:
    is_one_token = len(tokenizer.encode(_UNKNOWN, add_special_tokens=False).ids) == 1
    unknown = _UNKNOWN if is_one_token else "?"
    return [word if word.strip() and _survives(tokenizer, word) else unknown for word in words]


def _survives(tokenizer: Tokenizer, word: str) -> bool:
    """Plain words always do; only odd ones are asked of the normaliser."""
    if word.isascii() and word.isprintable():
        return True
    normalizer = tokenizer.normalizer
    return bool((normalizer.normalize_str(word) if normalizer else word).strip())


def _first_positions(word_ids: Sequence[int | None]) -> np.ndarray:
    """Positions at which the word number rises."""
    numbers = np.array([-1 if number is None else number for number in word_ids])
    is_first = (numbers >= 0) & (numbers != np.concatenate([[-1], numbers[:-1]]))
    return np.flatnonzero(is_first)


def _ragged(encodings: Sequence[Any], word_positions: list[np.ndarray] | None) -> Encoded:
    lengths = np.fromiter((len(encoding.ids) for encoding in encodings), dtype=np.int64, count=len(encodings))
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Encoded(
        ids=_concatenate([encoding.ids for encoding in encodings]),
        type_ids=_concatenate([encoding.type_ids for encoding in encodings]),
        offsets=offsets,
        word_positions=word_positions,
        truncated=sum(bool(encoding.overflowing) for encoding in encodings),
        only_special=sum(all(encoding.special_tokens_mask) for encoding in encodings),
    )


def _concatenate(rows: Sequence[Sequence[int]]) -> np.ndarray:
    return np.fromiter((number for row in rows for number in row), dtype=np.int32)


def require_content(encoded: Encoded, ids: Sequence[str], *, where: str) -> None:
    """Refuse rows that hold nothing but special tokens.

    Raises:
        DataError: with the first rows at fault.
    """
    if encoded.only_special:
        examples = np.arange(len(encoded.lengths)) if encoded.example_of_row is None else encoded.example_of_row
        empty = [ids[examples[row]] for row in np.flatnonzero(encoded.lengths <= int(encoded.lengths.min())).tolist()][:5]
        raise DataError(f"{where}: {encoded.only_special} rows hold no token but special ones, such as {', '.join(empty)}; remove them")
