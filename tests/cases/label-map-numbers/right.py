"""Classes 0 and 1 have the names that params.yaml gives them by number."""

import csv
from pathlib import Path

import pyarrow.parquet as pq

TABLE = Path(__file__).parent / "data/mine/table.csv"


def check(out: Path, said: str) -> None:
    """Compare each row with its number's name."""
    with TABLE.open(newline="", encoding="utf-8") as file:
        expected = {row["text"]: {"0": "negative", "1": "positive"}[row["label"]] for row in csv.DictReader(file)}
    table = out / "tables/triage"
    found = {
        row["text"]: row["label"] for split in ("train", "dev", "test") for row in pq.read_table(table / f"{split}.parquet").to_pylist()
    }
    assert found == expected
    assert "no row has the label" not in said
