"""What the report says, read from the artifacts. What a pipeline did not make is empty here, and its section is left out."""

from __future__ import annotations

import csv
import os
import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from acclimate import artifacts, kinds
from acclimate.models.options import ModelConfig
from acclimate.training.options import FinetuneConfig, RunsConfig

Json = dict[str, Any]
Rows = list[dict[str, Any]]

PACKAGES = (
    *("torch", "transformers", "tokenizers", "onnxruntime", "onnxruntime-gpu", "scikit-learn", "mlflow", "dvc", "great-expectations"),
    "prefect",
)


@dataclass(frozen=True)
class Sources:
    """Where each stage wrote."""

    ingest: Path
    tokenize: Path
    pretrain: Path
    finetune: Path
    evaluate: Path
    probe: Path
    export: Path
    register: Path
    records: Path
    validate: Path


@dataclass(frozen=True)
class Table:
    """An ingested table: its schema, rows by split and rows by label."""

    schema: Json
    rows: dict[str, int]
    counted: str
    """What its labels are counted as."""
    labels: dict[str, int]


@dataclass(frozen=True)
class Member:
    """A row of a cluster of near-duplicates."""

    place: str
    id: str
    reason: str | None
    similarity: float | None


@dataclass(frozen=True)
class Cluster:
    """Rows that are near-duplicates of each other."""

    members: tuple[Member, ...]

    @property
    def dropped(self) -> int:
        """Number of rows that were dropped."""
        return sum(member.reason is not None for member in self.members)

    @property
    def places(self) -> int:
        """Number of splits and tables that hold these rows."""
        return len({member.place for member in self.members})


@dataclass(frozen=True)
class FinetunedRun:
    """One fine-tuned run: its loss over steps, and the share of its rows that were truncated."""

    task: str
    encoder: str
    seed: int
    history: Rows
    truncated_share: float | None
    fit: Json
    """Loss of the trained model on training and dev rows; empty where it was not measured."""


@dataclass(frozen=True)
class Facts:
    """Everything that the page and the summary say."""

    title: str
    model: ModelConfig
    finetune: FinetuneConfig
    metrics: Json
    comparisons: Json
    baselines: Json
    confusion: dict[str, Rows]
    calibration: dict[str, Rows]
    pretraining: Json
    pretraining_history: Rows
    retention: Json
    finetuned: list[FinetunedRun]
    probe: Json
    probe_layers: Rows
    exports: dict[str, Json]
    registrations: dict[str, Json]
    ingested: Json
    text: Json
    clusters: list[Cluster]
    label_problems: Json
    tokenized: Json
    tables: dict[str, Table]
    checks: list[Json]
    records: list[Json]
    machine: dict[str, str]

    @property
    def confidence(self) -> float:
        """The confidence level of every interval."""
        return float(self.comparisons.get("confidence", 0.95))

    @property
    def data_docs(self) -> str | None:
        """The directory in which the validate stage wrote Data Docs, by its record."""
        outs = [path for record in self.records if record["stage"] == "validate" for path in record.get("outs_md5", {})]
        return next((path for path in outs if "docs" in path), None)

    def difference(self, task: str, metric: str) -> Json | None:
        """Adapted minus base with its interval; None where they were not compared."""
        found: Json | None = self.metrics[task].get("difference", {}).get(metric)
        return found

    def compared(self, task: str) -> Json:
        """How the encoders of a task compare; empty where they were not compared."""
        return dict(self.comparisons.get("tasks", {}).get(task, {}))


def read_facts(sources: Sources, runs: RunsConfig, *, title: str, model: ModelConfig, finetune: FinetuneConfig) -> Facts:
    """Read everything that is there.

    Args:
        runs: the runs that params.yaml names. Others, left by an earlier run, are skipped.
    """
    tasks, records = runs.all_tasks, _records(sources.records, runs)
    judged = _json(sources.evaluate / "metrics.json", {})
    return Facts(
        title=title,
        model=model,
        finetune=finetune,
        metrics={task: judged[task] for task in tasks if task in judged},
        comparisons=_json(sources.evaluate / "comparisons.json", {}),
        baselines=_json(sources.evaluate / "baselines.json", {}),
        confusion=_csv_by_task(sources.evaluate, "confusion", tasks),
        calibration=_csv_by_task(sources.evaluate, "calibration", tasks),
        pretraining=_json(sources.pretrain / "metrics.json", {}),
        pretraining_history=_csv(sources.pretrain / "history.csv"),
        retention=_json(sources.pretrain / "retention.json", {}),
        finetuned=_finetuned(sources.finetune, runs),
        probe=_json(sources.probe / "metrics.json", {}),
        probe_layers=_csv(sources.probe / "layers.csv"),
        exports={task: found for task in tasks if (found := _export(sources.export / task))},
        registrations={task: found for task in tasks if (found := _json(sources.register / task / "registration.json", {}))},
        ingested=_json(sources.ingest / "metrics.json", {}),
        text=_json(sources.ingest / "text.json", {}),
        clusters=_clusters(sources.ingest / "duplicates.parquet"),
        label_problems={task: found for task, found in _json(sources.validate / "label_problems.json", {}).items() if task in tasks},
        tokenized=_json(sources.tokenize / "metrics.json", {}),
        tables={task: _table(sources.ingest / "tables" / task) for task in tasks if (sources.ingest / "tables" / task).is_dir()},
        checks=_json(sources.validate / "results.json", []),
        records=records,
        machine=describe_machine(records),
    )


def _clusters(path: Path) -> list[Cluster]:
    """Near-duplicates as ingest found them: clusters with dropped rows first, large ones first."""
    import pyarrow.parquet as pq

    if not path.is_file():
        return []
    members: dict[int, list[Member]] = {}
    columns = pq.read_table(path, columns=["cluster", "place", "id", "reason", "similarity"]).to_pydict()
    for cluster, *member in zip(*columns.values(), strict=True):
        members.setdefault(cluster, []).append(Member(*member))
    return sorted(map(Cluster, map(tuple, members.values())), key=lambda cluster: (not cluster.dropped, -len(cluster.members)))


def _json(path: Path, default: Any) -> Any:
    return artifacts.read_json(path) if path.is_file() else default


def _csv(path: Path) -> Rows:
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _csv_by_task(directory: Path, name: str, tasks: Sequence[str]) -> dict[str, Rows]:
    return {task: rows for task in tasks if (rows := _csv(directory / f"{name}_{task}.csv"))}


def _finetuned(directory: Path, runs: RunsConfig) -> list[FinetunedRun]:
    found = []
    for task in runs.all_tasks:
        for encoder in runs.encoders:
            for seed in runs.seeds_of(task):
                run = directory / task / f"{encoder}-{seed}"
                metrics = _json(run / "metrics.json", {})
                if history := _csv(run / "history.csv"):
                    found.append(FinetunedRun(task, encoder, seed, history, metrics.get("truncated_share"), metrics.get("fit", {})))
    return found


def _export(directory: Path) -> Json:
    found: Json = _json(directory / "metrics.json", {})
    if not found:
        return {}
    variants = dict(
        sorted(found["variants"].items(), key=lambda item: ("torch", "fp32").index(item[0]) if item[0] in ("torch", "fp32") else 2)
    )
    batches = {batch for each in variants.values() for batch in each.get("latency_ms", {})}
    return {**found, "variants": variants, "batches": sorted(batches, key=int), "chosen": _json(directory / "chosen.json", {})}


def _table(directory: Path) -> Table:
    import pyarrow.parquet as pq

    rows, labels = {}, Counter[str]()
    schema = _json(directory / "schema.json", {})
    kind = kinds.table(schema["kind"]) if schema else None
    for split in ("train", "dev", "test"):
        if (path := directory / f"{split}.parquet").is_file():
            values = pq.read_table(path, columns=["label"])["label"].to_pylist()
            rows[split] = len(values)
            labels.update(name for value in values for name in (kind.counted_labels(value) if kind else []))
    return Table(schema, rows, kind.counted if kind else "", dict(labels.most_common()))


def _records(directory: Path, runs: RunsConfig) -> list[Json]:
    """The stages' records in the order they ran, without runs that params.yaml no longer names."""
    records = [artifacts.read_json(path) for path in sorted(directory.rglob("*.json"))] if directory.is_dir() else []
    named = {f"{task}-{encoder}-{seed}" for task in runs.all_tasks for encoder in runs.encoders for seed in runs.seeds_of(task)}
    kept = [record for record in records if not record["stage"].startswith("finetune") or record["stage"].partition("@")[2] in named]
    return sorted(kept, key=lambda record: (record["started_at"], record["stage"]))


def describe_machine(records: list[Json]) -> dict[str, str]:
    """Hardware and versions of the machine that writes the report, and the devices that the stages computed on."""
    versions = {name: _version(name) for name in PACKAGES}
    devices = sorted({f"{record['device']}, {record.get('precision', 'fp32')}" for record in records if "device" in record})
    return {
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "computed on": "; ".join(devices) or "cpu",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        **{name: version for name, version in versions.items() if version},
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
