"""What the report says, read from the artifacts. What a pipeline did not make is empty here, and its section is left out."""

from __future__ import annotations

import csv
import os
import platform
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from acclimate import artifacts, kinds
from acclimate.backbones.options import ModelConfig
from acclimate.training.options import EncoderConfig, RecipeConfig, RunsConfig

Json = dict[str, Any]
Rows = list[dict[str, Any]]

_DOMAIN_LOSS = "heldout_loss"
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
    encoders: Path
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
class Pretraining:
    """How one encoder was made, and what of it was kept."""

    encoder: str
    start: str
    objectives: list[str]
    metrics: Json
    history: Rows
    retention: Json

    @property
    def candidates(self) -> Rows:
        """What retention tried; empty where nothing was tried."""
        return list(self.retention.get("candidates", []))

    @property
    def losses(self) -> dict[str, Json]:
        """Each held-out loss of the start, of the control (the start under heads trained as long), at the end, and of what was kept."""
        chosen = [each for each in self.candidates if each["name"] == self.retention["chosen"]]
        return {
            name: {**found, "kept": chosen[0].get(name, found["end"]) if chosen else found["end"]}
            for name, found in sorted(self.metrics.items(), key=lambda each: each[0] != _DOMAIN_LOSS)
            if name.endswith("_loss")
        }


@dataclass(frozen=True)
class FinetunedRun:
    """One fine-tuned run: its loss over steps, and the share of its rows that were truncated."""

    task: str
    variant: str
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
    recipes: dict[str, RecipeConfig]
    runs: RunsConfig
    metrics: Json
    comparisons: Json
    baselines: Json
    confusion: dict[str, Rows]
    calibration: dict[str, Rows]
    pretraining: list[Pretraining]
    finetuned: list[FinetunedRun]
    probe: Json
    probe_layers: Rows
    ledger: Json
    """The declared comparisons of the probe ledger; empty where none was made."""
    curves: Json
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

    @property
    def reference(self) -> str:
        """The variant that the others are compared with."""
        return self.runs.reference.name

    def compared(self, task: str) -> Json:
        """How the variants of a task compare with the reference; empty where nothing was judged."""
        return dict(self.comparisons.get("tasks", {}).get(task, {}))

    def comparison(self, task: str, variant: str) -> Json:
        """How a variant compares with the reference; empty for the reference itself."""
        return dict(self.compared(task).get("variants", {}).get(variant, {}))

    def difference(self, task: str, variant: str, metric: str) -> Json | None:
        """A variant minus the reference with its interval; None for the reference itself."""
        found: Json | None = self.comparison(task, variant).get("differences", {}).get(metric)
        return found


def read_facts(
    sources: Sources,
    runs: RunsConfig,
    *,
    title: str,
    model: ModelConfig,
    encoders: dict[str, EncoderConfig],
    recipes: dict[str, RecipeConfig],
) -> Facts:
    """Read everything that is there.

    Args:
        runs: the runs that params.yaml names. Others, left by an earlier run, are skipped.
        encoders: those that params.yaml defines; others are skipped likewise.
    """
    tasks, records = runs.all_tasks, _records(sources.records, runs, encoders)
    judged = _json(sources.evaluate / "metrics.json", {})
    return Facts(
        title=title,
        model=model,
        recipes={name: recipes[name] for name in runs.recipes},
        runs=runs,
        metrics={task: judged[task] for task in tasks if task in judged},
        comparisons=_json(sources.evaluate / "comparisons.json", {}),
        baselines=_json(sources.evaluate / "baselines.json", {}),
        confusion=_csv_by_task(sources.evaluate, "confusion", tasks),
        calibration=_csv_by_task(sources.evaluate, "calibration", tasks),
        pretraining=[
            _pretraining(name, encoder, sources)
            for name, encoder in encoders.items()
            if (sources.pretrain / name / "metrics.json").is_file()
        ],
        finetuned=_finetuned(sources.finetune, runs),
        probe=_json(sources.probe / "metrics.json", {}),
        probe_layers=_csv(sources.probe / "layers.csv"),
        ledger=_json(sources.probe / "comparisons.json", {}),
        curves=_json(sources.probe / "curves.json", {}),
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


def _pretraining(name: str, encoder: EncoderConfig, sources: Sources) -> Pretraining:
    directory = sources.pretrain / name
    return Pretraining(
        encoder=name,
        start=encoder.start,
        objectives=[chosen.name for chosen in encoder.objectives],
        metrics=artifacts.read_json(directory / "metrics.json"),
        history=_csv(directory / "history.csv"),
        retention=_json(sources.encoders / name / "retention.json", {}),
    )


def _finetuned(directory: Path, runs: RunsConfig) -> list[FinetunedRun]:
    found = []
    for task in runs.all_tasks:
        for variant in runs.variants:
            for seed in runs.seeds_of(task):
                run = directory / task / f"{variant.name}-{seed}"
                metrics = _json(run / "metrics.json", {})
                if history := _csv(run / "history.csv"):
                    found.append(FinetunedRun(task, variant.name, seed, history, metrics.get("truncated_share"), metrics.get("fit", {})))
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


def _records(directory: Path, runs: RunsConfig, encoders: Collection[str]) -> list[Json]:
    """The stages' records in the order they ran, without runs and encoders that params.yaml no longer names."""
    records = [artifacts.read_json(path) for path in sorted(directory.rglob("*.json"))] if directory.is_dir() else []
    named = {f"{task}-{variant.name}-{seed}" for task in runs.all_tasks for variant in runs.variants for seed in runs.seeds_of(task)}
    named.update(encoders)
    several = ("finetune", "finetune-once", "pretrain", "retain")
    kept = [record for record in records if (parts := record["stage"].partition("@"))[0] not in several or parts[2] in named]
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
