"""Every span is one entity of the same words."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq

LINES = (Path(__file__).parent / "data/mine/table.jsonl").read_text(encoding="utf-8").splitlines()


def check(out: Path, said: str) -> None:
    rows = [row for split in ("train", "dev", "test") for row in pq.read_table(out / f"tables/triage/{split}.parquet").to_pylist()]
    found = {tuple(word for word, tag in zip(row["words"], row["label"], strict=True) if tag == "B-ORG") for row in rows}
    assert len(rows) == len(LINES) == 80
    assert found == {(row["text"][start:end],) for row in map(json.loads, LINES) for start, end, _ in row["label"]}
    assert {tag for row in rows for tag in row["label"]} == {"O", "B-ORG"}
    assert all(row["words"][-1] == "." for row in rows)
