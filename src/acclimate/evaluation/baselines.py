"""What any encoder must beat: a simple model, on exactly the same rows, scored by the same metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acclimate import kinds
from acclimate.data.labelled import read_rows
from acclimate.errors import DataError
from acclimate.evaluation.metrics import goodness, score

_SPLITS = ("train", "dev", "test")


@dataclass(frozen=True)
class Baseline:
    """A baseline's dev and test scores, its test predictions, and the penalty that dev chose."""

    description: str
    scores: dict[str, dict[str, float]]
    test_gold: Any
    test_predictions: Any
    inverse_penalty: float | None


def fit_baseline(table: Path, kind: str, labels: Sequence[str] | None, *, metric: str) -> Baseline:
    """Fit on the train rows of an ingested table, choose on dev, score dev and test.

    Args:
        table: directory with train.parquet, dev.parquet and test.parquet.
        metric: decides between penalties on dev.

    Raises:
        DataError: a split is missing or empty.
    """
    baseline, model = kinds.baseline(kind), kinds.model(kind)
    rows = {split: _read(table / f"{split}.parquet") for split in _SPLITS}
    gold = {split: model.gold(columns["label"], labels) for split, columns in rows.items()}
    scored = [
        Baseline(
            baseline.description,
            {split: score(kind, gold[split], predictions[split], labels=labels) for split in ("dev", "test")},
            gold["test"],
            predictions["test"],
            inverse_penalty,
        )
        for inverse_penalty, predictions in baseline.candidates(rows, gold, labels)
    ]
    return max(scored, key=lambda found: goodness(found.scores["dev"], kind, metric))


def _read(path: Path) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = read_rows(path).to_pydict()
    if not columns["id"]:
        raise DataError(f"{path}: no rows; a baseline needs train, dev and test rows")
    return columns
