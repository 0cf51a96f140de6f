"""Ligatures hide no copy of a test text."""

from pathlib import Path

import pyarrow.parquet as pq


def check(out: Path, said: str) -> None:
    """The 24 copies leave, and what stays of the corpus keeps its ligatures."""
    left = pq.read_table(out / "quarantine.parquet").to_pylist()
    copies = {row["id"]: row["rule"] for row in left if row["id"].startswith("copy")}
    assert len(copies) == 24
    assert set(copies.values()) <= {"contaminated", "in_evaluation_set", "near_duplicate_of_test"}
    kept = [row for name in ("corpus", "heldout") for row in pq.read_table(out / f"{name}.parquet")["id"].to_pylist()]
    assert len(kept) == 40 and not any(row.startswith("copy") for row in kept)
