"""Which rows of a table most likely carry a wrong label, ranked: what the report shows and what a person would look at first."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from acclimate import plugins
from acclimate.data.label_problems import (
    LabelProblem,
    LabelProblemsConfig,
    problem_table,
    rank_problems,
    similar_text_problems,
    unlikely_label_sets,
    unlikely_labels,
)
from acclimate.data.labelled import read_schema
from acclimate.data.schema import label_names
from acclimate.evaluation.label_audit import KINDS, out_of_fold_probabilities

_SHOWN_CHARS = 160


def rank_label_problems(table: Path, clusters: Path, config: LabelProblemsConfig, *, seed: int) -> dict[str, Any]:
    """Doubtful labels of one ingested table.

    Args:
        table: directory with train, dev and test as ingest wrote them.
        clusters: ingest's table of near-duplicates.

    Returns:
        `rows` that were judged, `problems` found, how good the `judge` of unlikely labels is, and the first `max_listed` problems
        as records with their split and text.
    """
    schema = read_schema(table)
    if schema.kind not in KINDS:
        return {"rows": 0, "problems": 0, "listed": []}
    rows = [{**row, "split": split} for split in ("train", "dev", "test") for row in pq.read_table(table / f"{split}.parquet").to_pylist()]
    rows = rows[: config.max_rows]
    labels = [label_names(row["label"], schema.kind) for row in rows]
    problems = similar_text_problems(_clusters_of(clusters, table.name, rows), labels, min_disagreement=config.min_disagreement)
    judge: dict[str, Any] = {}
    if config.confident_learning:
        found, judge = _unlikely(rows, schema.kind, schema.labels or [], config, seed)
        problems += found
    ranked = rank_problems(problems)
    listed = problem_table(ranked[: config.max_listed], [row["id"] for row in rows])
    for entry, problem in zip(listed, ranked, strict=False):
        row = rows[problem.row]
        entry |= {"split": row["split"], "text": " | ".join(part for part in (row["text"], row.get("text_pair")) if part)[:_SHOWN_CHARS]}
    return {"rows": len(rows), "problems": len(ranked), "judge": judge, "listed": listed}


def _unlikely(
    rows: list[dict[str, Any]], kind: str, names: list[str], config: LabelProblemsConfig, seed: int
) -> tuple[list[LabelProblem], dict[str, Any]]:
    """Labels that out-of-fold predictions find unlikely; none where those predict no better than the most frequent answer."""
    gold = plugins.load("tasks", kind).gold([row["label"] for row in rows], names)
    texts = ["\n".join(part for part in (row["text"], row.get("text_pair")) if part) for row in rows]
    groups = [row["group"] for row in rows]
    if len(set(groups)) < config.folds:
        return [], {}
    found = out_of_fold_probabilities(texts, gold, groups, kind=kind, num_labels=len(names), folds=config.folds, seed=seed)
    judge = _judge(kind, gold, found.probabilities_RC)
    if judge["accuracy"] <= judge["of_the_most_frequent"]:
        return [], judge
    if kind == "classification":
        judged_R = found.judged_RC[np.arange(len(rows)), np.asarray(gold)]
        return unlikely_labels(gold, found.probabilities_RC, judged_R, names), judge
    return unlikely_label_sets(np.asarray(gold), found.probabilities_RC, found.judged_RC, names), judge


def _judge(kind: str, gold: Any, probabilities_RC: Any) -> dict[str, Any]:
    """Share of right answers, of the model and of the most frequent answer; of all labels where a row has several."""
    if kind == "classification":
        gold_R = np.asarray(gold)
        return {
            "accuracy": float(np.mean(probabilities_RC.argmax(axis=1) == gold_R)),
            "of_the_most_frequent": float(np.bincount(gold_R).max() / len(gold_R)),
        }
    gold_RC = np.asarray(gold) > 0
    shares_C = gold_RC.mean(axis=0)
    return {
        "accuracy": float(np.mean((probabilities_RC > 0.5) == gold_RC)),
        "of_the_most_frequent": float(np.maximum(shares_C, 1 - shares_C).mean()),
    }


def _clusters_of(clusters: Path, name: str, rows: list[dict[str, Any]]) -> list[list[int]]:
    """Near-duplicates among the rows, as row numbers."""
    number = {(f"tables/{name}:{row['split']}", row["id"]): index for index, row in enumerate(rows)}
    members: dict[int, list[int]] = defaultdict(list)
    found = pq.read_table(clusters, columns=["cluster", "place", "id"]).to_pydict()
    for cluster, place, row_id in zip(found["cluster"], found["place"], found["id"], strict=True):
        if (place, row_id) in number:
            members[cluster].append(number[place, row_id])
    return [rows for rows in members.values() if len(rows) > 1]
