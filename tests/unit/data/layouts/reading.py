"""Read a file through a layout as `check` and as `ingest` do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from acclimate import kinds
from acclimate.data.options import TaskConfig
from acclimate.data.reading.readers import join_batches
from acclimate.data.tables import task_batches, task_files


def task(layout: Any, data: str = "mine.jsonl", kind: str = "tagging", **options: Any) -> TaskConfig:
    return TaskConfig.model_validate({"kind": kind, "data": data, "layout": layout, **options})


def read(directory: Path, config: TaskConfig) -> tuple[list[int], kinds.Examples]:
    """Numbers and examples of the only file of a task."""
    ((_, path),) = task_files(config, directory, "tasks.mine")
    kind = kinds.configured_table(config.kind, config.own)
    batch = join_batches(task_batches(path, config, "tasks.mine"), [*kind.columns(), *([config.id] if config.id else [])])
    return batch.numbers, kind.read(batch.columns, where="tasks.mine")


def cells(directory: Path, config: TaskConfig, *columns: str) -> list[tuple[Any, ...]]:
    """The given columns of the only file of a task, as the layout gives them."""
    ((_, path),) = task_files(config, directory, "tasks.mine")
    wanted = config.model_copy(update=dict(zip(("id", "group", "split"), columns, strict=False)))
    found = [batch.columns for batch in task_batches(path, wanted, "tasks.mine")]
    return [row for batch in found for row in zip(*(batch[column] for column in columns), strict=True)]


def write_lines(path: Path, records: list[Any]) -> None:
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")


def spans(examples: kinds.Examples) -> list[list[tuple[str, str]]]:
    """Type and words of each span of each row."""
    found: list[list[tuple[str, str]]] = []
    for row, tags in zip(examples.inputs, examples.labels, strict=True):
        some: list[tuple[str, str]] = []
        for word, tag in zip(row["words"], tags or (), strict=False):
            if tag.startswith("B-"):
                some.append((tag[2:], word))
            elif tag.startswith("I-"):
                some[-1] = (some[-1][0], f"{some[-1][1]} {word}")
        found.append(some)
    return found
