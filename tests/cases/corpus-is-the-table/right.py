"""A corpus made of the table's own texts has a held-out part."""

from pathlib import Path

import pyarrow.parquet as pq

ROWS, SHARE = 160, 0.05


def check(out: Path, said: str) -> None:
    """Training texts are parted into corpus and held-out part, and no dev or test text is in either."""
    table = {split: set(pq.read_table(out / f"tables/triage/{split}.parquet")["text"].to_pylist()) for split in ("train", "dev", "test")}
    corpus, heldout = (set(pq.read_table(out / f"{name}.parquet")["text"].to_pylist()) for name in ("corpus", "heldout"))
    assert corpus | heldout == table["train"] and not corpus & heldout
    assert 0 < len(heldout) <= 3 * SHARE * ROWS
    assert f"left: in_evaluation_set {len(table['dev'] | table['test'])}" in said
