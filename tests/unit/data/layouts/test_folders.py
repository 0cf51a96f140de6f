"""A folder for each class: every file is an example of its folder's class, and of the split above it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from acclimate.data.options import TaskConfig
from acclimate.data.quarantine import Quarantine
from acclimate.data.tables import LoadedTable, load_table, task_batches, task_files
from acclimate.errors import DataError


def load(root: Path, **options: Any) -> LoadedTable:
    task = {"kind": "classification", "data": "reviews", "layout": "folders", "id": "id", "label": "label", **options}
    return load_table("t", TaskConfig.model_validate(task), root, Quarantine(), seed=0)


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")


def rows(loaded: LoadedTable) -> dict[str, tuple[str, str]]:
    return {row.id: (row.label, row.text) for split in loaded.by_split.values() for row in split}


REVIEWS = {f"{label}/{number}.txt": f"a {label} review, number {number}" for label in ("pos", "neg") for number in range(30)}


def test_a_folder_is_a_class(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "reviews", {**REVIEWS, "README.txt": "about", "neg/deep/er.txt": "a deep one", "pos/a.dat": "x"})
    caplog.set_level("INFO")
    wanted = {name: (name[:3], text) for name, text in REVIEWS.items()} | {"neg/deep/er.txt": ("neg", "a deep one")}
    assert rows(load(tmp_path)) == wanted
    assert "files by class: neg 31, pos 30; in no class's folder: 1" in caplog.text


def test_splits_stand_above_the_classes_as_in_imdb(tmp_path: Path) -> None:
    splits = {"train": range(10), "test": range(10, 20), "valid": range(20, 30)}
    files = {f"{split}/{name}": text for split, numbers in splits.items() for name, text in REVIEWS.items() if int(name[4:-4]) in numbers}
    write(tmp_path / "reviews", {**files, "train/urls_pos.txt": "http://example.org", "notes.txt": "x"})
    loaded = load(tmp_path, split="split")
    assert {split: len(rows) for split, rows in loaded.by_split.items()} == {"train": 20, "dev": 20, "test": 20}
    assert {row.id.split("/")[0] for row in loaded.by_split["dev"]} == {"valid"}
    with pytest.raises(DataError, match=r"reviews: holds the splits test, train, valid; write `split: split` below the task, or `data: {"):
        load(tmp_path)
    named = {"train": "reviews/train", "dev": "reviews/valid", "test": "reviews/test"}
    assert {row.label for row in load(tmp_path, data=named).by_split["test"]} == {"pos", "neg"}


def test_a_class_may_be_called_as_a_split_is(tmp_path: Path) -> None:
    write(tmp_path / "reviews", {name.replace("pos", "train").replace("neg", "bus"): text for name, text in REVIEWS.items()})
    assert {label for label, _ in rows(load(tmp_path)).values()} == {"train", "bus"}


def test_files_without_an_ending_are_read_in_their_format(tmp_path: Path) -> None:
    mail = {f"{name[:3]}/{name[4:-4]}": f"Subject: s\n\n{text}" for name, text in REVIEWS.items()}
    write(tmp_path / "reviews", mail)
    found = rows(load(tmp_path, layout={"folders": {"pattern": "**/*", "format": "eml"}}))
    assert found["pos/3"] == ("pos", "s\n\na pos review, number 3")


@pytest.mark.parametrize(
    ("files", "options", "message"),
    [
        ({"a.txt": "x"}, {}, "reviews: none of 1 files lies in a folder of its class"),
        ({"pos/a.md": "x"}, {}, r"no file matches '\*\*/\*.txt' among 1 \(by ending: 1 .md\)"),
        ({}, {"data": "none"}, "none: no such directory"),
        ({"pos/a.txt": "x"}, {"data": "reviews/pos/a.txt"}, "no directory, which this layout reads"),
        ({"pos/a.txt": "x"}, {"data": "../reviews"}, "leaves the data directory"),
    ],
)
def test_what_is_no_folder_of_classes_is_refused(tmp_path: Path, files: dict[str, str], options: dict[str, Any], message: str) -> None:
    write(tmp_path / "reviews", files)
    with pytest.raises(DataError, match=message) as caught:
        load(tmp_path, **options)
    assert str(caught.value).isprintable()


NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z", "P"]), min_size=1, max_size=8).map(lambda name: f"c{name}")


@settings(max_examples=30, derandomize=True, deadline=10_000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(classes=st.sets(NAMES, min_size=2, max_size=3))
def test_every_file_that_was_written_comes_back(tmp_path_factory: pytest.TempPathFactory, classes: set[str]) -> None:
    data = tmp_path_factory.mktemp("data")
    files = {f"{name}/{number}.txt": f"{index} {number}" for index, name in enumerate(classes) for number in range(20)}
    write(data / "reviews", files)
    task = TaskConfig.model_validate({"kind": "classification", "data": "reviews", "layout": "folders", "id": "id", "label": "label"})
    found = [batch.columns for _, path in task_files(task, data, "w") for batch in task_batches(path, task, "w")]
    read = {row[0]: row[1:] for columns in found for row in zip(columns["id"], columns["text"], columns["label"], strict=True)}
    assert read == {name: (text, name.split("/")[0]) for name, text in files.items()}
