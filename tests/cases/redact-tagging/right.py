"""Words that are personal data are replaced, words and tags keep their number, and the finds are counted."""

import json
from pathlib import Path

import pyarrow.parquet as pq


def check(out: Path, said: str) -> None:
    rows = [row for split in ("train", "dev", "test") for row in pq.read_table(out / f"tables/triage/{split}.parquet").to_pylist()]
    assert len(rows) == 80
    for row in rows:
        assert row["words"][:8] == ["Mail", "<EMAIL>", "or", "call", "<PHONE>", "<PHONE>", "<PHONE>", "about"]
        assert row["label"] == ["O", "B-MAIL", "O", "O", "B-PHONE", "I-PHONE", "I-PHONE", "O", "O"]
    found = json.loads((out / "text.json").read_text())["personal_data"]["found"]["tables/triage"]
    assert (found["email"], found["phone"]) == (80, 80)
    for file in out.rglob("*.parquet"):
        assert b"firma-nord" not in file.read_bytes()
