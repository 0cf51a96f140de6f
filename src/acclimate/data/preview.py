"""What is wrong with the files that params.yaml names, found before anything runs: reads the head of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from acclimate import kinds, plugins
from acclimate.data.leakage.near_duplicates import TEXTS
from acclimate.data.leakage.splits import require_split_names
from acclimate.data.lengths import log_many_words
from acclimate.data.options import SOURCES, CorpusSource, IngestConfig, TaskConfig
from acclimate.data.tables import read_file, task_files
from acclimate.errors import DataError

_HEAD_ROWS = 200


def data_problems(ingest: IngestConfig, tasks: Mapping[str, TaskConfig], data: Path) -> list[str]:
    """One line for each file that is missing, cannot be read, lacks a column, or whose first rows do not fit their task.

    Sources that are not files are only listed, not read.
    """
    checks: list[Callable[[], None]] = [partial(_check_task, name, task, data) for name, task in tasks.items()]
    for table in TEXTS:
        checks += [partial(_check_source, f"ingest.{table}.{index}", source, data) for index, source in enumerate(getattr(ingest, table))]
    return list(_messages(checks))


def _messages(checks: list[Callable[[], None]]) -> Iterator[str]:
    for check in checks:
        try:
            check()
        except DataError as error:
            yield str(error)


def _check_task(name: str, task: TaskConfig, data: Path) -> None:
    where = f"tasks.{name}"
    kind = kinds.configured_table(task.kind, task.own)
    for split, path in task_files(task, data, where):
        rows, *_ = read_file(path, path.stem, task, split, where, head_rows=_HEAD_ROWS)
        log_many_words(kind, (row.texts for row in rows), task.max_length, where=f"{where}: the head of {path}")
        if task.split and split is None:  # rows without a label leave whatever their split is
            names = (row.given_split or "" for row in rows if row.label is not None)
            require_split_names(names, where=f"{where}: {path}: column {task.split!r}")


def _check_source(where: str, source: CorpusSource, data: Path) -> None:
    module, options = plugins.load(SOURCES, source.kind), source.options(where=where)
    if source.kind not in ("files", "documents"):
        return
    for part in module.parts(options, data, where=where)[:20]:
        next(iter(module.read_part(options, part, data, where=where)), None)
