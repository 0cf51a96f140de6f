"""Batches by step number: any step's batch can be asked for at once, so that resuming seeks nothing.

Shape suffixes: B rows, T tokens.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from acclimate.errors import ConfigError
from acclimate.models.attention import RealTokens, real_tokens

_POOL_BATCHES = 32
_WHOLE_PERMUTATION_ROWS = 1 << 21
_BLOCK_ROWS = 256
_POOL_BLOCKS = 1024
_LENGTH_MULTIPLE = 8

logger = logging.getLogger(__name__)


class Batch(Protocol):
    """What the loop needs to know of a micro-batch."""

    @property
    def num_targets(self) -> int:
        """How many terms its loss sums."""

    @property
    def num_tokens(self) -> int:
        """Real tokens, without padding."""

    @property
    def num_rows(self) -> int:
        """Rows."""

    def part(self, start: int, stop: int) -> Any:
        """Some of the rows, as they stand in the batch."""

    def to(self, device: torch.device) -> Any:
        """The same batch on another device."""


class BatchSource(Protocol):
    """Windows of micro-batches; one window is one optimizer step."""

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole run."""

    def window(self, step: int) -> Sequence[Any]:
        """The batches of a step; the same step gives the same batches."""

    def rows(self, step: int) -> list[int]:
        """The numbers of the rows that a step reads, to name them when something is wrong with them."""


def map_tensors(batch: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A dataclass with every tensor in it changed, also inside dataclasses that it holds."""
    changed: dict[str, Any] = {}
    for field_ in fields(batch):
        value = getattr(batch, field_.name)
        if isinstance(value, Tensor):
            changed[field_.name] = change(value)
        elif is_dataclass(value):
            changed[field_.name] = map_tensors(value, change)
    return replace(batch, **changed)


def to_device(batch: Any, device: torch.device) -> Any:
    """A batch on a device; copied without waiting where its memory is pinned."""
    return batch if device.type == "cpu" else map_tensors(batch, lambda tensor: tensor.to(device, non_blocking=True))


def step_generator(*key: int) -> torch.Generator:
    """A generator that depends on nothing but its key, such as (seed, step)."""
    state = np.random.SeedSequence([part % 2**32 for part in key]).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(state[0]) << 31 | int(state[1]) >> 1)


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


class RowArray(Protocol):
    """Rows by number: an array, or something that works them out."""

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """The rows, (rows, tokens)."""


@dataclass(frozen=True)
class PackedBatches:
    """Rows of a packed corpus in shuffled order; the objective corrupts each micro-batch.

    `make_batch(ids_BT, segments_BT, generator)` gives the objective's batch.
    """

    ids: np.ndarray
    segments: RowArray
    make_batch: Callable[[Tensor, Tensor, torch.Generator], Any]
    rows_per_batch: int
    accumulation: int
    steps: int
    seed: int

    def __post_init__(self) -> None:
        if len(self.ids) < self.rows_per_batch:
            raise ConfigError(
                f"pretrain.rows_per_batch is {self.rows_per_batch}, but the corpus packs into {len(self.ids)} rows; "
                "lower it or give more text"
            )

    def window(self, step: int) -> list[Any]:
        """Micro-batches of a step. Rows of a pass that do not fill a batch wait for the next permutation."""
        return [self._batch(step, step * self.accumulation + part) for part in range(self.accumulation)]

    def rows(self, step: int) -> list[int]:
        """Row numbers of a step, counted in the packed corpus."""
        return [int(row) for part in range(self.accumulation) for row in self._rows(step * self.accumulation + part)]

    def _rows(self, index: int) -> np.ndarray:
        epoch, position = divmod(index, len(self.ids) // self.rows_per_batch)
        start = position * self.rows_per_batch
        return np.sort(shuffled_rows(len(self.ids), start, start + self.rows_per_batch, seed=self.seed, epoch=epoch))

    def _batch(self, step: int, index: int) -> Any:
        rows = self._rows(index)
        return self.make_batch(_tensor(self.ids[rows]), _tensor(self.segments[rows]), step_generator(self.seed, 1, index))


def _tensor(rows: np.ndarray) -> Tensor:
    return torch.from_numpy(rows.astype(np.int64, copy=False))


@dataclass(frozen=True)
class PaddedBatch:
    """Rows of unequal length, padded to the longest (a multiple of 8)."""

    ids_BT: Tensor
    mask_BT: Tensor
    type_ids_BT: Tensor
    targets: Tensor
    rows: np.ndarray
    targets_per_row: np.ndarray
    """How many terms of the loss each row has, (B,)."""
    real: RealTokens | None = None
    """Where the real tokens are."""

    @property
    def num_targets(self) -> int:
        """How many terms the loss sums."""
        return int(self.targets_per_row.sum())

    @property
    def num_tokens(self) -> int:
        """Real tokens."""
        return int(self.mask_BT.sum())

    @property
    def num_rows(self) -> int:
        """Rows."""
        return len(self.ids_BT)

    def part(self, start: int, stop: int) -> PaddedBatch:
        """Some of the rows, padded as they are."""
        ids_BT, mask_BT, type_ids_BT, targets = (
            tensor[start:stop] for tensor in (self.ids_BT, self.mask_BT, self.type_ids_BT, self.targets)
        )
        real = real_tokens(mask_BT.sum(1).numpy(), mask_BT.shape[1])
        return PaddedBatch(ids_BT, mask_BT, type_ids_BT, targets, self.rows[start:stop], self.targets_per_row[start:stop], real)

    def to(self, device: torch.device) -> PaddedBatch:
        """The same batch on another device."""
        moved: PaddedBatch = to_device(self, device)
        return moved


class Rows(Protocol):
    """Encoded rows, ragged (see acclimate.data.encoding.Encoded)."""

    @property
    def ids(self) -> np.ndarray:
        """Token ids, flat."""

    @property
    def type_ids(self) -> np.ndarray:
        """Type ids, flat."""

    @property
    def offsets(self) -> np.ndarray:
        """Where each row starts, (rows + 1,)."""


def pad_rows(encoded: Rows, rows: np.ndarray, pad_id: int) -> tuple[Tensor, Tensor, Tensor]:
    """Ids, mask and type ids of the given rows, each (B, T) int64."""
    starts, ends = encoded.offsets[rows], encoded.offsets[rows + 1]
    lengths = ends - starts
    width = _padded_width(lengths)
    columns = np.arange(width)
    mask = columns[None, :] < lengths[:, None]
    index = np.where(mask, starts[:, None] + columns[None, :], 0)
    ids = np.where(mask, encoded.ids[index], pad_id)
    type_ids = np.where(mask, encoded.type_ids[index], 0)
    return _tensor(ids), _tensor(mask), _tensor(type_ids)


def _padded_width(lengths: np.ndarray) -> int:
    return -(-int(lengths.max()) // _LENGTH_MULTIPLE) * _LENGTH_MULTIPLE


@dataclass(frozen=True)
class RaggedBatches:
    """Labelled rows in batches of similar length: shuffle, sort inside pools of 32 batches, shuffle the batches.

    `collate_targets(rows, width)` gives the target tensor of the rows and how many loss terms each of them has.
    """

    encoded: Rows
    collate_targets: Callable[[np.ndarray, int], tuple[Tensor, np.ndarray]]
    rows_per_batch: int
    accumulation: int
    epochs: float
    seed: int
    pad_id: int
    _epochs: dict[int, list[np.ndarray]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        num_batches, accumulation = self.batches_per_epoch * self.epochs, self.accumulation
        if accumulation > num_batches:
            raise ConfigError(
                f"finetune.accumulation is {accumulation}, but the whole run has {num_batches:g} batches "
                f"({self.batches_per_epoch} an epoch, finetune.epochs {self.epochs:g}); lower it or train for longer"
            )
        if self.rows_per_batch > self.num_rows:
            logger.warning(
                "finetune.rows_per_batch is %d, but there are %d training rows: every batch holds all of them",
                self.rows_per_batch,
                self.num_rows,
            )
        if self.batches_per_epoch % accumulation and self.steps * accumulation > self.batches_per_epoch:
            logger.warning(
                "finetune.accumulation is %d, an epoch has %d batches: a step then takes batches of two epochs now and then",
                accumulation,
                self.batches_per_epoch,
            )

    @property
    def num_rows(self) -> int:
        """Rows of an epoch."""
        return len(self.encoded.offsets) - 1

    @property
    def batches_per_epoch(self) -> int:
        """Micro-batches of an epoch; the last may be smaller."""
        return -(-self.num_rows // self.rows_per_batch)

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole run, at least one."""
        return max(1, round(self.batches_per_epoch * self.epochs / self.accumulation))

    def window(self, step: int) -> list[PaddedBatch]:
        """Micro-batches of a step."""
        return [self._batch(step * self.accumulation + part) for part in range(self.accumulation)]

    def rows(self, step: int) -> list[int]:
        """Row numbers of a step, counted in the training split."""
        return [int(row) for part in range(self.accumulation) for row in self._rows(step * self.accumulation + part)]

    def _rows(self, index: int) -> np.ndarray:
        epoch, position = divmod(index, self.batches_per_epoch)
        return self.epoch_batches(epoch)[position]

    def _batch(self, index: int) -> PaddedBatch:
        return self.padded(self._rows(index))

    def padded(self, rows: np.ndarray) -> PaddedBatch:
        """A batch of the given rows."""
        return make_padded_batch(self.encoded, rows, self.collate_targets, self.pad_id)

    def epoch_batches(self, epoch: int) -> list[np.ndarray]:
        """The rows of each batch of an epoch, kept until another epoch is asked for."""
        if epoch not in self._epochs:
            self._epochs.clear()
            self._epochs[epoch] = self._draw_epoch(epoch)
        return self._epochs[epoch]

    def _draw_epoch(self, epoch: int) -> list[np.ndarray]:
        lengths = np.diff(self.encoded.offsets)
        order = epoch_order(self.num_rows, seed=self.seed, epoch=epoch)
        pool_rows = _POOL_BATCHES * self.rows_per_batch
        pools = [order[start : start + pool_rows] for start in range(0, len(order), pool_rows)]
        rows = np.concatenate([pool[np.argsort(lengths[pool], kind="stable")] for pool in pools])
        batches = [rows[start : start + self.rows_per_batch] for start in range(0, len(rows), self.rows_per_batch)]
        return [batches[i] for i in epoch_order(len(batches), seed=self.seed + 1, epoch=epoch)]


def make_padded_batch(
    encoded: Rows, rows: np.ndarray, collate_targets: Callable[[np.ndarray, int], tuple[Tensor, np.ndarray]], pad_id: int
) -> PaddedBatch:
    """Pad rows and collate their targets."""
    ids_BT, mask_BT, type_ids_BT = pad_rows(encoded, rows, pad_id)
    targets, targets_per_row = collate_targets(rows, ids_BT.shape[1])
    real = real_tokens(encoded.offsets[rows + 1] - encoded.offsets[rows], ids_BT.shape[1])
    return PaddedBatch(ids_BT, mask_BT, type_ids_BT, targets, rows, targets_per_row, real)


def by_length(encoded: Rows, *, tokens_per_batch: int) -> Iterator[np.ndarray]:
    """Row numbers in batches of similar length and about equal padded size, for inference; longest first."""
    lengths = np.diff(encoded.offsets)
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        count = max(1, tokens_per_batch // int(max(1, lengths[order[start]])))
        yield order[start : start + count]
        start += count
