"""A labelled split, encoded: what fine-tuning, probing and export read of a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acclimate import artifacts
from acclimate.data.encoding import Encoded, encode_texts, encode_words, load_tokenizer, require_content


@dataclass(frozen=True)
class LabelledSplit:
    """Rows of one split, in the table's order."""

    ids: list[str]
    labels: list[Any]
    encoded: Encoded


@dataclass(frozen=True)
class TableSchema:
    """schema.json of a table."""

    name: str
    kind: str
    labels: list[str] | None
    pair: bool
    metric: str

    @property
    def num_outputs(self) -> int:
        """Width of a head: one a label, one for a number."""
        return len(self.labels) if self.labels else 1


def read_schema(table: Path) -> TableSchema:
    """Read the schema that ingest wrote beside the splits."""
    raw = artifacts.read_json(table / "schema.json")
    return TableSchema(**{name: raw[name] for name in TableSchema.__dataclass_fields__})


def read_split(table: Path, split: str, *, encoder: Path, max_tokens: int, limit: int | None = None) -> LabelledSplit:
    """Read and encode the first `limit` rows of a split.

    Args:
        table: directory with train.parquet, dev.parquet, test.parquet and schema.json.
        encoder: directory with tokenizer.json.
        max_tokens: rows are cut there; special tokens count.
    """
    import pyarrow.parquet as pq

    rows = pq.read_table(table / f"{split}.parquet").slice(0, limit)
    tokenizer = load_tokenizer(encoder)
    if read_schema(table).kind == "tagging":
        encoded = encode_words(tokenizer, rows["words"].to_pylist(), max_tokens=max_tokens)
    else:
        pairs = rows["text_pair"].to_pylist() if "text_pair" in rows.column_names else None
        encoded = encode_texts(tokenizer, rows["text"].to_pylist(), pairs, max_tokens=max_tokens)
    ids = rows["id"].to_pylist()
    require_content(encoded, ids, where=f"{table.name}: {split}")
    return LabelledSplit(ids, rows["label"].to_pylist(), encoded)


def target_collator(
    values: Sequence[Any], encoded: Encoded, collate: Callable[[Sequence[Any], Any, int], tuple[Any, int]]
) -> Callable[[Any, int], tuple[Any, int]]:
    """Bind a task's `collate` to the rows of a split: (row numbers, width) -> (targets, count)."""

    def collate_rows(rows: Any, width: int) -> tuple[Any, int]:
        positions = None if encoded.word_positions is None else [encoded.word_positions[row] for row in rows]
        return collate([values[row] for row in rows], positions, width)

    return collate_rows
