"""Verdicts on the declared points of the ledger: each encoder against the reference and the trained controls, and the mean over tasks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from acclimate import kinds
from acclimate.evaluation.draws import pool_variance
from acclimate.evaluation.ledger import EncoderLedger
from acclimate.evaluation.options import ProbeConfig, Size
from acclimate.evaluation.significance import Comparison, Resampled, compare_resampled, mean_of
from acclimate.evaluation.verdicts import Judged, judge, sentence

METHOD = (
    "paired over draws of labelled rows and judged rows: the variance over judged rows by bootstrap, that over draws added once, "
    "with the share that draws of one pool hide; Student's interval with Satterthwaite's degrees of freedom; "
    "p adjusted over all comparisons by Holm 1979"
)
MIN_DRAWS = 0.5
"""A declared comparison needs this share of its draws."""
Pair = tuple[str, str]
"""An encoder, and what it is compared with."""
Key = tuple[str | None, str, str, Size]
"""A task (None: the mean over tasks), a pair, and labelled rows."""


@dataclass(frozen=True)
class TaskLedger:
    """What was measured of a task."""

    kind: str
    metric: str
    general: bool
    pool_rows: int
    judged_rows: int
    layers: Mapping[str, int]
    """How many each encoder has."""
    encoders: Mapping[str, EncoderLedger]
    missing: Mapping[Size, str]
    """Why there is no point at a number of labelled rows."""


@dataclass(frozen=True)
class Sides:
    """Which encoders stand against which."""

    encoders: Sequence[str]
    reference: str
    controls: Sequence[str]
    trained: Sequence[str]
    """Encoders that were made by training."""

    def pairs(self) -> Iterator[Pair]:
        """Every encoder against the reference; those of `runs` that are no control also against each trained control."""
        yield from ((name, self.reference) for name in dict.fromkeys([*self.encoders, *self.controls]) if name != self.reference)
        for control in self.controls:
            if control in self.trained:
                yield from ((name, control) for name in self.encoders if name not in (self.reference, *self.controls))


def compared(tasks: Mapping[str, TaskLedger], sides: Sides, config: ProbeConfig, *, confidence: float) -> dict[str, Any]:
    """comparisons.json: a verdict on each declared comparison, Holm over all of them."""
    found, missing = dict[Key, Comparison](), list[dict[str, Any]]()
    for task, each in tasks.items():
        for encoder, against in sides.pairs():
            for size in config.declared.rows if {encoder, against} <= set(each.encoders) else []:
                comparison = each.missing.get(size) or _comparison(each, (encoder, against), size, confidence)
                if isinstance(comparison, str):
                    missing.append({"task": task, "encoder": encoder, "against": against, "rows": size, "reason": comparison})
                else:
                    found[task, encoder, against, size] = comparison
    averaged = {task for task, each in tasks.items() if not each.general and kinds.higher_is_better(each.kind, each.metric)}
    means = _means(found, averaged, confidence)
    lower = {key: key[0] is not None and not kinds.higher_is_better(tasks[key[0]].kind, tasks[key[0]].metric) for key in {**found, **means}}
    judged = judge({**found, **means}, confidence=confidence, margin=config.margin, lower_is_better=lower)
    by_task = {
        task: {
            "metric": each.metric,
            "general": each.general,
            "pairs": [_record(judged, key, tasks, config, confidence) for key in found if key[0] == task],
        }
        for task, each in tasks.items()
    }
    return {
        "declared": config.declared.model_dump(mode="json"),
        "draws": config.draws,
        "method": METHOD,
        "confidence": confidence,
        "margin": config.margin,
        "comparisons": len(judged),
        "reference": sides.reference,
        "controls": list(sides.controls),
        "tasks": by_task,
        "mean_over_tasks": [{**_record(judged, key, tasks, config, confidence), "tasks": _tasks_of(found, averaged, key)} for key in means],
        "missing": missing,
    }


def _comparison(task: TaskLedger, pair: Pair, size: Size, confidence: float) -> Comparison | str:
    """A pair at so many labelled rows, over the draws in which both have a score; why not, where there are too few."""
    after, before = (task.encoders[name].declared[size] for name in pair)
    defined_K = np.isfinite(after.observed[task.metric]) & np.isfinite(before.observed[task.metric])
    if defined_K.sum() < max(2, MIN_DRAWS * len(defined_K)):
        undefined = f"in {int((~defined_K).sum())} of {len(defined_K)} draws; allowed {MIN_DRAWS:.0%}"
        return f"the drawn rows have one label alone, or {kinds.why_undefined(task.kind, task.metric)}: {undefined}"
    sides = [_of_draws(each, defined_K) for each in (before, after)]
    found = compare_resampled(*sides, confidence=confidence, pool_variance=pool_variance(size, task.pool_rows))
    return found.by_metric.get(task.metric) or found.missing[task.metric]


def _of_draws(side: Resampled, kept_K: Any) -> Resampled:
    return replace(
        side,
        observed={name: values_K[kept_K] for name, values_K in side.observed.items()},
        resamples={name: values_SK[:, kept_K] for name, values_SK in side.resamples.items()},
    )


def _means(found: Mapping[Key, Comparison], tasks: set[str], confidence: float) -> dict[Key, Comparison]:
    """Over the tasks of the domain, where there are several."""
    of_tasks: dict[Key, list[Comparison]] = {}
    for (task, *rest), comparison in found.items():
        if task in tasks:
            of_tasks.setdefault((None, *rest), []).append(comparison)  # type: ignore[arg-type]
    return {key: mean_of(each, confidence=confidence) for key, each in of_tasks.items() if len(each) > 1}


def _tasks_of(found: Mapping[Key, Comparison], tasks: set[str], key: Key) -> list[str]:
    return [task for task, *rest in found if task in tasks and tuple(rest) == key[1:]]


def _record(
    judged: Mapping[Key, Judged], key: Key, tasks: Mapping[str, TaskLedger], config: ProbeConfig, confidence: float
) -> dict[str, Any]:
    task, encoder, against, size = key
    place: dict[str, Any] = {"encoder": encoder, "against": against, "rows": size, "probe": config.declared.probe}
    rows = "all labelled rows" if isinstance(size, str) else f"{size:,} labelled rows"
    if task is None:
        scope, where, metric = f"{rows}", "the mean over tasks", "score"
    else:
        each = tasks[task]
        place["layer"] = each.layers[encoder] - 1
        scope, where, metric = f"{rows}, {config.draws} draws, {each.judged_rows:,} judged rows", task, each.metric
    said = sentence(judged[key], name=encoder, against=against, task=where, metric=metric, confidence=confidence, scope=scope)
    return {**place, **judged[key].record(said)}
