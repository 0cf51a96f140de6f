"""Documents to flat token ids: the reference, and a faster back-end that is checked against it while it runs.

The reference is Hugging Face's `tokenizers`. `nanotoken` (MIT, Rust, https://github.com/alexlilburn/nanotoken) is an
option for WordPiece: its version 0.1.0 gave the same ids on every document of the Debian corpus and on every Unicode
character in several places of a word, at some fifty times the speed. It is young (its authors call it alpha), so
that a sample of what it makes is compared with the reference in each run, and one difference sends the run back to it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Literal, Protocol

import numpy as np
from tokenizers import Tokenizer
from tokenizers.models import WordPiece

Backend = Literal["auto", "reference", "nanotoken"]

_SAMPLE_DOCUMENTS = 4
_EXCERPT_CHARACTERS = 2048
# 33 MB a process instead of 130 MB, measured as fast on the Debian corpus.
_CACHE_ENTRIES = 1 << 18


class BackendUnfitError(Exception):
    """The fast back-end is absent or does not take this tokenizer."""


class BackendFailedError(BackendUnfitError):
    """The fast back-end failed on a document, or gave other ids than the reference: nothing that it made is to be used."""


@dataclass(frozen=True)
class TokenBatch:
    """Documents end to end. Document i holds `ids[offsets[i]:offsets[i + 1]]`, its special tokens among them."""

    ids: np.ndarray
    """uint32, (tokens,)."""
    offsets: np.ndarray
    """int64, (documents + 1,)."""
    word_starts: np.ndarray
    """bool, (tokens,): True at a word's first sub-token."""


class DocumentEncoder(Protocol):
    """Encodes documents."""

    @property
    def name(self) -> str:
        """Its name and version, for the record."""

    def encode(self, texts: list[str]) -> TokenBatch:
        """Encode documents with their special tokens, uncut."""


class ReferenceEncoder:
    """Hugging Face's tokenizers. `starts_word` is what `word_start_ids` found."""

    def __init__(self, tokenizer: Tokenizer, starts_word: np.ndarray | None) -> None:
        self._tokenizer = tokenizer
        self._starts_word = starts_word

    @property
    def name(self) -> str:
        """Its name and version, for the record."""
        return f"tokenizers {version('tokenizers')}"

    def encode(self, texts: list[str]) -> TokenBatch:
        """Encode documents; the word numbers are asked for only where the ids do not tell them, since they cost a third more."""
        fast = self._starts_word is not None
        encodings = (self._tokenizer.encode_batch_fast if fast else self._tokenizer.encode_batch)(texts)
        rows = [np.array(encoding.ids, dtype=np.uint32) for encoding in encodings]
        offsets = np.zeros(len(rows) + 1, dtype=np.int64)
        np.cumsum([len(row) for row in rows], out=offsets[1:])
        ids = np.concatenate(rows) if rows else np.zeros(0, np.uint32)
        if self._starts_word is not None:
            return TokenBatch(ids, offsets, self._starts_word[ids])
        starts = [_starts_by_word_numbers(encoding.word_ids) for encoding in encodings]
        return TokenBatch(ids, offsets, np.concatenate(starts) if starts else np.zeros(0, np.bool_))


class NanotokenEncoder:
    """The package nanotoken, on WordPiece tokenizers.

    Raises:
        BackendUnfitError: not installed, or the tokenizer holds a part that it does not know.
    """

    def __init__(self, tokenizer: Tokenizer, starts_word: np.ndarray | None, *, parallel: bool = False) -> None:
        if starts_word is None:
            raise BackendUnfitError(f"nanotoken reads WordPiece tokenizers, and this one is {type(tokenizer.model).__name__}")
        try:
            import nanotoken
        except ImportError as error:
            raise BackendUnfitError(f"nanotoken cannot be imported ({error})") from None
        try:
            nanotoken.set_cache_entries(_CACHE_ENTRIES)
            self._backend = nanotoken.Tokenizer.from_json(_without_special_tokens(tokenizer))
        except Exception as error:  # noqa: BLE001 - whatever an alpha package raises, the reference can do the work
            raise BackendUnfitError(f"nanotoken does not take this tokenizer ({error})") from None
        self._starts_word = starts_word
        self._parallel = parallel

    @property
    def name(self) -> str:
        """Its name and version, for the record."""
        return f"nanotoken {version('nanotoken')}"

    def encode(self, texts: list[str]) -> TokenBatch:
        """Encode documents.

        Raises:
            BackendFailedError: it raised or panicked.
        """
        try:
            found = self._backend.encode_batch(texts, parallel=self._parallel)
            return TokenBatch(found.ids, found.offsets, self._starts_word[found.ids])
        except (KeyboardInterrupt, SystemExit, MemoryError):
            raise
        except BaseException as error:  # noqa: BLE001 - a panic of Rust code is not an Exception
            raise BackendFailedError(f"nanotoken failed ({type(error).__name__}: {error})") from None


def _without_special_tokens(tokenizer: Tokenizer) -> str:
    """The tokenizer as JSON without the tokens that `load_tokenizer` keeps from matching text; nanotoken has no switch for it."""
    settings = json.loads(tokenizer.to_str())
    settings["added_tokens"] = [token for token in settings["added_tokens"] if not token["special"]]
    return json.dumps(settings, ensure_ascii=False)


class CheckedEncoder:
    """A fast encoder, a sample of whose every batch is compared with the reference."""

    def __init__(self, fast: DocumentEncoder, reference: DocumentEncoder) -> None:
        self._fast = fast
        self._reference = reference

    @property
    def name(self) -> str:
        """Its name and version, for the record."""
        return self._fast.name

    def encode(self, texts: list[str]) -> TokenBatch:
        """Encode documents.

        Raises:
            BackendFailedError: it failed, or one sampled document differs.
        """
        batch = self._fast.encode(texts)
        if len(batch.offsets) != len(texts) + 1:
            raise BackendFailedError(f"{self.name} gave {len(batch.offsets) - 1} documents for {len(texts)}")
        sample = sample_documents(texts)
        whole = [number for number in sample if len(texts[number]) <= _EXCERPT_CHARACTERS]
        excerpts = [texts[number][:_EXCERPT_CHARACTERS] for number in sample if len(texts[number]) > _EXCERPT_CHARACTERS]
        self._compare([texts[number] for number in whole], [batch.ids[batch.offsets[n] : batch.offsets[n + 1]] for n in whole])
        again = self._fast.encode(excerpts)
        self._compare(excerpts, np.split(again.ids, again.offsets[1:-1]))
        return batch

    def _compare(self, texts: list[str], found: Sequence[np.ndarray]) -> None:
        expected = self._reference.encode(texts)
        for number, text in enumerate(texts):
            if not np.array_equal(found[number], expected.ids[expected.offsets[number] : expected.offsets[number + 1]]):
                raise BackendFailedError(f"{self.name} gave other ids than {self._reference.name} for a text that begins {text[:40]!a}")


def sample_documents(texts: Sequence[str]) -> list[int]:
    """Up to four evenly spaced documents, and up to four of those beyond ASCII, where tokenizers are likeliest to differ."""
    beyond_ascii = [number for number, text in enumerate(texts) if not text.isascii()]
    chosen = set()
    for numbers in (range(len(texts)), beyond_ascii):
        chosen |= {numbers[part * len(numbers) // _SAMPLE_DOCUMENTS] for part in range(_SAMPLE_DOCUMENTS) if numbers}
    return sorted(chosen)


def make_encoder(tokenizer: Tokenizer, backend: Backend, *, parallel: bool = False) -> DocumentEncoder:
    """The encoder of a back-end.

    Args:
        backend: `auto` and `nanotoken` both give nanotoken with its check.
        parallel: let nanotoken use every core; the reference goes by TOKENIZERS_PARALLELISM.

    Raises:
        BackendUnfitError: nanotoken is absent or does not take the tokenizer.
    """
    starts_word = word_start_ids(tokenizer)
    reference = ReferenceEncoder(tokenizer, starts_word)
    if backend == "reference":
        return reference
    return CheckedEncoder(NanotokenEncoder(tokenizer, starts_word, parallel=parallel), reference)


def word_start_ids(tokenizer: Tokenizer) -> np.ndarray | None:
    """Which ids of a WordPiece vocabulary begin a word, (largest id + 1,) bool; None for other models, whose ids do not tell.

    The ids tell what the tokenizer's word numbers would. A test holds the two equal.
    """
    if not isinstance(tokenizer.model, WordPiece):
        return None
    prefix, unknown = tokenizer.model.continuing_subword_prefix, tokenizer.model.unk_token
    vocabulary = tokenizer.get_vocab()
    starts = np.ones(max(vocabulary.values()) + 1, dtype=np.bool_)
    starts[[token_id for token, token_id in vocabulary.items() if token.startswith(prefix)]] = False
    for token_id, added in tokenizer.get_added_tokens_decoder().items():
        starts[token_id] = added.content == unknown
    return starts


def _starts_by_word_numbers(word_ids: Sequence[int | None]) -> np.ndarray:
    """True where a word's first sub-token stands; special tokens belong to no word."""
    numbers = np.array([-1 if number is None else number for number in word_ids])
    starts: np.ndarray = (numbers >= 0) & (numbers != np.concatenate([[-1], numbers[:-1]]))
    return starts
