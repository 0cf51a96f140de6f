"""What is message of a table before anything runs is what ingest would refuse, and no more."""

from __future__ import annotations

from pathlib import Path

import pytest

from acclimate.config import load_config
from acclimate.data.options import TaskConfig
from acclimate.data.preview import data_problems
from acclimate.data.quarantine import Quarantine
from acclimate.data.tables import load_table
from acclimate.errors import DataError

ROOT = Path(__file__).parents[3]
SPLITS = ["train"] * 4 + ["Validation", "test"]


def problems(data: Path, task: TaskConfig) -> list[str]:
    config = load_config(ROOT / "params.yaml").model_copy(update={"tasks": {"mine": task}})
    return [problem for problem in data_problems(config.ingest, config.tasks, data) if problem.startswith("tasks.mine")]


def refusal(data: Path, task: TaskConfig) -> str:
    """What ingest says of the table; nothing where it takes it."""
    try:
        load_table("mine", task, data, Quarantine(), seed=0)
    except DataError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("row", "named"),
    [("late,a,dev", None), ("late,a,Trian", "unknown split 'trian'"), ("late,a,", "a row has no split"), ("late,,trian", None)],
    ids=["known", "unknown", "empty", "of a row without a label"],
)
def test_a_split_is_told_as_unknown_where_ingest_refuses_it(tmp_path: Path, row: str, named: str | None) -> None:
    rows = [f"text {number},{'ab'[number % 2]},{split}" for number, split in enumerate(SPLITS * 3)]
    (tmp_path / "mine.csv").write_text("\n".join(["text,label,part", *rows, row]), encoding="utf-8")
    task = TaskConfig(kind="classification", data="mine.csv", split="part")
    message = f"tasks.mine: {tmp_path / 'mine.csv'}: column 'part': {named}; allowed: train, dev (or validation), test"
    assert problems(tmp_path, task) == ([message] if named else [])
    assert refusal(tmp_path, task) == message.replace(f" {tmp_path / 'mine.csv'}:", "") * bool(named)


def test_a_split_column_has_no_say_where_each_split_has_a_file(tmp_path: Path) -> None:
    for name in ("train", "dev", "test"):
        lines = [f"{name} {number},{'ab'[number % 2]},mine" for number in range(9)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["text,label,part", *lines]), encoding="utf-8")
    files = {name: f"{name}.csv" for name in ("train", "dev", "test")}
    task = TaskConfig.model_validate({"kind": "classification", "data": files, "split": "part"})
    assert problems(tmp_path, task) == []
    assert refusal(tmp_path, task) == ""


@pytest.mark.parametrize(
    ("name", "content", "more", "message"),
    [
        (
            "mine.csv",
            'text,label\n"begins,a\nlost,b\nends",b\n',
            {},
            "line 2: a quoted field runs to line 4, and each of these lines could be",
        ),
        ("mine.csv", "text;label\na;b;c\n", {}, 'its first line looks parted otherwise: give `separator: ";"`'),
        ("mine.csv", "text,label\none,a,b\n", {}, "1 rows do not have the header's 2 fields: line 2: 3 fields"),
        ("mine.csv", "text,label,day\none,a,yesterday\n", {"split_by": "time", "time": "day"}, "'yesterday' is no time"),
        ("mine.json", '[["one", "a"]]', {}, "name the columns by `header: [...]`"),
        ("mine.zip", "no archive", {}, "not a whole archive"),
    ],
)
def test_check_reads_the_head_as_ingest_reads_the_file(tmp_path: Path, name: str, content: str, more: dict[str, str], message: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    task = TaskConfig.model_validate({"kind": "classification", "data": name, **more})
    (problem,) = problems(tmp_path, task)
    assert message in problem
    assert problem == refusal(tmp_path, task)


def test_check_reads_no_more_than_the_head(tmp_path: Path) -> None:
    lines = [f"text {number},{'ab'[number % 2]}" for number in range(400)]
    (tmp_path / "mine.csv").write_text("\n".join(["text,label", *lines, "one,a,b"]), encoding="utf-8")
    task = TaskConfig(kind="classification", data="mine.csv")
    assert problems(tmp_path, task) == []
    assert "line 402: 3 fields" in refusal(tmp_path, task)
