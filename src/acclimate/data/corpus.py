"""Unlabelled text: read, cleaned, without duplicates and without any dev or test text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from acclimate.config import CorpusSource
from acclimate.data.cleaning import clean_text, duplicate_key
from acclimate.data.quarantine import Quarantine
from acclimate.data.readers import read_rows, resolve
from acclimate.data.splits import unit_hash

Document = tuple[str, str, str, str]
"""id, text, source, group."""


def read_documents(
    sources: Sequence[CorpusSource], data: Path, table: str, quarantine: Quarantine, *, min_chars: int, seen: set[str], held_out: set[str]
) -> list[Document]:
    """Documents of several sources in their order.

    Args:
        seen: duplicate keys met so far; grows.
        held_out: duplicate keys of dev and test texts, which must not be trained on.
    """
    documents = []
    for source_name, number, document in _read_all(sources, data, table):
        quarantine.read[table] += 1
        row_id, text, _, _ = document
        key = duplicate_key(text)
        rule = _rule(text, key, min_chars, seen, held_out)
        if rule:
            quarantine.add(table, source_name, number, row_id, rule, text)
            continue
        seen.add(key)
        documents.append(document)
    quarantine.kept[table] += len(documents)
    return documents


def _rule(text: str, key: str, min_chars: int, seen: set[str], held_out: set[str]) -> str | None:
    if len(text) < min_chars:
        return "too_short"
    if key in seen:
        return "duplicate"
    return "in_evaluation_set" if key in held_out else None


def _read_all(sources: Sequence[CorpusSource], data: Path, table: str) -> Iterator[tuple[str, int, Document]]:
    for index, source in enumerate(sources):
        for path in resolve(data, source.data, where=f"ingest.{table}.{index}.data"):
            columns = [column for column in dict.fromkeys([source.text, source.id, source.group]) if column]
            rows = read_rows(path, columns, where=f"ingest.{table}.{index}")
            for number, text in enumerate(rows[source.text], start=1):
                row_id = str(rows[source.id][number - 1]) if source.id else f"{path.stem}:{number}"
                group = str(rows[source.group][number - 1]) if source.group else row_id
                yield path.name, number, (row_id, clean_text(str(text or "")), path.stem, group)


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
