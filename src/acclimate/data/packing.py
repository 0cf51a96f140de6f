"""Documents laid end to end in rows of equal length: no padding, attention kept inside a document.

Shape suffixes: R rows, T tokens a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer

_BATCH_DOCUMENTS = 2000


@dataclass(frozen=True)
class TokenStream:
    """Documents end to end: ids, document number and word starts, each (tokens,)."""

    ids: np.ndarray
    documents: np.ndarray
    word_starts: np.ndarray
    num_documents: int
    num_words: int


@dataclass(frozen=True)
class Packed:
    """Rows of a packed split."""

    ids_RT: np.ndarray
    segments_RT: np.ndarray
    word_starts_RT: np.ndarray
    dropped_tokens: int


def tokenize_stream(tokenizer: Tokenizer, texts: Sequence[str], *, min_document_tokens: int) -> TokenStream:
    """Encode documents with their special tokens and lay them end to end; shorter ones than the minimum are left out."""
    ids, documents, word_starts = [], [], []
    number = num_words = 0
    for start in range(0, len(texts), _BATCH_DOCUMENTS):
        for encoding in tokenizer.encode_batch(list(texts[start : start + _BATCH_DOCUMENTS])):
            if len(encoding.ids) < min_document_tokens:
                continue
            starts = _word_starts(encoding.word_ids)
            ids.append(np.array(encoding.ids, dtype=np.uint32))
            documents.append(np.full(len(encoding.ids), number, dtype=np.int64))
            word_starts.append(starts)
            num_words += int(starts.sum())
            number += 1
    if not ids:
        return TokenStream(np.zeros(0, np.uint32), np.zeros(0, np.int64), np.zeros(0, bool), 0, 0)
    return TokenStream(np.concatenate(ids), np.concatenate(documents), np.concatenate(word_starts), number, num_words)


def _word_starts(word_ids: Sequence[int | None]) -> np.ndarray:
    """True where a word's first sub-token stands; special tokens belong to no word."""
    numbers = np.array([-1 if number is None else number for number in word_ids])
    return (numbers >= 0) & (numbers != np.concatenate([[-1], numbers[:-1]]))


def pack(stream: TokenStream, *, tokens_per_row: int, vocabulary_size: int) -> Packed:
    """Cut the stream into rows. A document that crosses a row's end goes on in the next, as a piece of its own.

    Returns:
        ids uint16 where the vocabulary allows, else uint32; segments count the pieces of a row from 1.
    """
    rows = len(stream.ids) // tokens_per_row
    shape = (rows, tokens_per_row)
    used = rows * tokens_per_row
    documents_RT = stream.documents[:used].reshape(shape)
    changes_RT = np.zeros(shape, dtype=np.uint16)
    changes_RT[:, 1:] = documents_RT[:, 1:] != documents_RT[:, :-1]
    id_type = np.uint16 if vocabulary_size <= 1 << 16 else np.uint32
    return Packed(
        ids_RT=stream.ids[:used].reshape(shape).astype(id_type),
        segments_RT=(np.cumsum(changes_RT, axis=1) + 1).astype(np.uint16),
        word_starts_RT=stream.word_starts[:used].reshape(shape),
        dropped_tokens=len(stream.ids) - used,
    )
