"""Unlabelled text: read, cleaned, without duplicates and without any dev or test text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from acclimate.config import CorpusSource
from acclimate.data.cleaning import clean_column, duplicate_key, key_digest
from acclimate.data.quarantine import Quarantine
from acclimate.data.readers import cell, read_rows, resolve, row_prefixes
from acclimate.data.splits import unit_hash
from acclimate.errors import DataError

Document = tuple[str, str, str, str]
"""id, text, source, group."""


def read_documents(
    sources: Sequence[CorpusSource],
    data: Path,
    table: str,
    quarantine: Quarantine,
    *,
    min_chars: int,
    seen: set[str],
    held_out: set[str],
    held_out_groups: frozenset[str] = frozenset(),
) -> list[Document]:
    """Documents of several sources in their order.

    Args:
        seen: duplicate keys met so far; grows.
        held_out: duplicate keys of dev and test texts, which must not be trained on.
        held_out_groups: groups that belong to the held-out part.
    Raises:
        DataError: a file or a cell that cannot be read, or an id that stands there twice.
    """
    documents = []
    for source_name, number, document in _read_all(sources, data, table):
        quarantine.read[table] += 1
        row_id, text, _, group = document
        key = duplicate_key(text)
        rule = _rule(text, key, min_chars, seen, held_out) or ("in_heldout_group" if group in held_out_groups else None)
        if rule:
            quarantine.add(table, source_name, number, row_id, rule, text)
            continue
        seen.add(key)
        documents.append(document)
    twice = [row_id for row_id, count in Counter(document[0] for document in documents).items() if count > 1]
    if twice:
        raise DataError(f"ingest.{table}: {len(twice)} ids stand in more than one row, such as {', '.join(map(repr, twice[:3]))}")
    quarantine.kept[table] += len(documents)
    return documents


def _rule(text: str, key: str, min_chars: int, seen: set[str], held_out: set[str]) -> str | None:
    if len(text) < min_chars:
        return "too_short"
    if key in seen:
        return "duplicate"
    return "in_evaluation_set" if key in held_out else None


def _read_all(sources: Sequence[CorpusSource], data: Path, table: str) -> Iterator[tuple[str, int, Document]]:
    found = [resolve(data, source.data, where=f"ingest.{table}.{index}.data") for index, source in enumerate(sources)]
    every_path = [path for paths in found for path in paths]
    prefixes = dict(zip(every_path, row_prefixes(every_path, data), strict=True))
    for index, (source, paths) in enumerate(zip(sources, found, strict=True)):
        where = f"ingest.{table}.{index}"
        for path in paths:
            columns = [column for column in dict.fromkeys([source.text, source.id, source.group]) if column]
            rows = read_rows(path, columns, where=where)
            texts = clean_column(rows[source.text], where=f"{where}: {path}: column {source.text!r}")
            for number, text in enumerate(texts, start=1):
                row_id = cell(rows, source.id, number - 1) or f"{prefixes[path]}:{number}"
                yield path.name, number, (row_id, text, path.stem, cell(rows, source.group, number - 1) or key_digest(text))


def hold_out(documents: list[Document], share: float, *, seed: int) -> tuple[list[Document], list[Document]]:
    """Part documents into (corpus, held-out) by the hash of their group."""
    is_held = [unit_hash(group, seed=seed) < share for _, _, _, group in documents]
    return [d for d, held in zip(documents, is_held, strict=True) if not held], [
        d for d, held in zip(documents, is_held, strict=True) if held
    ]


def write_documents(documents: Sequence[Document], path: Path) -> None:
    """Write documents as one Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = list(zip(*documents, strict=True)) if documents else [(), (), (), ()]
    schema = pa.schema([(name, pa.string()) for name in ("id", "text", "source", "group")])
    pq.write_table(pa.table([pa.array(column, pa.string()) for column in columns], schema=schema), path, compression="zstd")
