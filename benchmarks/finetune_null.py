"""Null test of the verdicts: the same encoder fine-tuned with many seeds, and groups of seeds judged against each other.

No group is better than another, so `better` and `worse` are false. Needs artifacts/ of the stages ingest, backbone and validate.

    python -m benchmarks.finetune_null train --task section --minutes 30 --out /tmp/null
    python -m benchmarks.finetune_null judge --task section --out /tmp/null
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from acclimate.config import load_config
from acclimate.data.labelled import TableSchema, read_schema
from acclimate.evaluation.metrics import RowStatistics, row_statistics
from acclimate.evaluation.predictions import read_predictions
from acclimate.evaluation.significance import Resampled, compare_resampled, resampled
from acclimate.evaluation.verdicts import judge
from acclimate.runtime import configure_logging
from acclimate.sinks import MemorySink

ARTIFACTS = Path("artifacts")
GROUP = 3
RE_PAIRINGS = 500


def train(task: str, out: Path, *, minutes: float, most: int, epochs: float | None) -> None:
    """Fine-tune `base` by the recipe `full`, seed after seed, until the time is over.

    Args:
        epochs: None for the recipe's.
    """
    from stages import finetune
    from stages.command import StageContext, select_params

    params = select_params(load_config(), finetune.Params, {"task": task, "recipe": "full"})
    if epochs is not None:
        recipe = params.recipes["full"].model_copy(update={"epochs": epochs})
        params = params.model_copy(update={"recipes": {"full": recipe}})
    start = time.monotonic()
    for seed in range(most):
        directory = out / f"base-full-{seed}"
        if (directory / "predictions.parquet").is_file():
            continue
        if time.monotonic() - start > 60 * minutes:
            return
        directory.mkdir(parents=True, exist_ok=True)
        finetune.run(
            params,
            task=task,
            encoder_name="base",
            recipe="full",
            seed=seed,
            encoder=ARTIFACTS / "encoders/base",
            table=ARTIFACTS / "ingest/tables" / task,
            verdict=ARTIFACTS / "validate/verdict.json",
            out=directory,
            context=StageContext("finetune", MemorySink(), directory / "checkpoints", lambda: None),
        )
        (directory / "model.safetensors").unlink()
        shutil.rmtree(directory / "checkpoints", ignore_errors=True)  # of no use to another seed


def judge_groups(task: str, out: Path) -> dict[str, object]:
    """Judge disjoint pairs of groups, which are independent but for the test rows, and random pairs, which share seeds."""
    config, schema = load_config().evaluate, read_schema(ARTIFACTS / "ingest/tables" / task)
    runs = sorted(out.glob("base-full-*/predictions.parquet"), key=lambda path: int(path.parent.name.split("-")[-1]))
    every = resampled(
        [_statistics(path.parent, schema) for path in runs], samples=config.bootstrap_samples, seed=0, metrics=[schema.metric]
    )
    generator = np.random.default_rng(0)

    def verdict(seeds: Sequence[int]) -> str:
        sides = (_part(every, seeds[:GROUP]), _part(every, seeds[GROUP:]))
        compared = compare_resampled(*sides, confidence=config.confidence, paired_seeds=False).by_metric[schema.metric]
        judged = judge({task: compared}, confidence=config.confidence, margin=config.margin, lower_is_better={task: False})[task]
        spread.append((compared.standard_error, judged.detectable, compared.degrees_of_freedom))
        return judged.verdict

    spread: list[tuple[float, float, float]] = []
    disjoint = [list(range(first, first + 2 * GROUP)) for first in range(0, len(runs) - 2 * GROUP + 1, 2 * GROUP)]
    random = [list(generator.permutation(len(runs))[: 2 * GROUP]) for _ in range(RE_PAIRINGS)]
    return {
        "runs": len(runs),
        "disjoint pairs": _rate(Counter(map(verdict, disjoint))),
        "random pairs (dependent, so no interval)": Counter(map(verdict, random)),
        "median standard error, detectable, degrees of freedom": np.median(spread, axis=0).round(4).tolist(),
    }


def _part(every: Resampled, seeds: Sequence[int]) -> Resampled:
    """Some of the runs; each was resampled once."""
    parts = ({name: values[..., list(seeds)] for name, values in scores.items()} for scores in (every.observed, every.resamples))
    return Resampled(every.kind, every.rows, *parts)


def _statistics(directory: Path, schema: TableSchema) -> RowStatistics:
    test = read_predictions(directory)["test"]
    return row_statistics(schema.kind, test.gold, test.predictions, labels=schema.labels)


def _rate(verdicts: Mapping[str, int]) -> dict[str, object]:
    from scipy.stats import binomtest

    total, wrong = sum(verdicts.values()), verdicts.get("better", 0) + verdicts.get("worse", 0)
    interval = binomtest(wrong, total).proportion_ci() if total else (0.0, 1.0)
    return {**verdicts, "wrong": wrong, "of": total, "95 % interval": [round(float(each), 4) for each in interval]}


def main() -> None:
    """Train or judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["train", "judge"])
    parser.add_argument("--task", default="section")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--most", type=int, default=600)
    parser.add_argument("--epochs", type=float, help="the recipe's when left out")
    given = parser.parse_args()
    configure_logging()
    if given.what == "train":
        train(given.task, given.out, minutes=given.minutes, most=given.most, epochs=given.epochs)
    else:
        print(json.dumps(judge_groups(given.task, given.out), indent=2))


if __name__ == "__main__":
    main()
