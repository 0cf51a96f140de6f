"""Each line is a document of the corpus, of its held-out part, or of the quarantine."""

from pathlib import Path

import pyarrow.parquet as pq

LINES = Path(__file__).parent / "data/mine/sentences.txt"


def check(out: Path, said: str) -> None:
    """Compare with the lines of the file."""
    lines = LINES.read_text(encoding="utf-8").splitlines()
    written = [row["text"] for name in ("corpus", "heldout") for row in pq.read_table(out / f"{name}.parquet").to_pylist()]
    left = [row["value"] for row in pq.read_table(out / "quarantine.parquet").to_pylist() if row["table"] == "corpus"]
    assert sorted(written + left) == sorted(lines)
    assert len(written) > 60
