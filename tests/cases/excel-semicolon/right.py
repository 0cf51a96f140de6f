"""All rows stand there with the texts and labels of the file, read as Windows-1252."""

import csv
from pathlib import Path

import pyarrow.parquet as pq

TABLE = Path(__file__).parent / "data/mine/table.csv"


def check(out: Path, said: str) -> None:
    """Compare with the csv module's rows."""
    with TABLE.open(newline="", encoding="cp1252") as file:
        expected = [(row["text"], row["label"]) for row in csv.DictReader(file, delimiter=";")]
    rows = [row for split in ("train", "dev", "test") for row in pq.read_table(out / f"tables/triage/{split}.parquet").to_pylist()]
    assert sorted((row["text"], row["label"]) for row in rows) == sorted(expected)
