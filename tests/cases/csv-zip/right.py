"""The rows are those of the archive's only file."""

import csv
import io
import zipfile
from pathlib import Path

import pyarrow.parquet as pq

ARCHIVE = Path(__file__).parent / "data/mine/table.csv.zip"


def check(out: Path, said: str) -> None:
    """Compare with the csv module's rows."""
    with zipfile.ZipFile(ARCHIVE) as archive:
        text = archive.read("table.csv").decode()
    expected = [(row["text"], row["label"]) for row in csv.DictReader(io.StringIO(text, newline=""))]
    rows = [row for split in ("train", "dev", "test") for row in pq.read_table(out / f"tables/triage/{split}.parquet").to_pylist()]
    assert sorted((row["text"], row["label"]) for row in rows) == sorted(expected)
