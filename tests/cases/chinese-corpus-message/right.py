"""A corpus that is all Chinese is read."""

from pathlib import Path

import pyarrow.parquet as pq


def check(out: Path, said: str) -> None:
    assert sum(pq.read_table(out / f"{name}.parquet").num_rows for name in ("corpus", "heldout")) == 50
