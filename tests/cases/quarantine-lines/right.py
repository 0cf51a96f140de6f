"""The quarantine's line is the one at which a record begins in the file."""

import csv
from pathlib import Path

import pyarrow.parquet as pq

TABLE = Path(__file__).parent / "data/mine/table.csv"


def check(out: Path, said: str) -> None:
    """Compare with the lines that the csv module counts."""
    with TABLE.open(newline="", encoding="utf-8") as file:
        reader, first, expected = csv.reader(file), 1, {}
        for row in reader:
            if row[1] == "":
                expected[first] = " ".join(row[0].split())
            first = reader.line_num + 1
    left = [row for row in pq.read_table(out / "quarantine.parquet").to_pylist() if row["rule"] == "empty_label"]
    assert len(left) == 5
    assert {row["line"]: " ".join(row["value"].split()) for row in left} == expected
