"""A row without an author is a group of its own."""

import json
from pathlib import Path

import pyarrow.parquet as pq

TABLE = Path(__file__).parent / "data/mine/table.jsonl"


def check(out: Path, said: str) -> None:
    """Look for rows of unknown authors in every split, each a group of its own."""
    rows = [json.loads(line) for line in TABLE.read_text(encoding="utf-8").splitlines()]
    unknown = {row["text"] for row in rows if row["author"] != row["author"]}
    splits = {split: pq.read_table(out / f"tables/triage/{split}.parquet").to_pylist() for split in ("train", "dev", "test")}
    assert sum(map(len, splits.values())) == len(rows) == 120
    groups = {split: {row["group"] for row in found if row["text"] in unknown} for split, found in splits.items()}
    assert all(groups.values())
    assert len(groups["train"] | groups["dev"] | groups["test"]) == len(unknown) == 60
    assert not any(row["group"] == "nan" for found in splits.values() for row in found)
