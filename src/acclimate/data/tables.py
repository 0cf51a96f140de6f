"""A task's labelled table: read, cleaned, split without leakage, sampled, written."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acclimate import artifacts
from acclimate.config import SplitFiles, TaskConfig
from acclimate.data.cleaning import clean_column, duplicate_key, key_digest
from acclimate.data.quarantine import Quarantine
from acclimate.data.readers import cell, read_rows, resolve, row_prefixes
from acclimate.data.schema import DEFAULT_METRIC, check_tags, collect_labels, label_names, parse_labels, parse_words
from acclimate.data.splits import SPLIT_NAMES, Split, sample_rows, split_of
from acclimate.errors import DataError

SPLITS: tuple[Split, ...] = ("train", "dev", "test")
_SHOWN = 3


@dataclass
class Row:
    """One labelled row on its way."""

    id: str
    source: str
    number: int
    text: str
    text_pair: str | None
    words: list[str] | None
    label: Any
    group: str
    given_split: str | None

    @property
    def key(self) -> str:
        """What a duplicate of this row shares."""
        return duplicate_key(f"{self.text}\t{self.text_pair or ''}")


def build_table(name: str, config: TaskConfig, data: Path, out: Path, quarantine: Quarantine, *, seed: int) -> set[str]:
    """Write train, dev and test of a task with its schema.

    Returns:
        Duplicate keys of every dev and test text, which the corpus must not hold.
    Raises:
        DataError: see `readers` and `schema`; or a split is empty.
    """
    where = f"tasks.{name}"
    table = f"tables/{name}"
    rows = _read(config, data, where)
    quarantine.read[table] += len(rows)
    by_split = _split(rows, config, where, seed)
    _drop_empty(by_split, table, quarantine)
    _drop_duplicates(by_split, table, quarantine)
    for split in SPLITS:
        if not by_split[split]:
            raise DataError(f"{where}: the {split} split is empty; give more rows, a split column, or other dev_share and test_share")
    held_out = {duplicate_key(text) for split in ("dev", "test") for row in by_split[split] for text in (row.text, row.text_pair) if text}
    collect_labels({split: [row.label for row in by_split[split]] for split in by_split}, config, where=where)
    limits = {"train": config.max_train_rows, "dev": config.max_dev_rows, "test": config.max_test_rows}
    for split in SPLITS:
        by_split[split] = _sample(by_split[split], config.kind, limits[split], table, quarantine, seed)
        quarantine.kept[table] += len(by_split[split])
    if config.max_train_rows:
        where += f" with max_train_rows = {config.max_train_rows}"
    labels = collect_labels({split: [row.label for row in by_split[split]] for split in by_split}, config, where=where)
    _write(name, config, by_split, labels, out)
    return held_out


def _read(config: TaskConfig, data: Path, where: str) -> list[Row]:
    files: dict[str | None, str] = (
        {None: config.data} if isinstance(config.data, str) else {split: path for split, path in config.data.model_dump().items() if path}
    )
    found = [(split, path) for split, pattern in files.items() for path in resolve(data, pattern, where=f"{where}.data")]
    prefixes = row_prefixes([path for _, path in found], data)
    rows: list[Row] = []
    for (split, path), prefix in zip(found, prefixes, strict=True):
        rows += _read_file(path, prefix, config, split, where)
    twice = [row_id for row_id, count in Counter(row.id for row in rows).items() if count > 1]
    if twice:
        raise DataError(
            f"{where}: column {config.id!r}: {len(twice)} ids stand in more than one row, such as {', '.join(map(repr, twice[:_SHOWN]))}; "
            "leave `id` out to number the rows"
        )
    return rows


def _read_file(path: Path, prefix: str, config: TaskConfig, split: str | None, where: str) -> list[Row]:
    columns = [c for c in dict.fromkeys([config.text, config.text_pair, config.label, config.id, config.group, config.split]) if c]
    table = read_rows(path, columns, where=where)
    place = f"{where}: {path}"
    labels = parse_labels(table[config.label], config, where=place)
    words: list[list[str]] | None = None
    if config.kind == "tagging":
        words = parse_words(table[config.text], config, where=place)
        check_tags(words, labels, where=place)
        texts = [" ".join(row_words).strip() for row_words in words]
    else:
        texts = clean_column(table[config.text], where=f"{place}: column {config.text!r}")
    pairs = clean_column(table[config.text_pair], where=f"{place}: column {config.text_pair!r}") if config.text_pair else None
    return [
        Row(
            id=cell(table, config.id, index) or f"{prefix}:{index + 1}",
            source=path.name,
            number=index + 1,
            text=text,
            text_pair=pairs[index] if pairs else None,
            words=words[index] if words else None,
            label=labels[index],
            group=cell(table, config.group, index) or key_digest(text),
            given_split=split or (cell(table, config.split, index).lower() if config.split else None),
        )
        for index, text in enumerate(texts)
    ]


def _split(rows: list[Row], config: TaskConfig, where: str, seed: int) -> dict[Split, list[Row]]:
    by_split: dict[Split, list[Row]] = {split: [] for split in SPLITS}
    take_dev = isinstance(config.data, SplitFiles) and config.data.dev is None
    dev_share, test_share = config.dev_share, config.test_share
    unknown: set[str] = set()
    for row in rows:
        if row.given_split is None:
            by_split[split_of(row.group, dev_share=dev_share, test_share=test_share, seed=seed)].append(row)
        elif row.given_split not in SPLIT_NAMES:
            unknown.add(row.given_split)
        elif take_dev and row.given_split == "train":
            by_split[split_of(row.group, dev_share=dev_share, test_share=0.0, seed=seed)].append(row)
        else:
            by_split[SPLIT_NAMES[row.given_split]].append(row)
    if unknown:
        raise DataError(
            f"{where}: column {config.split!r}: unknown split {sorted(unknown)[0]!r}; allowed: train, dev (or validation), test"
        )
    if config.group:
        _refuse_parted_groups(by_split, config.group, where)
    return by_split


def _refuse_parted_groups(by_split: dict[Split, list[Row]], column: str, where: str) -> None:
    seen: dict[str, Split] = {}
    for split, rows in by_split.items():
        for row in rows:
            if seen.setdefault(row.group, split) != split:
                raise DataError(
                    f"{where}: group {row.group!r} (column {column!r}) stands in {seen[row.group]} and in {split}; it belongs to one"
                )


def _drop_empty(by_split: dict[Split, list[Row]], table: str, quarantine: Quarantine) -> None:
    for split, rows in by_split.items():
        for row in rows:
            if not row.text or row.text_pair == "":
                quarantine.add(table, row.source, row.number, row.id, "empty_text", "")
        by_split[split] = [row for row in rows if row.text and row.text_pair != ""]


def _drop_duplicates(by_split: dict[Split, list[Row]], table: str, quarantine: Quarantine) -> None:
    """Test keeps its rows, dev loses what is in test, train what is in either; inside a split the first row stays."""
    seen: dict[str, tuple[str, Row]] = {}
    for split in ("test", "dev", "train"):
        kept = []
        for row in by_split[split]:
            first_split, first = seen.setdefault(row.key, (split, row))
            if first is row:
                kept.append(row)
            else:
                rule = f"also_in_{first_split}" if first_split != split else "duplicate" if first.label == row.label else "label_conflict"
                quarantine.add(table, row.source, row.number, row.id, rule, row.text)
        by_split[split] = kept


def _sample(rows: list[Row], kind: str, limit: int | None, table: str, quarantine: Quarantine, seed: int) -> list[Row]:
    """At most `limit` rows in an order that their place in the file has no say in."""
    labels = [label_names(row.label, kind) for row in rows]
    chosen = sample_rows([row.id for row in rows], labels, limit or len(rows), seed=seed)
    quarantine.not_sampled[table] += len(rows) - len(chosen)
    return [rows[index] for index in chosen]


def _write(name: str, config: TaskConfig, by_split: dict[Split, list[Row]], labels: list[str] | None, out: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    out.mkdir(parents=True, exist_ok=True)
    label_type = {"classification": pa.string(), "regression": pa.float64()}.get(config.kind, pa.list_(pa.string()))
    for split, rows in by_split.items():
        columns: dict[str, Any] = {"id": [row.id for row in rows]}
        if config.kind == "tagging":
            columns["words"] = pa.array([row.words for row in rows], pa.list_(pa.string()))
        else:
            columns["text"] = [row.text for row in rows]
            if config.text_pair:
                columns["text_pair"] = [row.text_pair for row in rows]
        columns["label"] = pa.array([row.label for row in rows], label_type)
        columns["group"] = [row.group for row in rows]
        pq.write_table(pa.table(columns), out / f"{split}.parquet")
    metric = config.metric or DEFAULT_METRIC[config.kind]
    artifacts.write_json(
        out / "schema.json", {"name": name, "kind": config.kind, "labels": labels, "pair": config.text_pair is not None, "metric": metric}
    )
