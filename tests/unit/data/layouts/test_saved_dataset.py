"""What `datasets` saved: every row comes back, classes by their names, from save_to_disk's directory and from Parquet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Sequence, Value
from hypothesis import given, settings
from hypothesis import strategies as st

from acclimate.data.options import TaskConfig
from acclimate.data.quarantine import Quarantine
from acclimate.data.tables import LoadedTable, load_table, task_batches, task_files
from acclimate.errors import DataError

datasets.disable_progress_bars()
FEATURES = Features(
    {
        "text": Value("string"),
        "label": ClassLabel(names=["neg", "pos"]),
        "tags": Sequence(ClassLabel(names=["O", "B-X"])),
        "n": Value("int64"),
    }
)


def dataset(start: int, stop: int) -> Dataset:
    numbers = list(range(start, stop))
    columns = {
        "text": [f"text {n}" for n in numbers],
        "label": [n % 2 for n in numbers],
        "tags": [[n % 2, 0] for n in numbers],
        "n": numbers,
    }
    return Dataset.from_dict(columns, features=FEATURES)


def batches(root: Path, **options: Any) -> dict[str, list[Any]]:
    task = TaskConfig.model_validate({"kind": "classification", "layout": "saved_dataset", "label": "label", **options})
    found = [batch for _, path in task_files(task, root, "w") for batch in task_batches(path, task, "w")]
    return {name: [cell for batch in found for cell in batch.columns[name]] for name in found[0].columns}


def load(root: Path, **options: Any) -> LoadedTable:
    task = {"kind": "classification", "data": "set", "layout": "saved_dataset", "label": "label", **options}
    return load_table("t", TaskConfig.model_validate(task), root, Quarantine(), seed=0)


def test_a_saved_data_set_gives_names_of_classes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dataset(0, 300).save_to_disk(str(tmp_path / "set"), num_shards=3)
    caplog.set_level("INFO")
    found = batches(tmp_path, data="set", id="n")
    assert found == {"text": [f"text {n}" for n in range(300)], "label": ["neg", "pos"] * 150, "n": list(range(300))}
    assert "column 'label': read as the names of its classes: neg, pos" in caplog.text


def test_splits_are_taken_as_they_were_saved(tmp_path: Path) -> None:
    splits = DatasetDict({"train": dataset(0, 30), "validation": dataset(30, 40), "test": dataset(40, 60)})
    splits.save_to_disk(str(tmp_path / "set"))
    loaded = load(tmp_path, split="split")
    assert {name: len(rows) for name, rows in loaded.by_split.items()} == {"train": 30, "dev": 10, "test": 20}
    with pytest.raises(DataError, match=r"set: holds the splits train, validation, test; write `split: split`.*dev: set/validation"):
        load(tmp_path)
    loaded = load(tmp_path, data={"train": "set/train", "test": "set/test"})
    assert {row.label for row in loaded.by_split["test"]} == {"neg", "pos"}


def test_parquet_of_datasets_gives_names_too(tmp_path: Path) -> None:
    dataset(0, 40).to_parquet(str(tmp_path / "a.parquet"))
    assert batches(tmp_path, data="a.parquet", layout=None)["label"] == ["neg", "pos"] * 20
    task = TaskConfig.model_validate({"kind": "tagging", "data": "a.parquet", "text": "tags", "label": "tags"})
    ((_, path),) = task_files(task, tmp_path, "w")
    assert next(task_batches(path, task, "w")).columns["tags"][:2] == [["O", "O"], ["B-X", "O"]]


def test_a_class_that_is_not_known_is_none_and_one_without_a_name_is_refused(tmp_path: Path) -> None:
    Dataset.from_dict({"text": ["a", "b"], "label": [1, -1]}, features=Features({k: FEATURES[k] for k in ("text", "label")})).to_parquet(
        str(tmp_path / "a.parquet")
    )
    assert batches(tmp_path, data="a.parquet", layout=None)["label"] == ["pos", None]
    table = pq.read_table(tmp_path / "a.parquet")
    number = table.schema.get_field_index("label")
    pq.write_table(table.set_column(number, "label", [[1, 7]]).replace_schema_metadata(table.schema.metadata), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"a.parquet: rows 1 to 2: column 'label': 7 is none of the 2 classes that the file names for it"):
        batches(tmp_path, data="a.parquet", layout=None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: (root / "state.json").unlink(), "neither dataset_dict.json nor state.json lies in it"),
        (lambda root: (root / "state.json").write_text("{"), "state.json: holds no list '_data_files'"),
        (
            lambda root: (root / "state.json").write_text(json.dumps({"_data_files": [{"filename": "../x.arrow"}]})),
            "no plain name below it",
        ),
        (lambda root: next(root.glob("*.arrow")).unlink(), "cannot be read"),
        (lambda root: next(root.glob("*.arrow")).write_bytes(b"x" * 100), "not a whole Arrow IPC file"),
        (lambda root: (root / "state.json").write_text('{"_data_files": []}'), "set: no rows"),
    ],
)
def test_a_directory_that_is_not_whole_is_refused_in_one_line(tmp_path: Path, change: Any, message: str) -> None:
    dataset(0, 10).save_to_disk(str(tmp_path / "set"))
    change(tmp_path / "set")
    with pytest.raises(DataError, match=message) as caught:
        load(tmp_path)
    assert str(caught.value).isprintable()


@settings(max_examples=25, derandomize=True, deadline=20_000)
@given(texts=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0")), min_size=1, max_size=20), data=st.data())
def test_every_row_that_was_saved_comes_back(tmp_path_factory: pytest.TempPathFactory, texts: list[str], data: st.DataObject) -> None:
    root = tmp_path_factory.mktemp("data")
    names = data.draw(
        st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1), min_size=2, max_size=4, unique=True)
    )
    labels = [data.draw(st.integers(0, len(names) - 1)) for _ in texts]
    features = Features({"text": Value("string"), "label": ClassLabel(names=names)})
    saved = Dataset.from_dict({"text": texts, "label": labels}, features=features)
    saved.save_to_disk(str(root / "set"))
    saved.to_parquet(str(root / "a.parquet"))
    wanted = {"text": texts, "label": [names[label] for label in labels]}
    assert batches(root, data="set") == wanted
    assert batches(root, data="a.parquet", layout=None) == wanted
