"""Text of another domain shares nothing with what is measured on."""

import json
from pathlib import Path

import pyarrow.parquet as pq

LEFT = {
    "in_general": "in_general",
    "near_general": "near_duplicate_of_general",
    "in_corpus": "in_corpus",
    "near_corpus": "near_duplicate_of_corpus",
    "in_test": "in_evaluation_set",
    "near_test": "contaminated",
    "quotes_test": "contaminated",
    "twice": "duplicate",
    "near_own": "near_duplicate",
    "short": "too_short",
}


def check(out: Path, said: str) -> None:
    texts = {name: pq.read_table(out / f"{name}.parquet")["text"].to_pylist() for name in ("corpus", "heldout", "general", "other")}
    assert len(texts["corpus"]) + len(texts["heldout"]) == 60
    assert (len(texts["general"]), len(texts["other"])) == (13, 30)
    assert not set(texts["other"]) & {text for name in ("corpus", "heldout", "general") for text in texts[name]}
    left = [row for row in pq.read_table(out / "quarantine.parquet").to_pylist() if row["table"] == "other"]
    found = {row["id"]: row["rule"] for row in left}
    assert found == LEFT
    assert json.loads((out / "metrics.json").read_text())["other"]["quarantined"] == len(LEFT)
