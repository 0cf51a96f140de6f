"""Every line of the file is a row, and its quotes are part of the text."""

from pathlib import Path

import pyarrow.parquet as pq

TABLE = Path(__file__).parent / "data/mine/table.tsv"


def check(out: Path, said: str) -> None:
    """Compare with the lines of the file."""
    lines = TABLE.read_text(encoding="utf-8").splitlines()[1:]
    rows = [row for split in ("train", "dev", "test") for row in pq.read_table(out / f"tables/triage/{split}.parquet").to_pylist()]
    assert len(lines) == 120
    assert sorted(f"{row['text']}\t{row['label']}" for row in rows) == sorted(lines)
