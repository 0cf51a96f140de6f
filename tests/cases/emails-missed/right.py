"""Addresses in Paraguay, in Somalia, at a domain with an umlaut and with letters beyond ASCII are all replaced."""

import json
from pathlib import Path

import pyarrow.parquet as pq


def check(out: Path, said: str) -> None:
    texts = [text for name in ("corpus", "heldout") for text in pq.read_table(out / f"{name}.parquet")["text"].to_pylist()]
    assert len(texts) == 60
    assert all("@" not in text and text.count("<EMAIL>") == 1 for text in texts)
    found = json.loads((out / "text.json").read_text())["personal_data"]["found"]
    assert found["corpus"]["email"] == 60
