"""How rows are parted: groups by name, splits that a column lacks, copies and turned pairs."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from acclimate.data.options import TaskConfig
from acclimate.data.quarantine import Quarantine
from acclimate.data.rows import LoadedTable
from acclimate.data.tables import load_table
from acclimate.errors import DataError


def load(tmp_path: Path, rows: list[dict[str, Any]], quarantine: Quarantine | None = None, **settings: Any) -> LoadedTable:
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    config = TaskConfig(**{"kind": "classification", "data": "t.jsonl", **settings})
    return load_table("t", config, tmp_path, quarantine or Quarantine(), seed=0)


def table(count: int, **columns: Any) -> list[dict[str, Any]]:
    return [{"text": f"text {row}", "label": "ab"[row % 2], **{name: of(row) for name, of in columns.items()}} for row in range(count)]


@pytest.mark.parametrize(
    ("names", "cut"),
    [
        (["train", "test"], {"dev"}),
        (["Train", " TEST "], {"dev"}),
        (["training", "validation"], {"test"}),
        (["train"], {"dev", "test"}),
        (["train", "val", "testing"], set()),
    ],
)
def test_splits_that_the_column_lacks_are_cut_from_train_by_group(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, names: list[str], cut: set[str]
) -> None:
    part_of = [names[0] if row % 3 else names[row // 3 % len(names)] for row in range(300)]
    rows = table(300, part=lambda row: part_of[row], author=lambda row: f"{part_of[row]}-{row // 3}")
    with caplog.at_level(logging.INFO):
        loaded = load(tmp_path, rows, split="part", group="author")
    assert all(loaded.by_split.values()) and sum(map(len, loaded.by_split.values())) == 300
    told = {split for split in ("dev", "test") if f"no row of the split {split} is given; 0.1 of the training groups" in caplog.text}
    assert told == cut
    groups = [{row.group for row in rows} for rows in loaded.by_split.values()]
    assert sum(map(len, groups)) == len(set.union(*groups))


@pytest.mark.parametrize(("names", "said"), [(["dev", "test"], "no row of the split train"), (["train", ""], "a row has no split")])
def test_split_columns_that_say_too_little_are_refused(tmp_path: Path, names: list[str], said: str) -> None:
    with pytest.raises(DataError, match=said):
        load(tmp_path, table(40, part=lambda row: names[row % 2]), split="part")


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.permutations(range(40)), st.randoms())
def test_a_group_is_one_however_its_cells_are_typed(tmp_path: Path, numbers: list[int], random: Any) -> None:
    spellings = [int, float, str, lambda number: f"{number}.0", lambda number: f" {number} "]
    rows = table(120, patient=lambda row: random.choice(spellings)(numbers[row % 40]))
    loaded = load(tmp_path, rows, group="patient", dev_share=0.2, test_share=0.2)
    found = {row.id: (split, row.group) for split, members in loaded.by_split.items() for row in members}
    assert {found[f"t:{row + 1}"][1] for row in range(120)} == {str(number) for number in numbers}
    by_group: dict[str, set[str]] = {}
    for split, group in found.values():
        by_group.setdefault(group, set()).add(split)
    assert all(len(splits) == 1 for splits in by_group.values())


@pytest.mark.parametrize("nothing", [None, float("nan"), "", "nan", "NaT", "None"])
def test_a_row_without_a_group_is_a_group_of_its_own(tmp_path: Path, nothing: Any) -> None:
    loaded = load(tmp_path, table(100, author=lambda row: nothing if row % 2 else f"a{row % 10}"), group="author", dev_share=0.2)
    groups = [row.group for rows in loaded.by_split.values() for row in rows]
    assert len(set(groups)) == 50 + 5


@pytest.mark.parametrize("column", ["group", "id"])
def test_a_cell_that_names_nothing_is_refused_with_its_row(tmp_path: Path, column: str) -> None:
    rows = table(20, key=lambda row: ["a"] if row == 4 else row)
    with pytest.raises(DataError, match=r"column 'key': 1 of 20 rows hold no name: row 5: \['a'\] is a list"):
        load(tmp_path, rows, **{column: "key"})


def pairs(split_of_turned: str | None, *, other_label: bool) -> list[dict[str, Any]]:
    """90 pairs, 30 of them in test, and those the other way round."""
    one_way = [{"text": f"first {row}", "text_pair": f"second {row}", "label": "ab"[row % 2]} for row in range(90)]
    turned = [
        {"text": row["text_pair"].upper(), "text_pair": row["text"], "label": "ab"[(number + other_label) % 2]}
        for number, row in enumerate(one_way[:30])
    ]
    parts = [{**row, "part": "test" if number < 30 else "train"} for number, row in enumerate(one_way)]
    return [*parts, *({**row, "part": split_of_turned} for row in turned)]


@pytest.mark.parametrize(
    ("split", "other_label", "rule"),
    [("train", False, "also_in_test"), ("train", True, "also_in_test"), ("test", False, "duplicate"), ("test", True, None)],
)
def test_turned_pairs_are_found_between_splits_and_within(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, split: str, other_label: bool, rule: str | None
) -> None:
    quarantine = Quarantine()
    load(tmp_path, pairs(split, other_label=other_label), quarantine, text_pair="text_pair", split="part")
    assert quarantine.count("tables/t") == ({rule: 30} if rule else {})
    assert ("30 pairs stand in both orders with different labels; both stay" in caplog.text) == (rule is None)


def test_turned_pairs_stay_in_one_split_by_themselves(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        loaded = load(tmp_path, pairs(None, other_label=True), text_pair="text_pair", dev_share=0.2, test_share=0.2)
    splits: dict[str, set[str]] = {}
    for split, rows in loaded.by_split.items():
        for row in rows:
            splits.setdefault(loaded.key(row), set()).add(split)
    assert len(splits) == 90 and all(len(found) == 1 for found in splits.values())
    assert "text that is in a training pair" not in caplog.text


def test_pairs_that_share_a_text_with_training_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [{"text": f"first {row}", "text_pair": "one answer", "label": "ab"[row % 2]} for row in range(100)]
    with caplog.at_level(logging.INFO):
        loaded = load(tmp_path, rows, text_pair="text_pair")
    num_test = len(loaded.by_split["test"])
    assert f"{num_test} of {num_test} test pairs have a text that is in a training pair too; `group` parts them" in caplog.text


def test_labels_in_another_order_are_no_conflict(tmp_path: Path) -> None:
    rows = [{"text": f"text {row // 2}", "label": ["a", "b"] if row % 2 else ["b", "a"]} for row in range(200)]
    quarantine = Quarantine()
    load(tmp_path, rows, quarantine, kind="multi_label")
    assert quarantine.count("tables/t") == {"duplicate": 100}


def test_times_without_a_zone_are_told_and_order_the_rows(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = table(100, day=lambda row: f"2026-{1 + row // 28:02}-{1 + row % 28:02}")
    with caplog.at_level(logging.INFO):
        loaded = load(tmp_path, rows, split_by="time", time="day")
    assert "tasks.t: column 'day': the times have no zone; they are read as UTC" in caplog.text
    newest = {split: max(row.time or 0 for row in rows) for split, rows in loaded.by_split.items()}
    assert newest["train"] < newest["dev"] < newest["test"]
    with pytest.raises(DataError, match="numbers and dates stand in one column"):
        load(tmp_path, table(100, day=lambda row: "2026-01-01" if row else 5), split_by="time", time="day")
    with pytest.raises(DataError, match=r"column 'day': 1 of 100 cells hold no time: row 3"):
        load(tmp_path, table(100, day=lambda row: float("nan") if row == 2 else row), split_by="time", time="day")


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=7))
def test_of_a_text_with_several_labels_the_most_frequent_stays(tmp_path: Path, labels: list[str]) -> None:
    rows = [{"text": "disputed", "label": label, "split": "train"} for label in labels]
    rows += [{"text": f"{split} {row}", "label": "abc"[row % 3], "split": split} for split in ("train", "dev", "test") for row in range(6)]
    kept = [row for row in load(tmp_path, rows, split="split").by_split["train"] if row.text == "disputed"]
    most = max(map(labels.count, labels))
    assert [row.label for row in kept] == [next(label for label in labels if labels.count(label) == most)] or len(set(labels)) == 1


def test_disputed_labels_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [{"text": f"{split} {row}", "label": "ab"[row % 2], "split": split} for split in ("train", "dev", "test") for row in range(8)]
    rows += [{"text": "train 0", "label": "b", "split": "train"}] * 2
    load(tmp_path, rows, split="split")
    assert "tasks.t: train: 1 texts stand with different labels" in caplog.text
