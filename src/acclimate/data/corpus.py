"""Unlabelled text on its way: each part of a source is prepared by itself, then the parts are joined without duplicates.

A part (a file, or some row groups of one) is read, cleaned and screened in batches and written to a scratch directory of its own,
renamed when whole: a run that is stopped goes on with the parts that are missing, and any worker may do any part. What needs the
whole (duplicates, groups, ids) is decided from hashes while the parts are joined, a batch at a time.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from acclimate import artifacts, plugins
from acclimate.data.leakage.comparison import key_digest
from acclimate.data.leakage.contamination import EvaluationIndex, Match
from acclimate.data.leakage.hashing import HashArray, KeySet, hash_texts
from acclimate.data.leakage.near_duplicates import DuplicatesConfig, fingerprints, write_shard
from acclimate.data.leakage.splits import unit_hash
from acclimate.data.options import CorpusSource
from acclimate.data.quarantine import Entry, Quarantine
from acclimate.data.reading.sources import Part, SourceBatch
from acclimate.data.schema import read_names
from acclimate.data.screening.cleaning import clean
from acclimate.data.screening.language import LanguageConfig, judge_languages
from acclimate.data.screening.options import CleaningConfig, PersonalDataConfig
from acclimate.data.screening.quality import QualityConfig, judge_batch
from acclimate.data.screening.texts import TextCounts, screen
from acclimate.errors import DataError
from acclimate.redaction import redact

SCHEMA = pa.schema([(name, pa.string()) for name in ("id", "text", "source", "group")])
_PART_SCHEMA = pa.schema([*SCHEMA, ("line", pa.int64())])
_DOCUMENTS, _QUARANTINE, _COUNTS, _FINGERPRINTS = "documents.parquet", "quarantine.parquet", "counts.json", "fingerprints"
_MATCHES = "matches.json"
_FINGERPRINT_ROWS = 20_000
_ROW_GROUP_BYTES = 32 << 20
_FAMILY = "data.reading.sources"


@dataclass(frozen=True)
class TextRules:
    """What every document must pass, and how it is changed."""

    min_chars: int
    cleaning: CleaningConfig
    quality: QualityConfig
    language: LanguageConfig
    personal_data: PersonalDataConfig
    duplicates: DuplicatesConfig


@dataclass(frozen=True)
class PartJob:
    """One part to prepare. Travels to a worker by pickle."""

    table: str
    where: str
    source: CorpusSource
    part: Part
    data: Path
    rules: TextRules
    evaluation_index: Path | None
    """A file of `EvaluationIndex.save`; None where nothing is to be decontaminated."""
    directory: Path
    compared: bool = True
    """Whether its rows are compared with others for near-duplicates."""


@dataclass
class Prepared:
    """A part that lies ready in scratch."""

    table: str
    weight: float
    directory: Path
    counts: dict[str, Any]

    def fingerprint_shards(self) -> list[Path]:
        """Fingerprints of its rows, in their order."""
        return sorted((self.directory / _FINGERPRINTS).iterdir())

    @property
    def rows(self) -> int:
        """Documents that were written."""
        return int(self.counts["rows"].get("written", 0))

    def matches(self) -> list[Match]:
        """Overlaps with evaluation texts; documents are rows of this part."""
        return [Match(**match) for match in artifacts.read_json(self.directory / _MATCHES)]


def part_jobs(
    table: str,
    sources: Sequence[CorpusSource],
    data: Path,
    rules: TextRules,
    scratch: Path,
    evaluation_index: Path | None,
    *,
    compared: bool = True,
) -> list[PartJob]:
    """The parts of several sources in a fixed order.

    Raises:
        DataError: a source that cannot be found.
    """
    jobs: list[PartJob] = []
    for index, source in enumerate(sources):
        where = f"ingest.{table}.{index}"
        module = plugins.load(_FAMILY, source.kind)
        for part in module.parts(source.options(where=where), data, where=where):
            directory = scratch / table / f"{len(jobs):06d}"
            jobs.append(PartJob(table, where, source, part, data, rules, evaluation_index, directory, compared))
    return jobs


def prepare_part(job: PartJob) -> Prepared:
    """Read, clean and screen one part into its scratch directory; a part that is there already is left alone.

    Raises:
        DataError: a row that cannot be read.
    """
    if not _is_ready(job):
        job.directory.parent.mkdir(parents=True, exist_ok=True)
        artifacts.remove_partials(job.directory)
        partial = artifacts.partial(job.directory)
        partial.mkdir()
        try:
            _write_part(job, partial)
            artifacts.remove(job.directory)
            os.replace(partial, job.directory)
        finally:
            artifacts.remove(partial)
    return Prepared(job.table, job.source.weight, job.directory, artifacts.read_json(job.directory / _COUNTS))


def _is_ready(job: PartJob) -> bool:
    """Whether scratch holds this very part."""
    counts = job.directory / _COUNTS
    return counts.exists() and artifacts.read_json(counts)["part"] == {"key": redact(job.part.key)}


def _write_part(job: PartJob, directory: Path) -> None:
    module = plugins.load(_FAMILY, job.source.kind)
    index = EvaluationIndex.load(job.evaluation_index) if job.evaluation_index else None
    matches: list[Match] = []
    written = 0
    counts: dict[str, Counter[str]] = {"rows": Counter(), "changed": Counter(), "personal": Counter()}
    with (
        pq.ParquetWriter(directory / _DOCUMENTS, _PART_SCHEMA, compression="zstd") as documents,
        Quarantine(directory / _QUARANTINE) as quarantine,
        _Fingerprinter(directory / _FINGERPRINTS, job) as fingerprinter,
    ):
        for batch in module.read_part(job.source.options(where=job.where), job.part, job.data, where=job.where):
            kept, left = _prepare_batch(batch, job, counts)
            counts["rows"]["read"] += len(batch.texts)
            quarantine.extend(left)
            documents.write_table(_table(kept, _PART_SCHEMA))
            fingerprinter.add(kept)
            if index is not None:
                matches += [replace(match, document=written + match.document) for match in index.check([row[1] for row in kept])]
            written += len(kept)
    artifacts.write_json(directory / _MATCHES, [asdict(match) for match in matches])
    counts["rows"]["written"] = written
    found = {name: dict(sorted(values.items())) for name, values in counts.items()}
    artifacts.write_json(directory / _COUNTS, {**found, "part": {"key": redact(job.part.key)}})


class _Fingerprinter:
    """Fingerprints of a part's rows, some ten thousand in a shard; none where they are compared with nothing."""

    def __init__(self, directory: Path, job: PartJob) -> None:
        self._directory, self._place, self._config = directory, job.table, job.rules.duplicates
        self._is_on = job.compared
        self._pending: list[Row] = []
        self._shards = 0

    def __enter__(self) -> _Fingerprinter:
        self._directory.mkdir()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and self._pending:
            self._write()

    def add(self, rows: list[Row]) -> None:
        """Take rows that stay."""
        if self._is_on:
            self._pending += rows
        if len(self._pending) >= _FINGERPRINT_ROWS:
            self._write()

    def _write(self) -> None:
        prints = fingerprints([row[1] for row in self._pending], self._config)
        write_shard(self._directory / f"{self._shards:06d}", self._place, [row[0] for row in self._pending], prints)
        self._pending, self._shards = [], self._shards + 1


Row = tuple[str, str, str, str, int]
"""id, text, source, group, line."""


def _prepare_batch(batch: SourceBatch, job: PartJob, counts: dict[str, Counter[str]]) -> tuple[list[Row], list[Entry]]:
    """Rows of a batch that stay, cleaned, and those that leave."""
    rules = job.rules
    cleaned = clean(_as_texts(batch, job.where), rules.cleaning.rules, counts["changed"])
    problems = batch.problems or [""] * len(batch)
    found = [("unreadable", why) if why else rule for why, rule in zip(problems, _reasons(cleaned, rules), strict=True)]
    screened = screen(cleaned, rules.personal_data, TextCounts(counts["changed"], counts["personal"]))
    kept: list[Row] = []
    left: list[Entry] = []
    name = redact(batch.name)  # wget names files after the whole URL, `page?token=...` included
    ids, groups = _names(batch, batch.ids, "id", job.where), _names(batch, batch.groups, "group", job.where)
    for row, (number, text) in enumerate(zip(batch.numbers, screened, strict=True)):
        row_id = ids[row] or f"{name}:{number}"
        reason = found[row]
        if reason:
            left.append((job.table, name, number, row_id, reason[0], text, reason[1]))
        else:
            kept.append((row_id, text, name, groups[row] or key_digest(text), number))
    return kept, left


def _names(batch: SourceBatch, cells: list[Any] | None, column: str, where: str) -> list[str]:
    """Names in an optional column; an empty one where there is none."""
    return read_names({column: cells or []}, column if cells else None, batch.numbers, where=f"{where}: {batch.name}")


def _as_texts(batch: SourceBatch, where: str) -> list[str]:
    """The cells as strings; a missing one is empty.

    Raises:
        DataError: a cell holds no text but a list, a mapping or bytes.
    """
    texts = []
    for number, value in zip(batch.numbers, batch.texts, strict=True):
        if isinstance(value, list | dict | bytes):
            raise DataError(f"{where}: {batch.name}: line {number}: {str(value)[:60]!r} is a {type(value).__name__}; text is expected")
        texts.append("" if value is None or value != value else str(value))
    return texts


def _reasons(texts: list[str], rules: TextRules) -> list[tuple[str, str] | None]:
    """Why each document leaves, with what the rule found; None for those that stay."""
    reasons: list[tuple[str, str] | None] = [("too_short", f"{len(t)} characters") if len(t) < rules.min_chars else None for t in texts]
    judges: tuple[Callable[[list[str]], list[str | None]], ...] = (
        lambda some: judge_languages(some, rules.language),
        lambda some: judge_batch(some, rules.quality),
    )
    for rule in judges:
        staying = [row for row, reason in enumerate(reasons) if reason is None]
        for row, name in zip(staying, rule([texts[row] for row in staying]), strict=True):
            if name:
                reasons[row] = (name, "")
    return reasons


@dataclass
class Joining:
    """What decides over documents while parts are joined.

    Attributes:
        seen: keys of texts that were written.
        evaluation_keys: keys of dev and test texts, which must not be trained on.
        heldout_groups: groups that belong to the held-out part.
        elsewhere: keys of texts that were written to other tables and may not stand in this one too, by the reason to give.
    """

    seen: KeySet = field(default_factory=KeySet)
    ids: KeySet = field(default_factory=KeySet)
    evaluation_keys: KeySet = field(default_factory=KeySet)
    heldout_groups: frozenset[str] = frozenset()
    elsewhere: dict[str, KeySet] = field(default_factory=dict)

    def hold_back(self, keys: HashArray) -> None:
        """Texts that are evaluated on."""
        self.evaluation_keys.add_batch(keys)


class DocumentWriter:
    """A Parquet file of documents, written a row group at a time.

    Args:
        collect_groups: keep the names of the groups, which takes memory: for the small held-out part.
    """

    def __init__(self, path: Path, *, collect_groups: bool = False) -> None:
        self.rows = 0
        self.groups: set[str] = set()
        self._collects_groups = collect_groups
        self._writer = pq.ParquetWriter(path, SCHEMA, compression="zstd")
        self._pending: list[tuple[str, ...]] = []
        self._bytes = 0

    def add(self, document: tuple[str, ...]) -> None:
        """Append id, text, source, group."""
        self._pending.append(document)
        if self._collects_groups:
            self.groups.add(document[3])
        self.rows += 1
        self._bytes += len(document[1])
        if self._bytes >= _ROW_GROUP_BYTES:
            self._flush()

    def close(self) -> None:
        """Write what is pending and end the file."""
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._pending:
            self._writer.write_table(_table(self._pending, SCHEMA))
        self._pending, self._bytes = [], 0


def join_parts(
    parts: Sequence[Prepared],
    joining: Joining,
    near_duplicates: Mapping[int, tuple[str, str]],
    quarantine: Quarantine,
    counts: TextCounts,
    writers: dict[str, DocumentWriter],
    *,
    heldout_share: float,
    seed: int,
) -> None:
    """Write the parts of one table without duplicates; with a share, part of the groups goes to the writer `heldout`.

    Args:
        near_duplicates: row of the table -> why it leaves and for which row.
    Raises:
        DataError: an id that stands there twice.
    """
    start = 0
    for part in parts:
        quarantine.read[part.table] += part.counts["rows"].get("read", 0)
        counts.changed.update(part.counts["changed"])
        counts.personal.update(part.counts["personal"])
        quarantine.merge(part.directory / _QUARANTINE)
        for rows in _read_rows(part.directory / _DOCUMENTS):
            reasons = _joining_reasons(rows, joining, near_duplicates, start)
            _require_new_ids([row[0] for row in rows], joining.ids, part.table)
            for row, reason in zip(rows, reasons, strict=True):
                copies = _copies(row[0], part.weight, seed)
                if reason is None and not copies:
                    reason = ("weight", f"weight {part.weight:g}")
                if reason:
                    quarantine.extend([(part.table, row[2], row[4], row[0], reason[0], row[1], reason[1])])
                    continue
                is_heldout = heldout_share > 0 and unit_hash(row[3], seed=seed, purpose="heldout") < heldout_share
                _write_copies(writers["heldout" if is_heldout else part.table], row, 1 if is_heldout else copies)
                quarantine.kept[part.table] += 1
                if is_heldout:
                    quarantine.move(part.table, "heldout", 1)
            start += len(rows)


def _write_copies(writer: DocumentWriter, row: Row, copies: int) -> None:
    for copy in range(copies):
        writer.add((row[0] if copy == 0 else f"{row[0]}#{copy + 1}", *row[1:4]))


def _copies(row_id: str, weight: float, seed: int) -> int:
    """How often a document stands in the corpus: its source's weight, the fraction by the hash of its id."""
    fraction = weight % 1
    return int(weight) + bool(fraction and unit_hash(row_id, seed=seed, purpose="weight") < fraction)


def _joining_reasons(rows: list[Row], joining: Joining, near: Mapping[int, tuple[str, str]], start: int) -> list[tuple[str, str] | None]:
    """Why each row leaves; the plainest reason first: an exact repetition is not called a near one."""
    keys = hash_texts([row[1] for row in rows])
    is_evaluated, is_seen = joining.evaluation_keys.contains(keys), joining.seen.contains(keys)
    elsewhere = {reason: seen.contains(keys) for reason, seen in joining.elsewhere.items()}
    reasons: list[tuple[str, str] | None] = []
    written: dict[int, None] = {}
    for index, (row, key) in enumerate(zip(rows, keys.tolist(), strict=True)):
        if is_evaluated[index]:
            reasons.append(("in_evaluation_set", ""))
        elif row[3] in joining.heldout_groups:
            reasons.append(("in_heldout_group", row[3]))
        elif (place := next((reason for reason, found in elsewhere.items() if found[index]), None)) is not None:
            reasons.append((place, ""))
        elif is_seen[index] or key in written:
            reasons.append(("duplicate", ""))
        elif start + index in near:
            reasons.append(near[start + index])
        else:
            reasons.append(None)
            written[key] = None
    joining.seen.add_batch(np.fromiter(written, dtype=np.uint64, count=len(written)))
    return reasons


def _require_new_ids(ids: list[str], known: KeySet, table: str) -> None:
    is_new = known.add_batch(hash_texts(ids))
    if not is_new.all():
        again = [ids[index] for index in np.flatnonzero(~is_new)[:3]]
        raise DataError(
            f"ingest.{table}: ids stand in more than one row, such as {', '.join(map(repr, again))}; leave `id` out to number the rows"
        )


def _read_rows(path: Path) -> Iterator[list[Row]]:
    for batch in pq.ParquetFile(path).iter_batches(batch_size=4096):
        yield list(zip(*(column.to_pylist() for column in batch.columns), strict=True))


def _table(rows: Sequence[tuple[Any, ...]], schema: pa.Schema) -> pa.Table:
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(schema)
    return pa.table([pa.array(column, f.type) for column, f in zip(columns, schema, strict=True)], schema=schema)
