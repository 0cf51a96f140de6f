"""Read, clean, screen, drop duplicates and split; what is dropped is kept with its reason."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from acclimate import artifacts, kinds
from acclimate.data.corpus import DocumentWriter, Joining, Prepared, TextRules, join_parts, part_jobs, prepare_part
from acclimate.data.engines import run_parts
from acclimate.data.leakage.contamination import Contamination, EvaluationIndex, decide, verdict
from acclimate.data.leakage.hashing import KeySet, hash_texts
from acclimate.data.leakage.near_duplicates import TEXTS, Dropped, find_clusters, fingerprints, rows_to_drop, write_shard
from acclimate.data.lengths import log_many_words
from acclimate.data.options import IngestConfig, TaskConfig
from acclimate.data.quarantine import Quarantine
from acclimate.data.reading.readers import find_files
from acclimate.data.reading.sources import files
from acclimate.data.rows import SPLITS, LoadedTable
from acclimate.data.screening.texts import TextCounts
from acclimate.data.tables import drop_rows, finish_table, load_table
from acclimate.errors import DataError, one_line
from acclimate.settings import Options
from stages.command import Out, StageContext, main

_DECONTAMINATED = ("corpus", "other")
_FINGERPRINT_ROWS = 20_000
logger = logging.getLogger("stages.ingest")


class Params(Options):
    """What this stage reads."""

    seed: int
    ingest: IngestConfig
    tasks: dict[str, TaskConfig]


def run(params: Params, *, data: Path, out: Out, context: StageContext) -> None:
    """Write the corpus, its held-out part, general and other text, every table, the quarantine, clusters of duplicates and the counts.

    Raises:
        DataError: a source that cannot be read, or more rows at fault than `ingest.max_quarantine_share` allows.
    """
    config, scratch = params.ingest, context.checkpoint_directory
    with Quarantine(out / "quarantine.parquet") as quarantine:
        tables = [
            load_table(name, task, data, quarantine, seed=params.seed, cleaning=config.cleaning, personal_data=config.personal_data)
            for name, task in params.tasks.items()
        ]
        for table in tables:
            texts = (row.texts for rows in table.by_split.values() for row in rows)
            kind = kinds.configured_table(table.config.kind, table.config.own)
            log_many_words(kind, texts, table.config.max_length, where=f"tasks.{table.name}")
        index = _evaluation_index(tables, config)
        parts = _prepare(config, data, scratch, index)
        clusters = _near_duplicates(tables, parts, config, scratch)
        contamination = _contamination(parts["corpus"], config)
        for name, found in (("corpus", contamination), ("other", _contamination(parts["other"], config))):
            for match in found.worst:
                clusters.setdefault(name, {})[match.document] = ("contaminated", f"{match.overlap:.0%} of {match.place} {match.id}")
        for table in tables:
            for split in SPLITS:
                drop_rows(table, split, clusters.get(f"{table.table}:{split}", {}), quarantine)
            finish_table(table, out / "tables" / table.name, quarantine, seed=params.seed)
        counts = _join(params, data, parts, tables, clusters, quarantine, out)
        for name in TEXTS:
            if line := quarantine.account(name):
                logger.info("%s", line)
        quarantine.check(config.max_quarantine_share)
        metrics = quarantine.metrics()
    _move(scratch / "clusters.parquet", out / "duplicates.parquet")
    report = {
        "tables": metrics,
        "changed": {name: dict(sorted(found.changed.items())) for name, found in counts.items()},
        "personal_data": {"mode": config.personal_data.mode, "found": {n: dict(sorted(f.personal.items())) for n, f in counts.items()}},
        "decontamination": verdict(index, contamination, documents=sum(part.rows for part in parts["corpus"])),
        "language": config.language.model_dump(),
        "reference": _read_reference(config, data),
    }
    artifacts.write_json(out / "metrics.json", metrics)
    artifacts.write_json(out / "text.json", report)
    context.final_metrics.update(
        {f"{table}/{name}": float(count) for table, found in metrics.items() for name, count in found.items() if isinstance(count, int)}
    )
    context.artifacts += [out / "metrics.json", out / "text.json"]


def _read_reference(config: IngestConfig, data: Path) -> dict[str, Any]:
    """Statistics of the data's last version, with which validate compares."""
    if config.reference is None:
        return {}
    (path,) = find_files(data, config.reference, where="ingest.reference")
    found: dict[str, Any] = artifacts.read_json(path)
    return found


def _evaluation_index(tables: list[LoadedTable], config: IngestConfig) -> EvaluationIndex | None:
    """N-grams of every dev and test text, with which each part of the corpus is compared."""
    rules = config.decontamination
    if not rules.enabled:
        return None
    return EvaluationIndex.build((text for table in tables for text in table.evaluation_texts()), rules)


def _write_index(index: EvaluationIndex, scratch: Path) -> Path:
    """Where the workers read it."""
    path = scratch / "evaluation_index.npz"
    scratch.mkdir(parents=True, exist_ok=True)
    index.save(path)
    return path


def _prepare(config: IngestConfig, data: Path, scratch: Path, index: EvaluationIndex | None) -> dict[str, list[Prepared]]:
    """Every part of every source, ready in scratch; those that are there from a run that was stopped are not done again."""
    index_file = None if index is None else _write_index(index, scratch)
    rules = TextRules(
        config.min_chars,
        config.cleaning,
        config.quality,
        config.language,
        config.personal_data,
        config.duplicates,
    )
    jobs = [
        job
        for table in TEXTS
        for job in part_jobs(
            table,
            getattr(config, table),
            data,
            rules,
            scratch,
            index_file if table in _DECONTAMINATED else None,
            compared=table in _compared(config),
        )
    ]
    parts: dict[str, list[Prepared]] = {table: [] for table in TEXTS}
    results = run_parts(prepare_part, jobs, engine=config.engine, workers=config.workers)
    for part in tqdm(results, total=len(jobs), desc="parts", unit="part", disable=None):
        parts[part.table].append(part)
    return parts


def _compared(config: IngestConfig) -> tuple[str, ...]:
    """Texts whose rows are compared for near-duplicates: general text only with text of another domain, where there is some."""
    return TEXTS if config.other else ("heldout", "corpus")


def _contamination(parts: list[Prepared], config: IngestConfig) -> Contamination:
    """Which rows of a text, numbered through, hold an evaluation text."""
    matches, start = [], 0
    for part in parts:
        matches += [replace(match, document=start + match.document) for match in part.matches()]
        start += part.rows
    return decide(matches, config.decontamination)


def _near_duplicates(tables: list[LoadedTable], parts: dict[str, list[Prepared]], config: IngestConfig, scratch: Path) -> Dropped:
    """Clusters of similar rows over all tables and the corpus, written to scratch."""
    import pyarrow.parquet as pq

    rules = config.duplicates
    shards = []
    for table in tables:
        for split in SPLITS:
            rows = table.by_split[split]
            for start in range(0, len(rows), _FINGERPRINT_ROWS):
                some = rows[start : start + _FINGERPRINT_ROWS]
                prints = fingerprints([table.compared_text(row) for row in some], rules)
                shards.append(scratch / "tables" / table.name / f"{split}-{start:09d}")
                write_shard(shards[-1], f"{table.table}:{split}", [row.id for row in some], prints)
    shards += [shard for table in _compared(config) for part in parts[table] for shard in part.fingerprint_shards()]
    clusters = find_clusters(shards, rules)
    pq.write_table(clusters, scratch / "clusters.parquet", compression="zstd")
    return rows_to_drop(clusters)


def _join(
    params: Params,
    data: Path,
    parts: dict[str, list[Prepared]],
    tables: list[LoadedTable],
    clusters: Dropped,
    quarantine: Quarantine,
    out: Path,
) -> dict[str, TextCounts]:
    """Write a file for each text; give what happened to each table's text.

    A document of text of another domain leaves where the held-out text, the corpus or the general text holds it too.
    """
    config = params.ingest
    writers = {name: DocumentWriter(out / f"{name}.parquet", collect_groups=name == "heldout") for name in TEXTS}
    joining, written_before = Joining(), dict[str, KeySet]()
    counts = {name: TextCounts() for name in TEXTS}
    try:
        for name in TEXTS:
            if name in ("general", "other") and config.other:
                written_before[f"in_{'corpus' if name == 'general' else 'general'}"] = joining.seen
            if name in ("general", "other"):
                joining = Joining(elsewhere=written_before if name == "other" else {})
            if name in _DECONTAMINATED:
                joining.hold_back(hash_texts([text.text for table in tables for text in table.evaluation_texts()]))
            join_parts(
                parts[name],
                joining,
                clusters.get(name, {}),
                quarantine,
                counts[name],
                writers,
                heldout_share=0.0 if config.heldout or name != "corpus" else config.heldout_share,
                seed=params.seed,
            )
            if name == "heldout":
                joining.heldout_groups = frozenset(writers["heldout"].groups)
    finally:
        for writer in writers.values():
            writer.close()
    _require_documents({name: writers[name].rows for name in TEXTS}, config, data, quarantine)
    for table in tables:
        counts[table.table] = TextCounts(Counter(table.changed), Counter(table.personal))
    return counts


def _require_documents(rows: dict[str, int], config: IngestConfig, data: Path, quarantine: Quarantine) -> None:
    """Refuse a corpus that leaves nothing to train on or to measure on, with what became of its documents; likewise other text."""
    if config.other and not rows["other"]:
        raise DataError(f"ingest.other: of {quarantine.read['other']} documents read none is left: {quarantine.describe('other')}")
    if rows["corpus"] and rows["heldout"]:
        return
    problem = f"{rows['corpus']} documents to train on and {rows['heldout']} held out; each needs one at least"
    read = {name: quarantine.read[name] for name in ("corpus", "heldout") if quarantine.read[name] > rows[name]}
    left = [f"of {count} read for {name} left: {quarantine.describe(name)}" for name, count in read.items()]
    if rows["corpus"] and not config.heldout:
        left.append(f"raise ingest.heldout_share ({config.heldout_share:g}), or name files in ingest.heldout")
    raise DataError(one_line("; ".join([f"ingest.corpus: {problem}", *left, *_line_by_line(config, data)])))


def _line_by_line(config: IngestConfig, data: Path) -> Iterator[str]:
    """Files that were read as one document each and look like one a line."""
    for name, sources in (("corpus", config.corpus), ("heldout", config.heldout)):
        for index, source in enumerate(sources):
            where = f"ingest.{name}.{index}"
            for file in files.line_by_line(source.options(where=where), data, where=where) if source.kind == "files" else []:
                yield f"{file} is one document of many lines: if each line is one, give {where} `text_by: line`"


def _move(source: Path, target: Path) -> None:
    """Out of scratch, which may lie on another file system."""
    import shutil

    shutil.move(source, target)


if __name__ == "__main__":
    main(run, Params)
