"""Signs that nobody sees hide no copy of a test text."""

from pathlib import Path

import pyarrow.parquet as pq


def check(out: Path, said: str) -> None:
    """All 48 training rows that repeat a test text leave, and no other."""
    left = pq.read_table(out / "quarantine.parquet").to_pylist()
    rules = [row["rule"] for row in left if row["table"] == "tables/triage"]
    assert rules == ["also_in_test"] * 48
    assert pq.read_table(out / "tables/triage/test.parquet").num_rows == 48
