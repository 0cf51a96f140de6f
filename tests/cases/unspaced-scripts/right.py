"""No document leaves for its script; two Thai ones are the same four sentences in another order."""

from pathlib import Path

import pyarrow.parquet as pq


def check(out: Path, said: str) -> None:
    ids = [text for name in ("corpus", "heldout") for text in pq.read_table(out / f"{name}.parquet")["id"].to_pylist()]
    left = pq.read_table(out / "quarantine.parquet").to_pylist()
    assert [(row["id"], row["rule"]) for row in left if row["table"] == "corpus"] == [("th1", "near_duplicate")]
    assert len(ids) == 64
