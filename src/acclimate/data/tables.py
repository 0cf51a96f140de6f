"""A task's labelled table: read, cleaned, split without leakage, sampled, written."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from acclimate import artifacts, kinds
from acclimate.data.leakage.comparison import key_digest
from acclimate.data.leakage.splits import Split, sample_rows
from acclimate.data.leakage.times import TimeKind, order_of_times, parse_times
from acclimate.data.options import TaskConfig
from acclimate.data.parting import part_rows
from acclimate.data.quarantine import Quarantine
from acclimate.data.reading.formats import MAX_BATCH_ROWS, Batch, Reading
from acclimate.data.reading.layouts import read_layout
from acclimate.data.reading.readers import iter_batches, join_batches, resolve, row_prefixes
from acclimate.data.rows import SPLITS, LoadedTable, Row
from acclimate.data.schema import DROPPED, read_names
from acclimate.data.screening.options import CleaningConfig, PersonalDataConfig
from acclimate.data.screening.texts import TextCounts, carried, holds_placeholder, prepare
from acclimate.errors import DataError
from acclimate.redaction import redact

REST = "rest"
"""The file of the training rows that `max_train_rows` left out: a pool to draw from, beside train, where no row is wanted twice."""
_SHOWN = 3
logger = logging.getLogger(__name__)


def build_table(name: str, config: TaskConfig, data: Path, out: Path, quarantine: Quarantine, *, seed: int) -> LoadedTable:
    """Read and write one table by itself; see `load_table` and `finish_table`."""
    loaded = load_table(name, config, data, quarantine, seed=seed)
    finish_table(loaded, out, quarantine, seed=seed)
    return loaded


def load_table(
    name: str,
    config: TaskConfig,
    data: Path,
    quarantine: Quarantine,
    *,
    seed: int,
    cleaning: CleaningConfig | None = None,
    personal_data: PersonalDataConfig | None = None,
) -> LoadedTable:
    """Read, clean and part the rows of a task, without empty ones and exact duplicates.

    Raises:
        DataError: see `readers` and `schema`; or a split is empty.
    """
    where = f"tasks.{name}"
    rows = _read(config, data, where)
    loaded = LoadedTable(name, config, {})
    _clean(rows, loaded, cleaning or CleaningConfig(), personal_data or PersonalDataConfig(mode="off"))
    quarantine.read[loaded.table] += len(rows)
    for row in rows:
        if row.label is None or row.label is DROPPED:
            rule = "empty_label" if row.label is None else "label_map"
            quarantine.add(loaded.table, row.source, row.number, row.id, rule, row.text)
    rows = [row for row in rows if row.label is not None and row.label is not DROPPED]
    part_rows(rows, loaded, quarantine, where=where, seed=seed)
    _require_rows(loaded, where)
    _kind(config).collect_labels({split: [row.label for row in rows] for split, rows in loaded.by_split.items()}, where=where)
    return loaded


def drop_rows(loaded: LoadedTable, split: Split, reasons: Mapping[int, tuple[str, str]], quarantine: Quarantine) -> None:
    """Take rows out of a split before sampling.

    Args:
        reasons: row number in the split -> the rule and what it found.
    """
    for number, (rule, detail) in sorted(reasons.items()):
        row = loaded.by_split[split][number]
        quarantine.add(loaded.table, row.source, row.number, row.id, rule, row.text, detail)
    loaded.by_split[split] = [row for number, row in enumerate(loaded.by_split[split]) if number not in reasons]


def finish_table(loaded: LoadedTable, out: Path, quarantine: Quarantine, *, seed: int) -> None:
    """Sample each split and write train, dev and test with the schema, and as `rest` the training rows that sampling left out.

    A row of the rest with a label that train lacks, which is therefore not in the schema's list, is left out there too, and counted.

    Raises:
        DataError: a split or a label list that cannot be trained or evaluated on.
    """
    config, where = loaded.config, f"tasks.{loaded.name}"
    _require_rows(loaded, where)
    limits = {"train": config.max_train_rows, "dev": config.max_dev_rows, "test": config.max_test_rows}
    by_split: dict[Split, list[Row]] = {}
    for split in SPLITS:
        by_split[split] = _sample(loaded.by_split[split], config, limits[split], seed)
        quarantine.not_sampled[loaded.table] += len(loaded.by_split[split]) - len(by_split[split])
        quarantine.kept[loaded.table] += len(by_split[split])
    if config.max_train_rows:
        where += f" with max_train_rows = {config.max_train_rows}"
    labels = _kind(config).collect_labels({split: [row.label for row in rows] for split, rows in by_split.items()}, where=where)
    rest = _rest(loaded, by_split["train"], quarantine, seed, any_label=labels is None)
    files: dict[str, list[Row]] = {**{str(split): rows for split, rows in by_split.items()}, REST: rest}
    _write(loaded, files, labels, out)


def _require_rows(loaded: LoadedTable, where: str) -> None:
    for split in SPLITS:
        if not loaded.by_split[split]:
            raise DataError(f"{where}: the {split} split is empty; give more rows, a split column, or other dev_share and test_share")


def _clean(rows: list[Row], loaded: LoadedTable, cleaning: CleaningConfig, personal_data: PersonalDataConfig) -> None:
    """Clean and screen, in place, raw texts; rows without a group are one with those of equal text."""
    table, counts = _kind(loaded.config), TextCounts(loaded.changed, loaded.personal)
    loaded.texts = carried(cleaning, personal_data)
    raw = ["\t".join(sorted(row.texts)) for row in rows]
    for name, how in table.rewritten.items():
        some = [row for row in rows if row.inputs.get(name)]
        for row, found in zip(some, prepare([row.inputs[name] for row in some], how, cleaning, personal_data, counts), strict=True):
            row.inputs[name] = found
            row.label = row.label if row.label is DROPPED else table.relabelled(row.inputs, row.label)
    for row, text in zip(rows, raw, strict=True):
        row.texts = table.texts(row.inputs)
        row.group = row.group or key_digest(row.texts[0])
        row.replaced = key_digest(text) if loaded.texts["redact"] and holds_placeholder("\t".join(row.texts)) else ""


def _read(config: TaskConfig, data: Path, where: str) -> list[Row]:
    found = task_files(config, data, where)
    prefixes = row_prefixes([path for _, path in found], data)
    rows: list[Row] = []
    given: list[Any] = []
    times: set[TimeKind] = set()
    for (split, path), prefix in zip(found, prefixes, strict=True):
        some, labels, kinds_of_time = read_file(path, prefix, config, split, where)
        rows += some
        given += labels
        times |= kinds_of_time
    if note := order_of_times(times, where=f"{where}: column {config.time!r}"):
        logger.info("%s: column %r: %s", where, config.time, note)
    for note in _kind(config).notes(given):
        logger.warning("%s.%s", where, note)
    twice = [row_id for row_id, count in Counter(row.id for row in rows).items() if count > 1]
    if twice:
        raise DataError(
            f"{where}: column {config.id!r}: {len(twice)} ids stand in more than one row, such as {', '.join(map(repr, twice[:_SHOWN]))}; "
            "leave `id` out to number the rows"
        )
    return rows


def task_files(config: TaskConfig, data: Path, where: str) -> list[tuple[str | None, Path]]:
    """Each file with the split that it holds; None: the file says itself, or nobody.

    Raises:
        DataError: see `readers.resolve` and `Layout.files`.
    """
    names = {None: config.data} if isinstance(config.data, str) else config.data.model_dump()
    find = config.layout.component.files if config.layout else resolve
    return [(split, path) for split, name in names.items() if name for path in find(data, name, where=f"{where}.data")]


def task_batches(path: Path, config: TaskConfig, where: str, *, head_rows: int | None = None) -> Iterator[Batch]:
    """The columns that a task reads of one file, through its layout; of about the first `head_rows` rows, or of all.

    Raises:
        DataError: on the way; see `readers.iter_batches` and `read_layout`.
    """
    columns, max_rows = _wanted_columns(config), head_rows or MAX_BATCH_ROWS
    if config.layout is None:
        return iter_batches(path, columns, where=where, options=config, max_rows=max_rows, head_rows=head_rows)
    batches = read_layout(config.layout.component, Reading(path, columns, where, config, max_rows=max_rows))
    return islice(batches, 1) if head_rows else batches


def _kind(config: TaskConfig) -> kinds.Table:
    return kinds.configured_table(config.kind, config.own)


def _wanted_columns(config: TaskConfig) -> list[str]:
    """The columns that a task reads, each once."""
    names = [*_kind(config).columns(), config.id, config.group, config.split, config.time]
    return [column for column in dict.fromkeys(names) if column]


def read_file(
    path: Path, prefix: str, config: TaskConfig, split: str | None, where: str, *, head_rows: int | None = None
) -> tuple[list[Row], list[Any], set[TimeKind]]:
    """Rows, their labels as the file spells them, and the kinds of their times; all, or about the first `head_rows`."""
    found = join_batches(task_batches(path, config, where, head_rows=head_rows), _wanted_columns(config))
    table = found.columns
    place = f"{where}: {path}"
    kind = _kind(config)
    examples = kind.read({column: table[column] for column in kind.columns()}, where=place)
    texts = [kind.texts(row) for row in examples.inputs]
    ids, groups, splits = (read_names(table, column, found.numbers, where=place) for column in (config.id, config.group, config.split))
    times, kinds_of_time = (
        parse_times(table[config.time], found.numbers, where=f"{place}: column {config.time!r}") if config.time else (None, set[TimeKind]())
    )
    rows = [
        Row(
            id=ids[index] or f"{prefix}:{index + 1}",
            source=redact(path.name),
            number=found.numbers[index],
            inputs=examples.inputs[index],
            texts=texts[index],
            label=examples.labels[index],
            group=groups[index],
            has_group=bool(groups[index]),
            given_split=split or (splits[index].casefold() if config.split else None),
            time=times[index] if times else None,
        )
        for index in range(len(texts))
    ]
    return rows, examples.spelled, kinds_of_time


def _rest(loaded: LoadedTable, train: list[Row], quarantine: Quarantine, seed: int, *, any_label: bool) -> list[Row]:
    """The training rows that were not sampled, in the order of their hash, unless one has a label that train lacks and lists matter."""
    sampled, label_names = {row.id for row in train}, kinds.table(loaded.config.kind).label_names
    known = {name for row in train for name in label_names(row.label)}
    rest = _sample([row for row in loaded.by_split["train"] if row.id not in sampled], loaded.config, None, seed)
    learnt = [row for row in rest if any_label or known.issuperset(label_names(row.label))]
    quarantine.rest[loaded.table] = (len(learnt), len(rest) - len(learnt))
    return learnt


def _sample(rows: list[Row], config: TaskConfig, limit: int | None, seed: int) -> list[Row]:
    """At most `limit` rows in an order that their place in the file has no say in."""
    kind = kinds.table(config.kind)
    labels = [kind.label_names(row.label) for row in rows]
    chosen = sample_rows([row.id for row in rows], labels, limit or len(rows), seed=seed)
    return [rows[index] for index in chosen]


def _write(loaded: LoadedTable, files: Mapping[str, list[Row]], labels: list[str] | None, out: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    out.mkdir(parents=True, exist_ok=True)
    config, kind = loaded.config, _kind(loaded.config)
    types = kind.arrow_types()
    for file, rows in files.items():
        values = {name: [row.label if name == "label" else row.inputs[name] for row in rows] for name in types}
        columns: dict[str, Any] = {"id": pa.array([row.id for row in rows], pa.string())}
        columns |= {name: pa.array(values[name], arrow_type) for name, arrow_type in types.items()}
        columns["group"] = pa.array([row.group for row in rows], pa.string())
        pq.write_table(pa.table(columns), out / f"{file}.parquet")
    schema = {
        "name": loaded.name,
        "kind": config.kind,
        "labels": labels,
        "pair": kind.pair,
        "metric": config.deciding_metric,
        "max_length": config.max_length,
        "options": kind.carried,
        "texts": loaded.texts,
    }
    artifacts.write_json(out / "schema.json", schema)
