"""Questions that differ by C, C++ and C# are no copies of each other."""

import json
from pathlib import Path

import pyarrow.parquet as pq

TABLE = Path(__file__).parent / "data/mine/table.jsonl"


def check(out: Path, said: str) -> None:
    """Every row stays, with its label."""
    expected = {(row["text"], row["label"]) for row in map(json.loads, TABLE.read_text(encoding="utf-8").splitlines())}
    found = [row for split in ("train", "dev", "test") for row in pq.read_table(out / f"tables/triage/{split}.parquet").to_pylist()]
    assert {(row["text"], row["label"]) for row in found} == expected
    assert len(found) == len(expected) == 108
