"""Near-duplicates by MinHash and locality-sensitive hashing, within and across splits and tables.

A document is the set of its runs of `shingle_words` words, or all its words where it has fewer (Broder 1997,
https://doi.org/10.1109/SEQUEN.1997.666900; over words as in Lee et al. 2022, https://arxiv.org/abs/2107.06499). Two documents are
near-duplicates where the Jaccard index of their sets reaches `threshold`. So a text shorter than a shingle is a near-duplicate only of
the same words, and one of ten words stops being one at the second changed word: where texts are short, templates ("audio encoder add-on
for X") are all there is, and the word that differs is what they say.

1. `fingerprints`, per batch: MinHash values, joined to one key a band, and the `sketch` smallest hashes of the set.
2. `write_shard`: the fingerprints of a batch, or of many, as .npy files.
3. `find_clusters`, over all shards: rows that share the key of a band are candidates, a pair of Jaccard index J with probability
   1 - (1 - J^rows_per_band)^bands. A candidate counts only where its sketches say so: exactly when both sets fit into their sketches,
   within a standard error of sqrt(J (1 - J) / sketch) otherwise.

Shapes: B bands, P permutations (bands * rows_per_band), D documents, S sketch.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field

from acclimate.artifacts import publish
from acclimate.data.leakage.hashing import BLOCK_CHARS, HashArray, Offsets, blocks, hash_grams, hash_words, mix, offsets_of
from acclimate.data.reading.streams import first_line
from acclimate.errors import DataError
from acclimate.settings import Count, OpenShare, Options

Sketches = npt.NDArray[np.uint32]
Rows = npt.NDArray[np.int64]
Similarities = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

Dropped = dict[str, dict[int, tuple[str, str]]]
"""Place -> row in the place -> why it leaves and for which row."""

TEXTS = ("heldout", "corpus", "general", "other")
"""Tables of unlabelled text, in the order in which they are written."""
RANK = ("test", "dev", "train", *TEXTS)
"""Of similar rows the one in the earlier of these stays."""
_OWN_ALIKE_LEAVE = ("heldout", "corpus", "other")
_SIGNS_DECIDE = 48
"""Shorter texts are alike only where their signs are equal: a changed word inside them parts them too, and signs often stand at an end."""
_NONE = np.uint32(0xFFFFFFFF)
_PAIRS_AT_ONCE = 1 << 14
_MAX_LAG = (
    256  # a power of two; in a band's group every member is compared with this many after it; a larger group of different texts is rare
)
_MEMBERS_AT_ONCE = 1 << 13
_REASONS = ("", "near_duplicate", *(f"near_duplicate_of_{place}" for place in RANK if place not in ("train", "other")))


class DuplicatesConfig(Options):
    """Near-duplicates: what counts as one, and what is done to labelled rows."""

    threshold: OpenShare = Field(
        default=0.8, description="Jaccard index of two texts' sets of shingles from which they are near-duplicates"
    )
    shingle_words: Count = Field(default=5, description="words in a shingle; a shorter text is one shingle")
    bands: Count = Field(default=16, description="more bands find more pairs below and at the threshold")
    rows_per_band: Count = Field(default=6, description="more rows make fewer candidates of pairs far below the threshold")
    sketch: Annotated[int, Field(ge=16)] = Field(
        default=128, description="hashes kept of a text, 4 bytes each; similarity is exact up to so many"
    )
    labelled: Literal["report", "leaks", "drop"] = Field(
        default="leaks",
        description="rows of tables: only reported; dropped from train (and dev) where similar to test or dev; dropped within a split too",
    )


@dataclass(frozen=True)
class Fingerprints:
    """What is kept of documents to find those that are alike.

    Attributes:
        bands_BD: the key of each band.
        sketches_DS: the smallest shingle hashes in order, filled up with 2^32 - 1.
        sizes_D: how many different shingles a document has; 0 for one without words, which is like no other.
    """

    bands_BD: HashArray
    sketches_DS: Sketches
    sizes_D: npt.NDArray[np.int32]


def signatures(texts: Sequence[str], config: DuplicatesConfig) -> Sketches:
    """MinHash values, shape (documents, permutations): two texts agree in one with the probability of their Jaccard index."""
    parts = [_min_hashes(*_shingles(block, config), config) for block in blocks(texts, 4 * BLOCK_CHARS)]
    return np.concatenate(parts, axis=1).T if parts else np.empty((0, config.bands * config.rows_per_band), np.uint32)


def fingerprints(texts: Sequence[str], config: DuplicatesConfig) -> Fingerprints:
    """What `write_shard` keeps of a batch; depends on each text alone."""
    parts = [_fingerprint_block(block, config) for block in blocks(texts, 4 * BLOCK_CHARS)]
    if not parts:
        return Fingerprints(np.empty((config.bands, 0), np.uint64), np.empty((0, config.sketch), np.uint32), np.empty(0, np.int32))
    return Fingerprints(
        np.concatenate([part.bands_BD for part in parts], axis=1),
        np.concatenate([part.sketches_DS for part in parts]),
        np.concatenate([part.sizes_D for part in parts]),
    )


def write_shard(directory: Path, place: str, ids: Sequence[str], prints: Fingerprints) -> None:
    """Write a directory that holds fingerprints of rows of one place, whole or not at all.

    8 * bands + 4 * sketch + 4 bytes a row, and its id. Some ten thousand rows a shard keep the number of files low.

    Args:
        place: one of `TEXTS`, or table and split such as "tables/section:test".
    Raises:
        DataError: no such place.
    """
    split_of_place(place)
    assert len(ids) == len(prints.sizes_D)
    with publish(directory) as (temporary,):
        np.save(temporary / "bands.npy", prints.bands_BD)
        np.save(temporary / "sketches.npy", prints.sketches_DS)
        np.save(temporary / "sizes.npy", prints.sizes_D)
        schema = pa.schema([("id", pa.string())], metadata={"place": place})
        pq.write_table(pa.table([pa.array(ids, pa.string())], schema=schema), temporary / "ids.parquet", compression="zstd")


def find_clusters(shards: Sequence[Path], config: DuplicatesConfig) -> pa.Table:
    """Group rows that are alike and say which leave.

    Rows joined by a chain of near-duplicates form a cluster. From the front (`RANK`, then the name of the place, then the order of the
    rows) a row stays unless a row that stays is a near-duplicate of it and `drop_reason` lets it leave: so no row leaves for one that
    leaves too, and a chain's far ends both stay. The result is the same wherever one shard ends and the next begins.

    Holds about 50 bytes a row in memory, beside the clusters.

    Args:
        shards: directories of `write_shard`, those of one place in the order of its rows.
    Returns:
        Members, by cluster and in the order above: cluster, place, row (in its place, from 0), id, kept, reason (null where kept), and
        similar_place, similar_row, similar_id, similarity: of the row for which it leaves, or of the most similar earlier one that stays
        (null for a cluster's first row).
    Raises:
        DataError: a shard is missing or was made under other parameters.
    """
    opened = _Shards.open(shards, config)
    roots = _link(opened, config)
    sizes = np.bincount(roots, minlength=1)
    members = np.flatnonzero(sizes[roots] > 1)
    members = members[np.argsort(roots[members], kind="stable")]
    starts = np.flatnonzero(np.diff(roots[members], prepend=-1))
    verdict = _Verdict.empty(len(members))
    reasons = _reasons_between(opened.places, config.labelled)
    for first, last in _chunks(np.append(starts, len(members))):
        rows = members[first:last]
        read = opened.reader(rows)
        for start, stop in _spans(starts, first, last):
            _decide(members[start:stop], verdict.part(start, stop), opened, read, reasons, config.threshold)
    numbers = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(members))))
    return _table(opened, members, numbers, verdict)


def rows_to_drop(clusters: pa.Table) -> Dropped:
    """The rows that leave, by place."""
    left = clusters.filter(pc.field("reason").is_valid())
    columns = [left[name].to_pylist() for name in ("place", "row", "reason", "similar_place", "similar_id", "similarity")]
    dropped: Dropped = {}
    for place, row, reason, other, other_id, similarity in zip(*columns, strict=True):
        dropped.setdefault(place, {})[row] = (reason, f"{similarity:.2f} {other} {other_id}")
    return dropped


def split_of_place(place: str) -> str:
    """One of `RANK`.

    Raises:
        DataError: a name that is none of `TEXTS` and does not end in a split.
    """
    split = place.rpartition(":")[2]
    if split not in RANK or (split in TEXTS) != (split == place):
        raise DataError(f"near-duplicates: {place!r} is no place; allowed: {', '.join(TEXTS)}, or a table with :train, :dev or :test")
    return split


def drop_reason(kept: str, other: str, labelled: Literal["report", "leaks", "drop"]) -> str | None:
    """Why a row of place `other` leaves when it is a near-duplicate of one that stays in `kept`; None where both stay.

    The corpus loses what is like its own rows, the held-out text, or any dev or test row; the held-out text what is like its own rows;
    text of another domain also what is like the corpus or general text; general text nothing. None loses what is like a training row,
    and no table what is like another's row of the same split: that is the same text under another label. With `labelled` "leaks" a
    train split loses what is like any dev or test row, and a dev split what is like its own table's test rows; with "drop" each split
    also loses what is like its own rows.
    """
    kept_split, other_split = split_of_place(kept), split_of_place(other)
    if kept == other:
        return "near_duplicate" if other_split in _OWN_ALIKE_LEAVE or (labelled == "drop" and other_split not in TEXTS) else None
    leaks = {
        "corpus": kept_split in ("test", "dev", "heldout"),
        "other": kept_split in ("test", "dev", "heldout", "corpus", "general"),
        "train": kept_split in ("test", "dev") and labelled != "report",
        "dev": kept_split == "test" and kept.rpartition(":")[0] == other.rpartition(":")[0] and labelled != "report",
    }
    return f"near_duplicate_of_{kept_split}" if leaks.get(other_split, False) else None


def sketch_similarity(left_RS: Sketches, right_RS: Sketches, left_sizes: Any, right_sizes: Any) -> Similarities:
    """The Jaccard index of pairs of sets, from sketches: exact where both sets fit, an estimate otherwise.

    The estimate is Broder's (1997): the share of the S smallest hashes of the union that lie in both.

    Args:
        left_RS: one sketch a pair, or a single one for all.
    Returns:
        Shape (pairs,).
    """
    size = right_RS.shape[1]
    both = np.sort(np.concatenate([np.broadcast_to(left_RS, right_RS.shape), right_RS], axis=1), axis=1)
    shared = (both[:, 1:] == both[:, :-1]) & (both[:, 1:] != _NONE)
    counts = shared.sum(axis=1)
    similarity = counts / (left_sizes + right_sizes - counts)
    estimated = np.flatnonzero((left_sizes > size) | (right_sizes > size))
    if len(estimated):
        pairs = shared[estimated]
        rank = np.arange(2, 2 * size + 1) - np.cumsum(pairs, axis=1)  # of a hash among the different ones of the union
        similarity[estimated] = (pairs & (rank <= size)).sum(axis=1) / size
    return np.asarray(similarity, dtype=np.float64)


def _shingles(texts: Sequence[str], config: DuplicatesConfig) -> tuple[Sketches, Offsets]:
    """The different shingle hashes of each document in order, end to end, and where each document's start."""
    words = hash_words(texts)
    grams = hash_grams(words, config.shingle_words, whole_if_shorter=True)
    assert words.marks is not None
    signed = np.flatnonzero((words.marks != 0) & (words.lengths < _SIGNS_DECIDE))
    lengths = grams.lengths[signed]
    within = np.arange(int(lengths.sum())) + np.repeat(grams.offsets[signed] - offsets_of(lengths)[:-1], lengths)
    grams.values[within] = mix(grams.values[within] ^ np.repeat(words.marks[signed], lengths))
    keys = grams.documents().astype(np.uint64) << np.uint64(32) | np.minimum(grams.values >> np.uint64(32), np.uint64(_NONE - 1))
    keys.sort()
    keys = keys[np.append(True, keys[1:] != keys[:-1])] if len(keys) else keys
    counts = np.bincount((keys >> np.uint64(32)).astype(np.int64), minlength=len(texts))
    return keys.astype(np.uint32), offsets_of(counts)


def _min_hashes(shingles: Sketches, offsets: Offsets, config: DuplicatesConfig) -> Sketches:
    """Shape (permutations, documents): the smallest of a * shingle + b modulo 2^32, a odd, over the shingles of each document."""
    num_permutations = config.bands * config.rows_per_band
    constants = mix(np.arange(1, 2 * num_permutations + 1, dtype=np.uint64)).astype(np.uint32).reshape(2, -1)
    filled = np.flatnonzero(np.diff(offsets))
    smallest_PD = np.full((num_permutations, len(offsets) - 1), _NONE)
    permuted = np.empty_like(shingles)
    for row, (factor, addend) in enumerate(constants.T if len(filled) else ()):
        np.multiply(shingles, factor | np.uint32(1), out=permuted)
        permuted += addend
        smallest_PD[row, filled] = np.minimum.reduceat(permuted, offsets[filled])
    return smallest_PD


def _fingerprint_block(texts: Sequence[str], config: DuplicatesConfig) -> Fingerprints:
    shingles, offsets = _shingles(texts, config)
    smallest_BRD = _min_hashes(shingles, offsets, config).reshape(config.bands, config.rows_per_band, len(texts)).astype(np.uint64)
    bands_BD = np.broadcast_to(np.arange(config.bands, dtype=np.uint64)[:, None], (config.bands, len(texts)))
    for row in range(config.rows_per_band):
        bands_BD = mix((bands_BD << np.uint64(32)) + bands_BD + smallest_BRD[:, row])
    sizes_D = np.diff(offsets)
    sketches_DS = np.full((len(texts), config.sketch), _NONE)
    column = np.arange(len(shingles)) - np.repeat(offsets[:-1], sizes_D)
    inside = column < config.sketch
    sketches_DS[np.repeat(np.arange(len(texts)), sizes_D)[inside], column[inside]] = shingles[inside]
    return Fingerprints(bands_BD, sketches_DS, sizes_D.astype(np.int32))


@dataclass(frozen=True)
class _Shards:
    """Shards in the order in which their rows stay, their rows counted through."""

    paths: list[Path]
    places: list[str]
    starts: Offsets

    @classmethod
    def open(cls, paths: Sequence[Path], config: DuplicatesConfig) -> _Shards:
        shapes = {path: _check_shard(path, config) for path in paths}
        ordered = sorted(paths, key=lambda path: (RANK.index(split_of_place(shapes[path][0])), shapes[path][0]))
        return cls(ordered, [shapes[path][0] for path in ordered], offsets_of(np.array([shapes[path][1] for path in ordered], np.int64)))

    @cached_property
    def sizes(self) -> npt.NDArray[np.int32]:
        return np.concatenate([np.load(path / "sizes.npy") for path in self.paths] or [np.empty(0, np.int32)])

    def shard_of(self, rows: Rows) -> Rows:
        return np.searchsorted(self.starts, rows, side="right") - 1

    def band(self, band: int) -> HashArray:
        """The keys of one band, of all rows."""
        keys = np.empty(int(self.starts[-1]), np.uint64)
        for path, start, stop in zip(self.paths, self.starts[:-1], self.starts[1:], strict=True):
            keys[start:stop] = np.load(path / "bands.npy", mmap_mode="r")[band]
        return keys

    def sketches(self, rows: Rows) -> Sketches:
        """The sketches of rows in any order. Files are mapped for this call only, so that no page of them stays resident."""
        distinct, inverse = np.unique(rows, return_inverse=True)
        shards, first = np.unique(self.shard_of(distinct), return_index=True)
        parts = [
            np.load(self.paths[shard] / "sketches.npy", mmap_mode="r")[distinct[start:stop] - self.starts[shard]]
            for shard, start, stop in zip(shards.tolist(), first, [*first[1:], len(distinct)], strict=True)
        ]
        return np.concatenate(parts)[inverse]

    def reader(self, rows: Rows) -> Callable[[Rows], Sketches]:
        """Gives the sketches of any of these rows; reads them once where they are few."""
        if len(rows) > 8 * _MEMBERS_AT_ONCE:
            return self.sketches
        distinct = np.sort(rows)
        loaded = self.sketches(distinct)
        return lambda wanted: loaded[np.searchsorted(distinct, wanted)]

    def similarity(self, left: Rows, right: Rows, read: Callable[[Rows], Sketches]) -> Similarities:
        """Of pairs; `left` may be one row for all."""
        found = np.empty(len(right), np.float64)
        for start in range(0, len(right), _PAIRS_AT_ONCE):
            other = right[start : start + _PAIRS_AT_ONCE]
            one = left if len(left) == 1 else left[start : start + _PAIRS_AT_ONCE]
            sketches = read(np.concatenate([one, other]))
            found[start : start + len(other)] = sketch_similarity(
                sketches[: len(one)], sketches[len(one) :], self.sizes[one], self.sizes[other]
            )
        return found


def _check_shard(path: Path, config: DuplicatesConfig) -> tuple[str, int]:
    """The place and the number of rows."""
    try:
        place = (pq.read_schema(path / "ids.parquet").metadata or {})[b"place"].decode()
        bands, rows = np.load(path / "bands.npy", mmap_mode="r").shape
        sketch = np.load(path / "sketches.npy", mmap_mode="r").shape[1]
    except (OSError, KeyError, ValueError, pa.ArrowInvalid) as error:
        raise DataError(f"{path}: no readable shard of fingerprints ({first_line(error)}); delete it and make it again") from None
    if (bands, sketch) != (config.bands, config.sketch):
        raise DataError(
            f"{path}: made with bands {bands} and sketch {sketch}; set are {config.bands} and {config.sketch}; delete it and make it again"
        )
    return place, rows


def _link(shards: _Shards, config: DuplicatesConfig) -> Rows:
    """The first row of each row's cluster."""
    roots = np.arange(int(shards.starts[-1]))
    live = np.flatnonzero(shards.sizes > 0)
    every_band = np.zeros(len(live), np.uint64)
    for band in range(config.bands):
        every_band = mix(every_band + (every_band << np.uint64(32)) + shards.band(band)[live])
    copies = np.zeros(len(roots), bool)
    members, groups = _groups(every_band)
    first = live[members[np.flatnonzero(np.diff(groups, prepend=-1))]]
    _join(shards, roots, np.repeat(first, np.unique(groups, return_counts=True)[1]), live[members], config.threshold)
    copies[live[members]] = roots[live[members]] != live[members]
    live = live[~copies[live]]  # a text of which there are ten thousand copies would make fifty million pairs
    for band in range(config.bands):
        members, groups = _groups(shards.band(band)[live])
        for left, right in _pairs_within(groups):
            _join(shards, roots, live[members[left]], live[members[right]], config.threshold)
    return _find(roots, np.arange(len(roots)))


def _groups(keys: HashArray) -> tuple[Rows, Rows]:
    """Positions whose key stands more than once, together and in order; and the number of the group of each."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    same = ordered[1:] == ordered[:-1]
    del ordered
    repeated = np.append(same, False) | np.append(False, same) if len(keys) else np.zeros(0, bool)
    numbers = np.cumsum(np.append(True, ~same))[repeated] if len(keys) else np.zeros(0, np.int64)
    return order[repeated], numbers


def _pairs_within(groups: Rows) -> Iterator[tuple[Rows, Rows]]:
    """Pairs of positions with one group number, neighbours first: of a large group those have often joined all before the rest is due."""
    held: list[tuple[Rows, int]] = []
    for lag in range(1, _MAX_LAG + 1):
        first = np.flatnonzero(groups[lag:] == groups[:-lag])
        if len(first):
            held.append((first, lag))
        is_power_of_two = lag & (lag - 1) == 0
        if held and (is_power_of_two or not len(first) or sum(len(pairs) for pairs, _ in held) >= _PAIRS_AT_ONCE):
            yield np.concatenate([pairs for pairs, _ in held]), np.concatenate([pairs + step for pairs, step in held])
            held = []
        if not len(first):
            return


def _join(shards: _Shards, roots: Rows, left: Rows, right: Rows, threshold: float) -> None:
    """Join the clusters of pairs that are similar indeed."""
    for start in range(0, len(left), _PAIRS_AT_ONCE):
        first, second = left[start : start + _PAIRS_AT_ONCE], right[start : start + _PAIRS_AT_ONCE]
        apart = _find(roots, first) != _find(roots, second)
        first, second = first[apart], second[apart]
        if len(first):
            alike = shards.similarity(first, second, shards.sketches) >= threshold
            _union(roots, first[alike], second[alike])


def _find(roots: Rows, rows: Rows) -> Rows:
    """The root of each row, to which the rows are then tied directly."""
    found = roots[rows]
    while True:
        above = roots[found]
        if np.array_equal(above, found):
            roots[rows] = found
            return found
        found = above


def _union(roots: Rows, left: Rows, right: Rows) -> None:
    """Join the clusters of pairs of rows. The root of a cluster is its first row, in whatever order pairs come."""
    while True:
        one, other = _find(roots, left), _find(roots, right)
        apart = one != other
        if not apart.any():
            return
        left, right = left[apart], right[apart]
        np.minimum.at(roots, np.maximum(one, other)[apart], np.minimum(one, other)[apart])


@dataclass(frozen=True)
class _Verdict:
    """What becomes of members: the reason's number (0: stays), the row that it is like (-1: none), and how like."""

    reason: npt.NDArray[np.int8]
    similar: Rows
    similarity: Similarities

    @classmethod
    def empty(cls, count: int) -> _Verdict:
        return cls(np.zeros(count, np.int8), np.full(count, -1), np.zeros(count))

    def part(self, start: int, stop: int) -> _Verdict:
        return _Verdict(self.reason[start:stop], self.similar[start:stop], self.similarity[start:stop])


def _decide(
    rows: Rows, verdict: _Verdict, shards: _Shards, read: Callable[[Rows], Sketches], reasons: npt.NDArray[np.int8], threshold: float
) -> None:
    """Go through a cluster from its first row; fills `verdict`."""
    places = shards.shard_of(rows)
    for index in range(len(rows) - 1):
        if verdict.reason[index]:
            continue
        later = index + 1 + np.flatnonzero(verdict.reason[index + 1 :] == 0)
        if not len(later):
            return
        similarity = shards.similarity(rows[index : index + 1], rows[later], read)
        reason = np.where(similarity >= threshold, reasons[places[index], places[later]], 0)
        closer = (similarity > verdict.similarity[later]) | (reason > 0)
        verdict.similar[later[closer]] = rows[index]
        verdict.similarity[later[closer]] = similarity[closer]
        verdict.reason[later] = reason


def _reasons_between(places: Sequence[str], labelled: Literal["report", "leaks", "drop"]) -> npt.NDArray[np.int8]:
    """The number of the reason for each pair of shards (kept, other)."""
    distinct = sorted(set(places))
    between = np.array(
        [[_REASONS.index(drop_reason(kept, other, labelled) or "") for other in distinct] for kept in distinct], dtype=np.int8
    )
    numbers = np.array([distinct.index(place) for place in places], dtype=np.int64)
    return np.asarray(between[np.ix_(numbers, numbers)] if len(numbers) else np.zeros((0, 0), np.int8))


def _chunks(bounds: Rows) -> Iterator[tuple[int, int]]:
    """Runs of whole clusters, of about `_MEMBERS_AT_ONCE` members."""
    first = 0
    for stop in bounds[1:].tolist():
        if stop - first >= _MEMBERS_AT_ONCE or stop == bounds[-1]:
            yield first, stop
            first = stop


def _spans(starts: Rows, first: int, last: int) -> Iterator[tuple[int, int]]:
    inside = [*starts[np.searchsorted(starts, first) : np.searchsorted(starts, last)].tolist(), last]
    return itertools.pairwise(inside)


def _table(shards: _Shards, members: Rows, clusters: Rows, verdict: _Verdict) -> pa.Table:
    distinct = np.sort(members)
    ids = _ids(shards, distinct)
    names = sorted(set(shards.places))
    codes = np.array([names.index(place) for place in shards.places], dtype=np.int32)
    begins = shards.starts[[shards.places.index(place) for place in shards.places]]

    def columns(rows: Rows, is_null: Flags) -> tuple[pa.Array, pa.Array, pa.Array]:
        of_shard = shards.shard_of(np.where(is_null, 0, rows))
        place = pa.DictionaryArray.from_arrays(pa.array(codes[of_shard], mask=is_null), pa.array(names, pa.string()))
        number = pa.array(rows - begins[of_shard], pa.int64(), mask=is_null)
        return place, number, ids.take(pa.array(np.searchsorted(distinct, rows), mask=is_null))

    kept = verdict.reason == 0
    alone = verdict.similar < 0
    place, row, row_id = columns(members, np.zeros(len(members), bool))
    similar_place, similar_row, similar_id = columns(verdict.similar, alone)
    reason = pa.DictionaryArray.from_arrays(pa.array(verdict.reason, pa.int32(), mask=kept), pa.array(_REASONS, pa.string()))
    return pa.table(
        {
            "cluster": pa.array(clusters, pa.int64()),
            "place": place,
            "row": row,
            "id": row_id,
            "kept": pa.array(kept),
            "reason": reason,
            "similar_place": similar_place,
            "similar_row": similar_row,
            "similar_id": similar_id,
            "similarity": pa.array(verdict.similarity, mask=alone),
        }
    )


def _ids(shards: _Shards, rows: Rows) -> pa.Array:
    """The ids of rows given in ascending order."""
    bounds = np.searchsorted(rows, shards.starts)
    parts = [
        pq.read_table(path / "ids.parquet")["id"].combine_chunks().take(pa.array(rows[first:last] - start))
        for path, start, first, last in zip(shards.paths, shards.starts[:-1], bounds[:-1], bounds[1:], strict=True)
        if last > first
    ]
    return pa.concat_arrays(parts) if parts else pa.array([], pa.string())
