"""`<br /><br />` parts paragraphs."""

from pathlib import Path

import pyarrow.parquet as pq


def check(out: Path, said: str) -> None:
    rows = [row for split in ("train", "dev", "test") for row in pq.read_table(out / f"tables/triage/{split}.parquet").to_pylist()]
    assert len(rows) == 60
    assert all("<" not in row["text"] and row["text"].count(".\n\nOur ") == 2 for row in rows)
