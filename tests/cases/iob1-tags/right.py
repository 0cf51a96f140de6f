"""Every sentence is read, and its spans are those that seqeval finds in the file's own tags."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
from seqeval.metrics.sequence_labeling import get_entities

LINES = (Path(__file__).parent / "data/mine/table.jsonl").read_text(encoding="utf-8").splitlines()


def check(out: Path, said: str) -> None:
    rows = [row for split in ("train", "dev", "test") for row in pq.read_table(out / f"tables/triage/{split}.parquet").to_pylist()]
    given = {tuple(row["tokens"]): row["ner_tags"] for row in map(json.loads, LINES)}
    assert len(rows) == len(given) == 70
    assert all(get_entities(row["label"]) == get_entities(given[tuple(row["words"])]) for row in rows)
    assert sum(tag.startswith("B-") for row in rows for tag in row["label"]) == 140
    assert "`scheme: auto`" in said
