"""A vertical tab is a line end and joins no words."""

from pathlib import Path

import pyarrow.parquet as pq


def check(out: Path, said: str) -> None:
    rows = [row for split in ("train", "dev", "test") for row in pq.read_table(out / f"tables/triage/{split}.parquet").to_pylist()]
    assert len(rows) == 100
    assert all(row["text"].count("\nAs the ") == 1 for row in rows)
