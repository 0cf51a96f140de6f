"""The corpus holds the documents, and nothing that macOS added."""

import zipfile
from pathlib import Path

import pyarrow.parquet as pq

ARCHIVE = Path(__file__).parent / "data/mine/notes.zip"


def check(out: Path, said: str) -> None:
    """Compare with the members outside `__MACOSX`."""
    with zipfile.ZipFile(ARCHIVE) as archive:
        expected = {name: archive.read(name).decode().strip() for name in archive.namelist() if not name.startswith("__MACOSX")}
    found = [row for name in ("corpus", "heldout") for row in pq.read_table(out / f"{name}.parquet").to_pylist()]
    left = pq.read_table(out / "quarantine.parquet").to_pylist()
    assert {row["text"] for row in found} <= set(expected.values())
    assert len(found) + len([row for row in left if row["table"] in ("corpus", "heldout")]) == len(expected)
    assert not any("MACOSX" in row["source"] or "._" in row["id"] for row in left)
