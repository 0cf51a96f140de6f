"""The ledger as files: every draw, means over draws, and the layer that dev chooses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from acclimate import kinds
from acclimate.evaluation.arrays import Floats
from acclimate.evaluation.ledger_verdicts import TaskLedger

Row = dict[str, Any]
LEDGER_COLUMNS = ["task", "general", "encoder", "rows", "draw", "layer", "probe", "value"]


def ledger_rows(tasks: Mapping[str, TaskLedger]) -> list[Row]:
    """ledger.csv: the task's metric for every draw; a draw without a value has none."""
    return [
        {
            **_place(task, each),
            "encoder": name,
            "rows": point.rows,
            "draw": draw,
            "layer": point.layer,
            "probe": point.probe,
            "value": float(value),
        }
        for task, each in tasks.items()
        for name, ledger in each.encoders.items()
        for point in ledger.points
        for draw, value in enumerate(point.values_K)
        if np.isfinite(value)
    ]


def _place(task: str, each: TaskLedger) -> Row:
    return {"task": task, "general": int(each.general)}


def curves(each: TaskLedger, tokens: Mapping[str, int]) -> dict[str, Any]:
    """A task's part of curves.json: mean and standard deviation over draws of every point, and why some are missing."""
    points, missing = [], [{"rows": size, "reason": reason} for size, reason in each.missing.items()]
    for name, ledger in each.encoders.items():
        for point in ledger.points:
            place = {"encoder": name, "rows": point.rows, "layer": point.layer, "probe": point.probe}
            if found := _mean(point.values_K):
                points.append({**place, **found})
            else:
                missing.append({**place, "reason": kinds.why_undefined(each.kind, each.metric)})
    return {
        "metric": each.metric,
        "general": each.general,
        "judged_rows": each.judged_rows,
        "pool_rows": each.pool_rows,
        "tokens": {name: tokens[name] for name in each.encoders},
        "points": points,
        "missing": missing,
    }


def _mean(values_K: Floats) -> Row | None:
    """Over the draws that have a value; None where fewer than two have."""
    defined = values_K[np.isfinite(values_K)]
    return {"mean": float(defined.mean()), "std": float(defined.std(ddof=1)), "draws": len(defined)} if len(defined) > 1 else None


def layers(each: TaskLedger) -> dict[str, Row]:
    """For each encoder the last layer, and the one that dev chooses, with their means on the judged rows."""
    found = {}
    sign = 1.0 if kinds.higher_is_better(each.kind, each.metric) else -1.0
    for name, ledger in each.encoders.items():
        on_dev, on_judged = dict[int, float](), dict[int, float]()
        for point in ledger.points:
            dev, judged = (None if values_K is None else _mean(values_K) for values_K in (point.dev_K, point.values_K))
            if dev and judged:
                on_dev[point.layer], on_judged[point.layer] = dev["mean"], judged["mean"]
        if on_dev:
            best = max(on_dev, key=lambda layer, scores=on_dev: sign * scores[layer])  # type: ignore[misc]
            of_layer = {"best": {each.metric: on_judged[best]}, "last": {each.metric: on_judged[max(on_dev)]}}
            found[name] = {"best_layer": best, **of_layer}
    return found


def layer_rows(each: TaskLedger) -> list[Row]:
    """Means of the linear probe by layer, at as many labelled rows as choose a layer: encoder, layer, value."""
    return [
        {"encoder": name, "layer": point.layer, "value": found["mean"]}
        for name, ledger in each.encoders.items()
        for point in ledger.points
        if point.dev_K is not None and (found := _mean(point.values_K))
    ]


def size_rows(each: TaskLedger) -> list[Row]:
    """Means of the linear probe of the last layer by labelled rows: encoder, rows, value."""
    return [
        {"encoder": name, "rows": point.rows, "value": found["mean"]}
        for name, ledger in each.encoders.items()
        for point in ledger.points
        if point.probe == "linear" and point.layer == each.layers[name] - 1 and (found := _mean(point.values_K))
    ]


def by_column(rows: Sequence[Row], key: str) -> list[Row]:
    """A row for each value of `key`, a column for each encoder, as DVC's plots want it."""
    found: dict[Any, Row] = {}
    for row in rows:
        found.setdefault(row[key], {key: row[key]})[row["encoder"]] = row["value"]
    return list(found.values())
