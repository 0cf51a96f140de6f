"""Training rows that max_train_rows leaves out are kept beside the table: a pool to draw from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acclimate.data.options import TaskConfig
from acclimate.data.quarantine import Quarantine
from acclimate.data.tables import build_table

KINDS: dict[str, list[Any]] = {
    "classification": ["a", "b", "c"],
    "multi_label": [["a"], ["a", "b"], [], ["c"]],
    "regression": [0.0, 0.5, 1.0],
    "tagging": [["O", "B-x", "I-x"], ["B-y", "O", "O"], ["O", "O", "O"]],
}


def build(directory: Path, kind: str, labels: list[Any], *, rest_first: bool = False, **own: Any) -> tuple[Path, dict[str, Any]]:
    """A table of one row a label, every sixth in dev and every seventh in test, and its counts."""
    rows = [{"id": f"row {number}", "text": f"text number {number} of it", "label": label} for number, label in enumerate(labels)]
    rows = [{**row, "split": "dev" if i % 6 == 5 else "test" if i % 7 == 6 else "train"} for i, row in enumerate(rows)]
    if kind == "tagging":
        rows = [{**row, "text": [str(i), *row["text"].split()][: len(row["label"])]} for i, row in enumerate(rows)]
    directory.mkdir()
    pq.write_table(pa.Table.from_pylist(rows[::-1] if rest_first else rows), directory / "t.parquet")
    task = {"kind": kind, "data": "t.parquet", "text": "text", "label": "label", "id": "id", "split": "split", **own}
    quarantine = Quarantine()
    build_table("t", TaskConfig(**task), directory, directory / "out", quarantine, seed=0)
    return directory / "out", dict(quarantine.metrics()["tables/t"])


@settings(max_examples=25, deadline=None)
@given(kind=st.sampled_from(sorted(KINDS)), count=st.integers(60, 120), limit=st.integers(12, 200), seed=st.randoms(use_true_random=False))
def test_train_and_rest_are_all_the_training_rows(
    kind: str, count: int, limit: int, seed: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    labels = [*(KINDS[kind] * 21)[:50], *(seed.choice(KINDS[kind]) for _ in range(count - 50))]
    directory = tmp_path_factory.mktemp("rest")
    whole, counted = build(directory / "whole", kind, labels)
    assert pq.read_table(whole / "rest.parquet").num_rows == counted["rest"] == 0
    out, counts = build(directory / "cut", kind, labels, max_train_rows=limit)
    everything, train, rest = (pq.read_table(each) for each in (whole / "train.parquet", out / "train.parquet", out / "rest.parquet"))
    assert rest.schema == train.schema == everything.schema
    found = sorted(train.to_pylist() + rest.to_pylist(), key=lambda row: row["id"])
    assert found == sorted(everything.to_pylist(), key=lambda row: row["id"])
    assert (counts["rest"], counts["rest_of_unknown_label"]) == (rest.num_rows, 0)
    assert counts["not_sampled"] == rest.num_rows
    again, _ = build(directory / "turned", kind, labels, max_train_rows=limit, rest_first=True)
    assert (again / "rest.parquet").read_bytes() == (out / "rest.parquet").read_bytes(), "the order in the file has no say"


def test_a_label_that_train_lacks_is_not_in_the_rest(tmp_path: Path) -> None:
    """Two rows each of the rarest labels are sampled first, so that the frequent ones are unknown."""
    labels = ["common" if i % 6 != 5 and i % 7 != 6 else "x" if i % 2 else "y" for i in range(84)]
    for place, label in ((0, "x"), (1, "x"), (2, "y"), (3, "y"), (7, "x"), (8, "y")):
        labels[place] = label
    out, counts = build(tmp_path / "t", "classification", labels, max_train_rows=4)
    assert json.loads((out / "schema.json").read_text())["labels"] == ["x", "y"]
    rest = pq.read_table(out / "rest.parquet")["label"].to_pylist()
    assert sorted(rest) == ["x", "y"]
    common = labels.count("common")
    assert (counts["rest"], counts["rest_of_unknown_label"], counts["not_sampled"]) == (2, common, common + 2)
