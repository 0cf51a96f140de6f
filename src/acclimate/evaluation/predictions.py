"""Predictions that fine-tuning kept, read back for scoring."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acclimate.errors import DataError

PREDICTIONS = "predictions.parquet"


@dataclass(frozen=True)
class Predictions:
    """Rows of one split; `gold` and `predictions` as `metrics.score` takes them."""

    ids: list[str]
    gold: Any
    predictions: Any


def read_predictions(directory: Path) -> dict[str, Predictions]:
    """Read the predictions of a fine-tuned run, by split.

    Raises:
        DataError: the run is missing, or a split has no rows.
    """
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    path = directory / PREDICTIONS
    if not path.is_file():
        raise DataError(f"{path}: no such file; params.yaml (runs) names this run, but it was not fine-tuned")
    table = pq.read_table(path)
    splits = {}
    for split in ("dev", "test"):
        rows = table.filter(pc.equal(table["split"], split))
        if rows.num_rows == 0:
            raise DataError(f"{path}: no predictions for the {split} split")
        splits[split] = Predictions(rows["id"].to_pylist(), rows["gold"].to_numpy(), rows["prediction"].to_numpy())
    return splits


def require_same_rows(predictions: dict[str, Predictions]) -> None:
    """Refuse to compare runs over different rows.

    Args:
        predictions: one split's predictions, by run.

    Raises:
        DataError: names the two runs that differ.
    """
    first_name, first = next(iter(predictions.items()))
    for name, other in predictions.items():
        if other.ids != first.ids:
            raise DataError(
                f"{name} and {first_name} predict different rows ({len(other.ids)} and {len(first.ids)}); fine-tune both on one table"
            )
