"""In which order rows are read: any batch's rows can be asked for at once, so that resuming seeks nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

import numpy as np

_POOL_BATCHES = 32
_WHOLE_PERMUTATION_ROWS = 1 << 21
_BLOCK_ROWS = 256
_POOL_BLOCKS = 1024


class Order(Protocol):
    """Rows of batches by number, epoch after epoch."""

    @property
    def batches_per_epoch(self) -> int:
        """Batches until every row has been read."""

    def rows(self, index: int) -> np.ndarray:
        """The rows of a batch, counted over all epochs."""


@lru_cache(maxsize=4)
def epoch_order(num_rows: int, *, seed: int, epoch: int) -> np.ndarray:
    """A permutation of the rows, (rows,) int64, read-only; kept, since every step of an epoch asks for the same one."""
    order = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed % 2**32, epoch]))).permutation(num_rows)
    order.flags.writeable = False
    return order


def shuffled_rows(num_rows: int, start: int, stop: int, *, seed: int, epoch: int) -> np.ndarray:
    """Positions `start` to `stop` of an epoch's order, (stop - start,) int64.

    Up to two million rows the order is one permutation, kept. Beyond, a permutation of 10^8 rows takes seconds and 800 MB, and
    rows picked one by one read a page of the disk each; so blocks of 256 rows are shuffled, and the rows inside pools of 1,024
    blocks. A batch then mixes blocks from everywhere in the text, and any position is found from its pool alone.
    """
    if num_rows <= _WHOLE_PERMUTATION_ROWS:
        return epoch_order(num_rows, seed=seed, epoch=epoch)[start:stop]
    pool_rows = _BLOCK_ROWS * _POOL_BLOCKS
    pools = range(start // pool_rows, (stop - 1) // pool_rows + 1)
    parts = [
        _pool_order(num_rows, pool, seed=seed, epoch=epoch)[max(0, start - pool * pool_rows) : stop - pool * pool_rows] for pool in pools
    ]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


@lru_cache(maxsize=4)
def _pool_order(num_rows: int, pool: int, *, seed: int, epoch: int) -> np.ndarray:
    """The rows of one pool in shuffled order, (pool rows,) int64, read-only."""
    num_blocks = num_rows // _BLOCK_ROWS
    blocks = epoch_order(num_blocks, seed=seed, epoch=epoch)[pool * _POOL_BLOCKS : (pool + 1) * _POOL_BLOCKS]
    rows = (blocks[:, None] * _BLOCK_ROWS + np.arange(_BLOCK_ROWS)).ravel()
    if pool == (num_rows - 1) // (_BLOCK_ROWS * _POOL_BLOCKS):  # the rows that fill no block belong to the last pool
        rows = np.concatenate([rows, np.arange(num_blocks * _BLOCK_ROWS, num_rows)])
    # Blocks are counted from another row in each epoch, so that they do not always hold the same rows together.
    key = np.random.SeedSequence([seed % 2**32, epoch, 1 + pool])
    order: np.ndarray = (np.random.Generator(np.random.PCG64(key)).permutation(rows) + epoch * (_BLOCK_ROWS // 2 + 1)) % num_rows
    order.flags.writeable = False
    return order


@dataclass(frozen=True)
class Shuffled:
    """A permutation an epoch. Rows that do not fill a batch wait for the next one."""

    num_rows: int
    batch_size: int
    seed: int

    @property
    def batches_per_epoch(self) -> int:
        """Whole batches of an epoch."""
        return self.num_rows // self.batch_size

    def rows(self, index: int) -> np.ndarray:
        """Ascending, since reading them in order is quicker."""
        epoch, position = divmod(index, self.batches_per_epoch)
        start = position * self.batch_size
        return np.sort(shuffled_rows(self.num_rows, start, start + self.batch_size, seed=self.seed, epoch=epoch))


@dataclass(frozen=True)
class InOrder:
    """Rows as they stand, once; the last batch may be smaller."""

    num_rows: int
    batch_size: int

    @property
    def batches_per_epoch(self) -> int:
        """Batches until the last row."""
        return -(-self.num_rows // self.batch_size)

    def rows(self, index: int) -> np.ndarray:
        """The next rows."""
        return np.arange(index * self.batch_size, min(self.num_rows, (index + 1) * self.batch_size))


@dataclass(frozen=True)
class ByLength:
    """Batches of similar length: shuffle, sort inside pools of 32 batches, shuffle the batches. The last batch may be smaller."""

    lengths: np.ndarray
    batch_size: int
    seed: int
    _epochs: dict[int, list[np.ndarray]] = field(default_factory=dict, repr=False)

    @property
    def batches_per_epoch(self) -> int:
        """Batches of an epoch."""
        return -(-len(self.lengths) // self.batch_size)

    def rows(self, index: int) -> np.ndarray:
        """Of similar length."""
        epoch, position = divmod(index, self.batches_per_epoch)
        return self.epoch_batches(epoch)[position]

    def epoch_batches(self, epoch: int) -> list[np.ndarray]:
        """The rows of each batch of an epoch, kept until another epoch is asked for."""
        if epoch not in self._epochs:
            self._epochs.clear()
            self._epochs[epoch] = self._draw_epoch(epoch)
        return self._epochs[epoch]

    def _draw_epoch(self, epoch: int) -> list[np.ndarray]:
        order = epoch_order(len(self.lengths), seed=self.seed, epoch=epoch)
        pool_rows = _POOL_BATCHES * self.batch_size
        pools = [order[start : start + pool_rows] for start in range(0, len(order), pool_rows)]
        rows = np.concatenate([pool[np.argsort(self.lengths[pool], kind="stable")] for pool in pools])
        batches = [rows[start : start + self.batch_size] for start in range(0, len(rows), self.batch_size)]
        return [batches[i] for i in epoch_order(len(batches), seed=self.seed + 1, epoch=epoch)]
