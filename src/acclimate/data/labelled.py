"""A labelled split, encoded: what fine-tuning, probing and export read of a table."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acclimate import artifacts, kinds
from acclimate.data.tokens.encoding import Encoded, load_tokenizer, require_content
from acclimate.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class LabelledSplit:
    """Examples of one split, in the table's order."""

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
    options: dict[str, Any] = field(default_factory=dict)
    """What the kind's table carries to training and serving."""
    texts: dict[str, list[str]] = field(default_factory=dict)
    """Which rules cleaned its texts, and which kinds of personal data were replaced: serving does the same."""


def read_schema(table: Path) -> TableSchema:
    """Read the schema that ingest wrote beside the splits."""
    raw = artifacts.read_json(table / "schema.json")
    return TableSchema(**{name: raw[name] for name in TableSchema.__dataclass_fields__ if name in raw})


def read_rows(path: Path) -> pa.Table:
    """Read the rows of an ingested split.

    Raises:
        DataError: the file is missing, damaged, or has rows without a label.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        raise DataError(f"{path}: no such file; has ingest run?")
    try:
        rows = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{path}: {str(error).splitlines()[0]}; run ingest again") from None
    if rows.num_rows and ("label" not in rows.column_names or rows["label"].null_count):
        raise DataError(f"{path}: a label is missing in some of {rows.num_rows} rows; run ingest again")
    return rows


def read_split(table: Path, split: str, *, encoder: Path, max_length: int, limit: int | None = None) -> LabelledSplit:
    """Read and encode the first `limit` rows of a split.

    Args:
        table: directory with train.parquet, dev.parquet, test.parquet and schema.json.
        encoder: directory with tokenizer.json.
        max_length: rows are cut there; special tokens count.
    """
    rows = read_rows(table / f"{split}.parquet").slice(0, limit)
    schema = read_schema(table)
    encoded = kinds.model(schema.kind).encode(rows.to_pylist(), load_tokenizer(encoder), max_length=max_length, options=schema.options)
    ids = rows["id"].to_pylist()
    require_content(encoded, ids, where=f"{table.name}: {split}")
    return LabelledSplit(ids, rows["label"].to_pylist(), encoded)
