"""Which fine-tuned run is exported, and which variant of it is deployed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from acclimate import artifacts
from acclimate.errors import DataError
from acclimate.training.options import Variant

REFERENCE = "fp32"
"""The ONNX variant that the others are measured against."""


@dataclass(frozen=True)
class FinetunedRun:
    """One fine-tuned model and its dev metric."""

    variant: Variant
    seed: int
    directory: Path
    dev_metric: float


def best_run(
    directory: Path, *, variants: Sequence[Variant], reference: Variant, seeds: Sequence[int], metric: str, lower_is_better: bool
) -> FinetunedRun:
    """The best of a task's runs by dev metric; of equal ones not the reference's, then the first in params.yaml.

    Only runs that params.yaml names are looked at: others may lie there from an earlier run.

    Raises:
        DataError: a run is missing or has no such dev metric.
    """
    found = [_read_run(directory, variant, seed, metric) for variant in variants for seed in seeds]
    runs = [run for run in found if run is not None]
    if not runs:
        path = directory / f"{variants[0].name}-{seeds[0]}" / "metrics.json"
        dev = artifacts.read_json(path)["dev"]
        raise DataError(f"{path}: no dev metric {metric!r}; it has: {', '.join(dev)}, and no other run has it: it is undefined for all")
    sign = 1.0 if lower_is_better else -1.0
    return min(runs, key=lambda run: (sign * run.dev_metric, run.variant == reference))


def _read_run(directory: Path, variant: Variant, seed: int, metric: str) -> FinetunedRun | None:
    """None where the metric is undefined."""
    run = directory / f"{variant.name}-{seed}"
    dev = artifacts.read_json(run / "metrics.json")["dev"]
    if metric not in dev:
        return None
    return FinetunedRun(variant, seed, run, float(dev[metric]))


def choose_variant(
    variants: Mapping[str, Mapping[str, Any]],
    *,
    metric: str,
    lower_is_better: bool,
    optimize_for: Literal["accuracy", "latency"],
    max_metric_loss: float,
    batch: int,
) -> str:
    """Name the variant to deploy.

    `accuracy` is the fp32 graph. `latency` is the fastest variant whose metric is within `max_metric_loss` of it.

    Args:
        variants: for each ONNX variant its `metric` scores and its `latency_ms` by batch.
        batch: the batch size whose latency decides.
    """
    if optimize_for == "accuracy":
        return REFERENCE
    sign, reference = (1.0 if lower_is_better else -1.0), variants[REFERENCE]["metric"].get(metric)
    if reference is None:  # undefined: then nothing says that another variant is as good
        return REFERENCE
    known = {name: found["metric"][metric] for name, found in variants.items() if metric in found["metric"]}
    eligible = [name for name, value in known.items() if sign * (value - reference) <= max_metric_loss]
    return min(eligible, key=lambda name: float(variants[name]["latency_ms"][str(batch)]))
