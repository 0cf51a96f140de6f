"""Forty sentences of ten words, each with an organisation of two words and a place."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq


def check(out: Path, said: str) -> None:
    rows = [row for split in ("train", "dev", "test") for row in pq.read_table(out / f"tables/triage/{split}.parquet").to_pylist()]
    assert len(rows) == 40
    assert {len(row["words"]) for row in rows} == {10}
    assert all(row["label"] == ["O", "O", "O", "B-ORG", "I-ORG", "O", "O", "B-LOC", "O", "O"] for row in rows)
    assert {row["words"][8] for row in rows} == {str(number) for number in range(40)}
