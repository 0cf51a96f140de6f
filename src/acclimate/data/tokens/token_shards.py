"""A Parquet file of documents to flat token ids on disk, in bounded memory, on one core or all, going on where it was stopped.

Row groups are gathered into shards of some 16 MB of text. A shard is read in batches, encoded, and kept as one file in a
scratch directory, by rename; the shards are then laid end to end. What is written depends on the text and the tokenizer
alone: not on the number of workers, on the back-end, or on how often the work was stopped.

For each split: `<split>.ids.npy` (tokens,) uint16, or uint32 where the vocabulary is larger; `<split>.document_offsets.npy`
(documents + 1,) int64; `<split>.word_starts.npy`, one bit a token, True at a word's first sub-token.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tokenizers import Tokenizer

from acclimate import artifacts
from acclimate.data.engines import start_worker
from acclimate.data.tokens.encoding import load_tokenizer
from acclimate.data.tokens.fast_tokenizer import Backend, BackendFailedError, BackendUnfitError, DocumentEncoder, make_encoder
from acclimate.errors import DataError, EnvironmentUnfitError
from acclimate.runtime import StoppedError, StopRequest

SHARD_BYTES = 16 << 20
_BATCH_BYTES = 4 << 20
_BATCH_DOCUMENTS = 8192
_COUNT_TOKENS = 1 << 20
# Fewer shards than that are done in this process, with threads: starting workers takes longer than the work.
_SHARDS_A_WORKER = 4
_LOG_EVERY_S = 20.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """What a worker must know."""

    encoder: Path
    """Directory that holds tokenizer.json."""
    backend: Backend
    min_document_tokens: int
    shard_bytes: int
    parallel: bool
    """Whether one shard may use every core; False in a pool of workers."""


@dataclass(frozen=True)
class Shard:
    """Some row groups of a Parquet file, and the file that their tokens are kept in."""

    parquet: Path
    row_groups: tuple[int, ...]
    batch_documents: int
    kept: Path


@dataclass(frozen=True)
class ShardTokens:
    """The tokens of a shard."""

    ids: np.ndarray
    lengths: np.ndarray
    """Tokens of each document, (documents,)."""
    word_starts: np.ndarray
    num_too_short: int


@dataclass(frozen=True)
class SplitTokens:
    """What one split holds."""

    documents: int
    documents_too_short: int
    tokens: int
    words: int
    unigram: np.ndarray
    """How often each id occurs, (vocabulary,) int64."""


@dataclass(frozen=True)
class TokenizeRun:
    """What was written, and with what."""

    splits: dict[str, SplitTokens]
    backend: str
    fell_back: str | None
    """Why the reference did the work although the fast back-end was allowed to."""
    shards: int
    shards_kept: int
    """Shards that an earlier run had finished."""


def tokenize_splits(
    parquets: dict[str, Path],
    out: Path,
    *,
    encoder: Path,
    backend: Backend = "auto",
    min_document_tokens: int = 1,
    scratch: Path,
    workers: int = 1,
    shard_bytes: int = SHARD_BYTES,
) -> TokenizeRun:
    """Encode the column `text` of each split's Parquet file and write its flat ids into `out`.

    Args:
        parquets: split name -> file.
        min_document_tokens: documents with fewer tokens, special ones counted, are left out and counted.
        scratch: finished shards are kept here. Give the same directory again only for the same files and tokenizer.
        workers: processes where there are many shards to do, else threads of one.
        shard_bytes: text of a shard, at least; a row group is never divided, so that its tokens must fit into memory.

    Raises:
        DataError: a file cannot be read, or lacks its text.
        EnvironmentUnfitError: a worker died.
        StoppedError: SIGINT or SIGTERM arrived; the finished shards are kept.
    """
    marker = scratch / "fell_back.json"
    job = Job(encoder, backend, min_document_tokens, shard_bytes, parallel=workers > 1)
    fell_back = artifacts.read_json(marker) if backend != "reference" and marker.is_file() else None
    with _tokenizers_parallelism(job.parallel):
        if backend != "reference" and fell_back is None:
            try:
                return _tokenize(parquets, out, job, scratch, workers, fell_back=None)
            except BackendUnfitError as error:
                fell_back = str(error)
                if isinstance(error, BackendFailedError):
                    artifacts.write_json(marker, fell_back)
        if fell_back is not None:
            log = logger.warning if backend == "nanotoken" or marker.is_file() else logger.info
            log("%s; the reference tokenizer does the work, with the same result in more time", fell_back)
        return _tokenize(parquets, out, replace(job, backend="reference"), scratch, workers, fell_back=fell_back)


@contextmanager
def _tokenizers_parallelism(parallel: bool) -> Iterator[None]:
    """Let the reference use every core, or one, for as long as this lasts."""
    before = os.environ.get("TOKENIZERS_PARALLELISM", "false")
    os.environ["TOKENIZERS_PARALLELISM"] = str(parallel).lower()
    try:
        yield
    finally:
        os.environ["TOKENIZERS_PARALLELISM"] = before


def _tokenize(parquets: dict[str, Path], out: Path, job: Job, scratch: Path, workers: int, *, fell_back: str | None) -> TokenizeRun:
    tokenizer = load_tokenizer(job.encoder)
    vocabulary_size = max(tokenizer.get_vocab_size(), 1 + max(tokenizer.get_vocab().values()))
    encoder = make_encoder(tokenizer, job.backend, parallel=job.parallel)  # says before any work where the back-end is unfit
    kept_in = scratch / encoder.name.replace(" ", "-")
    shards = {split: plan_shards(path, kept_in / split, shard_bytes=job.shard_bytes) for split, path in parquets.items()}
    every = [shard for planned in shards.values() for shard in planned]
    kept = sum(shard.kept.is_file() for shard in every)
    if kept:
        logger.info("%d of %d shards are kept from an earlier run", kept, len(every))
    with _ShardRunner(every, job, encoder, workers) as runner:
        splits = {split: _write_split(planned, out, split, vocabulary_size, runner) for split, planned in shards.items()}
    return TokenizeRun(splits, encoder.name, fell_back, len(every), kept)


def text_bytes(parquet: Path) -> int:
    """Bytes of the column `text`, uncompressed, by the file's own account; ids take about half of them.

    Raises:
        DataError: not a Parquet file, or without a column `text`.
    """
    file, column = _open(parquet)
    return sum(file.metadata.row_group(number).column(column).total_uncompressed_size for number in range(file.num_row_groups))


def unknown_id(tokenizer: Tokenizer) -> int | None:
    """The id of the unknown token, where the tokenizer has one."""
    named = getattr(tokenizer.model, "unk_token", None)
    found = [tokenizer.token_to_id(name) for name in (named, "[UNK]", "<unk>") if name]
    return next((number for number in found if number is not None), None)


def _open(parquet: Path) -> tuple[pq.ParquetFile, int]:
    """A file and the number of its column `text`."""
    try:
        file = pq.ParquetFile(parquet)
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{parquet}: no Parquet file can be read from it ({error})") from None
    paths = [file.metadata.schema.column(number).path for number in range(file.metadata.num_columns)]
    if "text" not in paths:
        raise DataError(f"{parquet}: no column `text`; it holds {', '.join(file.schema_arrow.names)}")
    return file, paths.index("text")


def plan_shards(parquet: Path, directory: Path, *, shard_bytes: int) -> list[Shard]:
    """Gather a file's row groups, in order, into shards of at least `shard_bytes` of text, the last excepted.

    Raises:
        DataError: not a Parquet file, or without a column `text`.
    """
    file, column = _open(parquet)
    shards: list[Shard] = []
    groups: list[int] = []
    total, documents = 0, 0
    for number in range(file.num_row_groups):
        group = file.metadata.row_group(number)
        groups, total, documents = [*groups, number], total + group.column(column).total_uncompressed_size, documents + group.num_rows
        if total >= shard_bytes or number == file.num_row_groups - 1:
            batch = min(_BATCH_DOCUMENTS, max(1, _BATCH_BYTES * documents // max(1, total)))
            shards.append(Shard(parquet, tuple(groups), batch, directory / f"{len(shards):06d}-{groups[0]}-{groups[-1]}.npy"))
            groups, total, documents = [], 0, 0
    return shards


class _ShardRunner:
    """Does the shards that are not kept yet, in this process or in several, and gives each when it is done."""

    def __init__(self, shards: list[Shard], job: Job, encoder: DocumentEncoder, workers: int) -> None:
        self._job = job
        self._encoder = encoder
        self._shards = shards
        self._workers = workers
        self._pool: ProcessPoolExecutor | None = None
        self._futures: dict[Path, Future[None]] = {}
        self._done = 0
        self._logged = time.monotonic()
        self._stop = StopRequest()
        self._exits = ExitStack()

    def __enter__(self) -> _ShardRunner:
        missing = [shard for shard in self._shards if not shard.kept.is_file()] if self._workers > 1 else []
        if len(missing) >= _SHARDS_A_WORKER * self._workers:
            import multiprocessing

            self._pool = ProcessPoolExecutor(
                min(self._workers, len(missing)), mp_context=multiprocessing.get_context("spawn"), initializer=start_worker
            )
            single = replace(self._job, parallel=False)
            self._futures = {shard.kept: self._pool.submit(_work, shard, single) for shard in missing}
        if threading.current_thread() is threading.main_thread():
            self._exits.enter_context(self._stop)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._exits.close()
        if self._pool:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def tokens(self, shard: Shard) -> ShardTokens:
        """The tokens of a shard, which is done now where it was not."""
        self._leave_if_stopped()
        if shard.kept in self._futures:
            try:
                self._futures.pop(shard.kept).result()
            except BrokenProcessPool:
                self._leave_if_stopped()  # a signal to the whole group ends the workers too
                raise EnvironmentUnfitError(
                    "a tokenizing worker died, perhaps because memory ran out; finished shards are kept: run again, with fewer workers "
                    "(OMP_NUM_THREADS) or with tokenize.backend: reference"
                ) from None
        found = read_shard(shard.kept)
        if found is None:
            tokenize_shard(shard, self._encoder, self._job.min_document_tokens)
            found = read_shard(shard.kept)
        assert found is not None
        self._done += 1
        if time.monotonic() - self._logged > _LOG_EVERY_S:
            self._logged = time.monotonic()
            logger.info("%d of %d shards", self._done, len(self._shards))
        return found

    def _leave_if_stopped(self) -> None:
        if self._stop:
            raise StoppedError(self._stop.signal_number or 0, f"{self._done} of {len(self._shards)} shards of tokens laid down")


def _work(shard: Shard, job: Job) -> None:
    tokenize_shard(shard, _worker_encoder(job), job.min_document_tokens)


@lru_cache(maxsize=1)
def _worker_encoder(job: Job) -> DocumentEncoder:
    """Made once in each worker."""
    return make_encoder(load_tokenizer(job.encoder), job.backend, parallel=job.parallel)


def tokenize_shard(shard: Shard, encoder: DocumentEncoder, min_document_tokens: int) -> None:
    """Encode a shard and keep its tokens, by rename."""
    ids: list[np.ndarray] = []
    lengths: list[np.ndarray] = []
    word_starts: list[np.ndarray] = []
    num_documents = 0
    for texts in _read_texts(shard):
        batch = encoder.encode(texts)
        length = np.diff(batch.offsets)
        num_documents += len(length)
        enough = length >= min_document_tokens
        chosen = slice(None) if enough.all() else np.repeat(enough, length)
        ids.append(_narrow(batch.ids[chosen]))
        word_starts.append(batch.word_starts[chosen])
        lengths.append(length[enough])
    kept = _concatenate(lengths, np.int64)
    shard.kept.parent.mkdir(parents=True, exist_ok=True)
    temporary = artifacts.partial(shard.kept)
    with temporary.open("wb") as file:
        bits = np.packbits(_concatenate(word_starts, np.bool_))
        for part in (_concatenate(ids, np.uint16), kept, bits, np.array([num_documents - len(kept)])):
            np.save(file, part)
    os.replace(temporary, shard.kept)


def _narrow(ids: np.ndarray) -> np.ndarray:
    """As uint16 where the ids allow it, else as they are."""
    return ids.astype(np.uint16) if not len(ids) or ids.max() < 1 << 16 else ids


def _concatenate(parts: list[np.ndarray], kind: type) -> np.ndarray:
    return np.concatenate(parts) if parts else np.zeros(0, kind)


def _read_texts(shard: Shard) -> Iterator[list[str]]:
    """A shard's texts in batches of some 4 MB; pages are read as they are needed, not whole column chunks ahead."""
    file = pq.ParquetFile(shard.parquet, pre_buffer=False, buffer_size=1 << 20)
    try:
        for batch in file.iter_batches(batch_size=shard.batch_documents, row_groups=list(shard.row_groups), columns=["text"]):
            column = batch.column(0)
            if column.null_count:
                raise DataError(f"{shard.parquet}: row groups {shard.row_groups}: {column.null_count} rows without text")
            yield column.to_pylist()
    except (OSError, pa.ArrowInvalid, UnicodeDecodeError) as error:
        raise DataError(f"{shard.parquet}: row groups {shard.row_groups[0]} to {shard.row_groups[-1]} cannot be read ({error})") from None


def read_shard(path: Path) -> ShardTokens | None:
    """The tokens kept in a file; None where there is none, or one cut short, which is done again."""
    try:
        with path.open("rb") as file:
            ids, lengths, bits, too_short = (np.load(file) for _ in range(4))
    except (OSError, EOFError, ValueError):
        return None
    return ShardTokens(ids, lengths, np.unpackbits(bits, count=len(ids)).view(np.bool_), int(too_short[0]))


def _write_split(shards: list[Shard], out: Path, split: str, vocabulary_size: int, runner: _ShardRunner) -> SplitTokens:
    """Lay the shards of a split end to end."""
    documents, too_short, tokens, words = 0, 0, 0, 0
    unigram = np.zeros(vocabulary_size, dtype=np.int64)
    id_type = np.dtype(np.uint16 if vocabulary_size <= 1 << 16 else np.uint32)
    odd_bits = np.zeros(0, dtype=np.bool_)
    with (
        _growing(out / f"{split}.ids.npy", id_type) as ids,
        _growing(out / f"{split}.document_offsets.npy", np.dtype(np.int64)) as offsets,
        _growing(out / f"{split}.word_starts.npy", np.dtype(np.uint8)) as bits,
    ):
        offsets.append(np.zeros(1, np.int64))
        for shard in shards:
            found = runner.tokens(shard)
            ids.append(found.ids)
            offsets.append(tokens + np.cumsum(found.lengths))
            waiting = np.concatenate([odd_bits, found.word_starts])
            whole = len(waiting) // 8 * 8
            bits.append(np.packbits(waiting[:whole]))
            odd_bits = waiting[whole:]
            for start in range(0, len(found.ids), _COUNT_TOKENS):  # bincount makes eight bytes of each id
                unigram += np.bincount(found.ids[start : start + _COUNT_TOKENS], minlength=vocabulary_size)
            documents += len(found.lengths)
            too_short += found.num_too_short
            tokens += len(found.ids)
            words += int(np.count_nonzero(found.word_starts))
        bits.append(np.packbits(odd_bits))
    return SplitTokens(documents, too_short, tokens, words, unigram)


class _GrowingArray:
    """A one-dimensional .npy file that is written in pieces."""

    def __init__(self, file: IO[bytes], kind: np.dtype) -> None:
        self._file = file
        self._kind = kind
        self._length = 0
        self._write_header()

    def append(self, part: np.ndarray) -> None:
        """Write a piece at the end."""
        self._file.write(part.astype(self._kind, copy=False).data)
        self._length += len(part)

    def close(self) -> None:
        """Write the header again, which numpy pads so that any length fits in the same place."""
        end = self._file.tell()
        self._file.seek(0)
        self._write_header()
        self._file.seek(end)

    def _write_header(self) -> None:
        np.lib.format.write_array_header_1_0(self._file, {"shape": (self._length,), "fortran_order": False, "descr": self._kind.str})


@contextmanager
def _growing(path: Path, kind: np.dtype) -> Iterator[_GrowingArray]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        array = _GrowingArray(file, kind)
        yield array
        array.close()
