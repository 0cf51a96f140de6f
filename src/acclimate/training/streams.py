"""What a step reads: batches of one or several streams, each a function of the step alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Generic, Protocol

import numpy as np
import torch
from torch import Tensor

from acclimate.data.tokens.packing import PackedText
from acclimate.protocols import Batch, BatchT, Documents, Draw, PackedRows, Source, ViewT
from acclimate.training.orders import Order


@dataclass(frozen=True)
class Stream(Generic[ViewT, BatchT]):
    """Rows of a source, made into batches. A step takes `accumulation` of them."""

    name: str
    source: Source[ViewT]
    make_batch: Callable[[ViewT, Draw], BatchT]
    order: Order
    seed: int
    accumulation: int = 1
    divisible: bool = True
    """Whether a batch may be cut; False where its rows need each other."""

    def batch(self, index: int, progress: float = 0.0) -> BatchT:
        """A batch by its number."""
        draw = Draw(self.seed, self.name, index, progress)
        return self.make_batch(self.source.view(self.order.rows(index), draw), draw)


@dataclass(frozen=True)
class Work:
    """A batch of a step, and where it comes from."""

    stream: str
    index: int
    batch: Batch
    divisible: bool = True

    def part(self, start: int, stop: int) -> Work:
        """Some of its rows."""
        return replace(self, batch=self.batch.part(start, stop))


class Windows(Protocol):
    """The batches of every step."""

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole run."""

    def window(self, step: int) -> list[Work]:
        """The batches of a step; the same step gives the same ones."""

    def rows(self, step: int) -> dict[str, list[int]]:
        """The numbers of the rows that a step reads, by stream."""


@dataclass(frozen=True)
class Streams:
    """The batches of every step."""

    steps: int
    streams: Sequence[Stream[Any, Any]]

    def window(self, step: int) -> list[Work]:
        """The batches of a step; the same step gives the same ones."""
        return [
            Work(stream.name, index, stream.batch(index, step / self.steps), stream.divisible)
            for stream in self.streams
            for index in range(step * stream.accumulation, (step + 1) * stream.accumulation)
        ]

    def rows(self, step: int) -> dict[str, list[int]]:
        """The numbers of the rows that a step reads, by stream, to name them when something is wrong with them."""
        return {
            stream.name: [
                int(row)
                for index in range(step * stream.accumulation, (step + 1) * stream.accumulation)
                for row in stream.order.rows(index)
            ]
            for stream in self.streams
        }


@dataclass(frozen=True)
class PackedSource:
    """Rows of packed text."""

    text: PackedText

    def __len__(self) -> int:
        return len(self.text.ids)

    def view(self, rows: np.ndarray, draw: Draw) -> PackedRows:
        """The given rows."""
        return PackedRows(as_int64(self.text.ids[rows]), as_int64(self.text.segments[rows]), partial(self._word_starts, rows))

    def _word_starts(self, rows: np.ndarray) -> Tensor:
        assert self.text.word_starts is not None, "the tokenize stage writes them"
        return torch.from_numpy(self.text.word_starts[rows])


MIN_DOCUMENT_TOKENS = 8


class DocumentSource:
    """Documents of packed text, each cut to the length of a row; those under 8 tokens are left out."""

    def __init__(self, text: PackedText) -> None:
        starts = np.asarray(text.segments.starts)
        starts = starts[starts < text.ids.size]
        ends = np.append(starts[1:], text.ids.size)
        is_long_enough = ends - starts >= MIN_DOCUMENT_TOKENS
        self._ids, self._max_length = text.ids.reshape(-1), text.ids.shape[1]
        self._starts, self._ends = starts[is_long_enough], ends[is_long_enough]

    def __len__(self) -> int:
        return len(self._starts)

    def view(self, rows: np.ndarray, draw: Draw) -> Documents:
        """The given documents."""
        return Documents([self._document(start, end) for start, end in zip(self._starts[rows], self._ends[rows], strict=True)])

    def _document(self, start: int, end: int) -> Tensor:
        """What is cut off of a long one stood before its last token, which is a special one."""
        ids_T = as_int64(self._ids[start : min(end, start + self._max_length)])
        ids_T[-1] = int(self._ids[end - 1])
        return ids_T


@dataclass(frozen=True)
class Behind(Generic[ViewT]):
    """A source without its first rows."""

    source: Source[ViewT]
    first: int

    def __len__(self) -> int:
        return max(0, len(self.source) - self.first)

    def view(self, rows: np.ndarray, draw: Draw) -> ViewT:
        """The given rows, counted from the first that is left."""
        return self.source.view(rows + self.first, draw)


def source_of(view: type[Any], text: PackedText) -> Source[Any]:
    """Packed text as an objective reads it."""
    return DocumentSource(text) if view is Documents else PackedSource(text)


def as_int64(array: np.ndarray) -> Tensor:
    """A tensor of whole numbers."""
    return torch.from_numpy(array.astype(np.int64, copy=False))
