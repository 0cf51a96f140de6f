"""0 and 0.0 are one class, so are 1 and 1.0."""

import json
from pathlib import Path

import pyarrow.parquet as pq


def check(out: Path, said: str) -> None:
    """Count rows by label in each split."""
    table = out / "tables/triage"
    assert json.loads((table / "schema.json").read_text())["labels"] == ["0", "1"]
    labels = {split: pq.read_table(table / f"{split}.parquet")["label"].to_pylist() for split in ("train", "dev", "test")}
    assert (labels["test"].count("0"), labels["test"].count("1")) == (15, 15)
    assert (len(labels["train"]) + len(labels["dev"]), len(labels["test"])) == (100, 30)
