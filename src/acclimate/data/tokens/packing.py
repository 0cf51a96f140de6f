"""Rows of equal length cut from documents laid end to end: no padding, attention kept inside a document.

Nothing but the flat ids and the documents' starts is stored: a row is a view of the ids, and the numbers of the pieces
inside it are worked out when it is asked for (some 20 us for 32 rows of 128), at 8 bytes a document instead of 2 a token.

Shape suffixes: R rows, T tokens a row.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from acclimate import artifacts

INDEX = "index.json"


@dataclass(frozen=True)
class Segments:
    """The piece of a document that each token of a row belongs to, counted from 1 in each row.

    A document that crosses a row's end goes on in the next, as a piece of its own.
    """

    starts: np.ndarray
    """Where each document starts in the flat ids, int64, strictly ascending."""
    num_rows: int
    sequence_length: int

    def __len__(self) -> int:
        return self.num_rows

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and tokens a row."""
        return self.num_rows, self.sequence_length

    def head(self, rows: int) -> Segments:
        """Those of the first rows."""
        return replace(self, num_rows=min(rows, self.num_rows))

    def __getitem__(self, rows: np.ndarray | slice) -> np.ndarray:
        """Piece numbers of rows, (R, T) int64."""
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(self.num_rows))
        begin_R = rows * self.sequence_length
        first_R = self.starts.searchsorted(begin_R, side="right")
        count_R = self.starts.searchsorted(begin_R + self.sequence_length, side="left") - first_R
        marks_RT = np.zeros((len(rows), self.sequence_length), dtype=np.int64)
        marks_RT[:, 0] = 1
        row_of = np.arange(len(rows)).repeat(count_R)
        document = np.arange(len(row_of)) + (first_R - (count_R.cumsum() - count_R)).repeat(count_R)
        marks_RT[row_of, self.starts[document] - begin_R[row_of]] = 1
        segments_RT: np.ndarray = marks_RT.cumsum(axis=1, out=marks_RT)
        return segments_RT


@dataclass(frozen=True)
class WordStarts:
    """Whether each token of a row is its word's first, kept as one bit a token."""

    bits: np.ndarray
    num_rows: int
    sequence_length: int

    def __getitem__(self, rows: np.ndarray | slice) -> np.ndarray:
        """Word starts of rows, (R, T) bool."""
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(self.num_rows))
        token_RT = rows[:, None] * self.sequence_length + np.arange(self.sequence_length)
        starts_RT: np.ndarray = (self.bits[token_RT >> 3] >> (7 - (token_RT & 7)).astype(np.uint8) & 1).astype(np.bool_)
        return starts_RT


@dataclass(frozen=True)
class PackedText:
    """Packed rows of one split."""

    ids: np.ndarray
    """(R, T), uint16 or uint32, as a rule memory-mapped."""
    segments: Segments
    word_starts: WordStarts | None = None

    def head(self, rows: int) -> PackedText:
        """The first rows."""
        words = replace(self.word_starts, num_rows=min(rows, len(self.ids))) if self.word_starts else None
        return PackedText(self.ids[:rows], self.segments.head(rows), words)


def pack(ids: np.ndarray, document_starts: np.ndarray, *, sequence_length: int, word_start_bits: np.ndarray | None = None) -> PackedText:
    """Cut flat ids into rows, without copying; the tokens after the last whole row are left out.

    Args:
        ids: (tokens,).
        document_starts: (documents,), strictly ascending from 0.
        word_start_bits: one bit a token, the first token in the highest bit, as numpy.packbits writes them.
    """
    rows = len(ids) // sequence_length
    words = WordStarts(word_start_bits, rows, sequence_length) if word_start_bits is not None else None
    return PackedText(ids[: rows * sequence_length].reshape(rows, sequence_length), Segments(document_starts, rows, sequence_length), words)


def read_packed(directory: Path, split: str) -> PackedText:
    """Memory-map one split that the tokenize stage wrote, as rows of the length that its index names."""
    ids, offsets, bits = (
        np.asarray(np.load(directory / f"{split}.{part}.npy", mmap_mode="r")) for part in ("ids", "document_offsets", "word_starts")
    )
    sequence_length = int(artifacts.read_json(directory / INDEX)["sequence_length"])
    return pack(ids, offsets[:-1], sequence_length=sequence_length, word_start_bits=bits)
