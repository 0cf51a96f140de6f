"""Every layout: `check` says of a file what ingest says of it, and every record is counted."""

from __future__ import annotations

import importlib
import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from acclimate import plugins
from acclimate.code import Code
from acclimate.config import load_config
from acclimate.data.options import TaskConfig
from acclimate.data.preview import data_problems
from acclimate.data.quarantine import Quarantine
from acclimate.data.reading.layouts import FAMILY, Layout
from acclimate.data.tables import load_table
from acclimate.errors import DataError

ROOT = Path(__file__).parents[2]
LAYOUTS = plugins.names(FAMILY)


def made(layout: str, directory: Path, *, is_faulty: bool) -> TaskConfig:
    example = importlib.import_module(f"tests.contract.layout_examples.{layout}")
    return TaskConfig.model_validate({"layout": layout, **example.write(directory, is_faulty=is_faulty)})


def checked(task: TaskConfig, directory: Path) -> list[str]:
    config = load_config(ROOT / "params.yaml").model_copy(update={"tasks": {"mine": task}})
    return [problem for problem in data_problems(config.ingest, config.tasks, directory) if problem.startswith("tasks.mine")]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_check_passes_ingest_reads_and_every_record_is_counted(layout: str, tmp_path: Path) -> None:
    task = made(layout, tmp_path, is_faulty=False)
    assert checked(task, tmp_path) == []
    quarantine = Quarantine()
    loaded = load_table("mine", task, tmp_path, quarantine, seed=0)
    assert quarantine.read["tables/mine"] == 60
    assert sum(map(len, loaded.by_split.values())) + quarantine.count("tables/mine").total() == 60


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_ingest_refuses_check_refuses_in_the_same_words(layout: str, tmp_path: Path) -> None:
    task = made(layout, tmp_path, is_faulty=True)
    with pytest.raises(DataError) as refused:
        load_table("mine", task, tmp_path, Quarantine(), seed=0)
    assert checked(task, tmp_path) == [str(refused.value)]
    assert any(place in str(refused.value) for place in ("row ", "line ", "record "))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_file_of_another_ending_and_one_that_is_missing_are_refused(layout: str, tmp_path: Path) -> None:
    task = TaskConfig.model_validate({"kind": "tagging", "data": "mine.xyz", "layout": layout})
    assert len(checked(task, tmp_path)) == 1
    (tmp_path / "mine.xyz").write_text("a", encoding="utf-8")
    (problem,) = checked(task, tmp_path)
    assert str(tmp_path / "mine.xyz") in problem


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_says_what_it_is(layout: str) -> None:
    component = plugins.load(FAMILY, layout)
    assert issubclass(component, Layout)
    assert component.__doc__


def test_a_change_of_a_layout_is_told_to_the_tasks_that_read_by_it_alone(tmp_path: Path) -> None:
    tasks = [TaskConfig(kind="tagging", data="mine.conll", layout=layout) for layout in ("conll", "doccano", None)]  # type: ignore[arg-type]
    digests = []
    for change in ("", "# changed"):
        library = tmp_path / f"copy{change}" / "acclimate"
        shutil.copytree(ROOT / "src/acclimate", library, ignore=shutil.ignore_patterns("__pycache__"))
        layout = library / "data/reading/layouts/conll.py"
        layout.write_text(layout.read_text(encoding="utf-8") + change, encoding="utf-8")
        digests.append([Code(library, ROOT / "stages").of_task(task) for task in tasks])
    assert [before == after for before, after in zip(*digests, strict=True)] == [False, True, True]


ODD: list[Any] = [None, "", [], {}, True, 0, -1, 1.5, 10**30, "x", [[]], [None], {"a": None}, [1, 2, "X"], [[1, 2, "X"]]]
BYTES = [b"\n", b"\n\n", b"\t", b" ", b"#", b"-DOCSTART- -X- O\n", b"# a = b\n", b",", b'"', b"\xff", b"\x00", b"B-"]


def changed_value(value: Any, draw: random.Random) -> Any:
    """A JSON value of which one part is another, or is missing."""
    if not isinstance(value, dict | list) or not value or draw.random() < 0.15:
        return draw.choice(ODD)
    key = draw.choice(list(value) if isinstance(value, dict) else range(len(value)))
    changed: Any = value.copy()
    changed[key] = changed_value(value[key], draw)
    if isinstance(value, dict) and draw.random() < 0.2:
        del changed[key]
    return changed


def changed_file(content: bytes, ending: str, draw: random.Random) -> bytes:
    if ending == ".json" and draw.random() < 0.7:
        return json.dumps(changed_value(json.loads(content), draw)).encode()
    if ending == ".jsonl" and draw.random() < 0.7:
        first, _, rest = content.partition(b"\n")
        return json.dumps(changed_value(json.loads(first), draw)).encode() + b"\n" + rest
    start = draw.randrange(len(content))
    return content[:start] + draw.choice(BYTES) + content[start + draw.choice([0, 0, 1, 20]) :]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_changed_file_is_read_or_refused_in_one_line(layout: str, tmp_path: Path) -> None:
    task = made(layout, tmp_path, is_faulty=False)
    path = next(each for each in sorted(tmp_path.rglob("*")) if each.is_file())
    content, ends = path.read_bytes(), set[str]()
    for seed in range(120):
        path.write_bytes(changed_file(content, path.suffix, random.Random(seed)))
        try:
            load_table("mine", task, tmp_path, Quarantine(), seed=0)
            ends.add("read")
        except DataError as error:
            ends.add(f"refused in {len(str(error).splitlines())} line")
    assert ends <= {"read", "refused in 1 line"}
    assert len(ends) == 2
