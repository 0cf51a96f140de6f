"""The labels are those in the lists, not the lists as they are written."""

import ast
import csv
import json
from pathlib import Path

import pyarrow.parquet as pq

TABLE = Path(__file__).parent / "data/mine/table.csv"


def check(out: Path, said: str) -> None:
    """Compare each row with what Python reads of its cell."""
    with TABLE.open(newline="", encoding="utf-8") as file:
        expected = {row["text"]: sorted(ast.literal_eval(row["labels"])) for row in csv.DictReader(file)}
    table = out / "tables/triage"
    found = {
        row["text"]: row["label"] for split in ("train", "dev", "test") for row in pq.read_table(table / f"{split}.parquet").to_pylist()
    }
    assert json.loads((table / "schema.json").read_text())["labels"] == ["billing", "hardware", "legal", "network"]
    assert found == expected
