"""Which rows of a table most likely carry a wrong label, ranked: what the report shows and what a person would look at first."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from acclimate import kinds
from acclimate.data.labelled import read_schema
from acclimate.data.screening.label_problems import (
    LabelProblem,
    LabelProblemsConfig,
    problem_table,
    rank_problems,
    similar_text_problems,
)
from acclimate.evaluation.label_audit import out_of_fold_probabilities

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
    if kinds.baseline(schema.kind).audit is None:
        return {"rows": 0, "problems": 0, "listed": []}
    table_kind = kinds.table(schema.kind)
    rows = [{**row, "split": split} for split in ("train", "dev", "test") for row in pq.read_table(table / f"{split}.parquet").to_pylist()]
    rows = rows[: config.max_rows]
    labels = [table_kind.label_names(row["label"]) for row in rows]
    problems = similar_text_problems(_clusters_of(clusters, table.name, rows), labels, min_disagreement=config.min_disagreement)
    judge: dict[str, Any] = {}
    if config.confident_learning:
        found, judge = _unlikely(rows, schema.kind, schema.labels or [], config, seed)
        problems += found
    ranked = rank_problems(problems)
    listed = problem_table(ranked[: config.max_listed], [row["id"] for row in rows])
    for entry, problem in zip(listed, ranked, strict=False):
        row = rows[problem.row]
        entry |= {"split": row["split"], "text": " | ".join(filter(None, table_kind.texts(row)))[:_SHOWN_CHARS]}
    return {"rows": len(rows), "problems": len(ranked), "judge": judge, "listed": listed}


def _unlikely(
    rows: list[dict[str, Any]], kind: str, names: list[str], config: LabelProblemsConfig, seed: int
) -> tuple[list[LabelProblem], dict[str, Any]]:
    """Labels that out-of-fold predictions find unlikely; none where those predict no better than the most frequent answer."""
    audit = kinds.baseline(kind).audit
    assert audit is not None
    gold = np.asarray(kinds.model(kind).gold([row["label"] for row in rows], names))
    texts = ["\n".join(filter(None, kinds.table(kind).texts(row))) for row in rows]
    groups = [row["group"] for row in rows]
    if len(set(groups)) < config.folds:
        return [], {}
    found = out_of_fold_probabilities(texts, gold, groups, kind=kind, num_labels=len(names), folds=config.folds, seed=seed)
    judge = audit.judge(gold, found.probabilities_RC)
    if judge["accuracy"] <= judge["of_the_most_frequent"]:
        return [], judge
    return audit.problems(gold, found.probabilities_RC, found.judged_RC, names), judge


def _clusters_of(clusters: Path, name: str, rows: list[dict[str, Any]]) -> list[list[int]]:
    """Near-duplicates among the rows, as row numbers."""
    number = {(f"tables/{name}:{row['split']}", row["id"]): index for index, row in enumerate(rows)}
    members: dict[int, list[int]] = defaultdict(list)
    found = pq.read_table(clusters, columns=["cluster", "place", "id"]).to_pydict()
    for cluster, place, row_id in zip(found["cluster"], found["place"], found["id"], strict=True):
        if (place, row_id) in number:
            members[cluster].append(number[place, row_id])
    return [rows for rows in members.values() if len(rows) > 1]
