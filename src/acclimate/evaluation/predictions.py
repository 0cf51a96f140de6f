"""Predictions that fine-tuning kept, read back for scoring."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from acclimate.errors import DataError

PREDICTIONS = "predictions.parquet"
_COLUMNS = ["split", "id", "gold", "prediction"]
_IDS_SHOWN = 5


@dataclass(frozen=True)
class Predictions:
    """Rows of one split; `gold` and `predictions` as `metrics.score` takes them."""

    ids: list[str]
    gold: Any
    predictions: Any


def read_predictions(directory: Path) -> dict[str, Predictions]:
    """Read the predictions of a fine-tuned run, by split.

    Raises:
        DataError: the run is missing or damaged, or a split has no rows.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    path = directory / PREDICTIONS
    if not path.is_file():
        raise DataError(f"{path}: no such file; params.yaml (runs) names this run, but it was not fine-tuned")
    try:
        table = pq.read_table(path, columns=_COLUMNS)
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{path}: {str(error).splitlines()[0]}; fine-tune this run again") from None
    if missing := [name for name in _COLUMNS if name not in table.column_names or table[name].null_count]:
        raise DataError(f"{path}: no value in each row of {' and '.join(missing)}; fine-tune this run again")
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
                f"{name} and {first_name} predict different test rows: {_difference(other.ids, first.ids)}; fine-tune both on one table"
            )
        for row_id, gold, first_gold in zip(other.ids, other.gold, first.gold, strict=True):
            if not np.array_equal(gold, first_gold):
                raise DataError(
                    f"{name} and {first_name} have different gold labels of the test row {row_id!r}; fine-tune both on one table"
                )


def _difference(left: list[str], right: list[str]) -> str:
    """How two lists of ids differ: `2 of 5 and 3 of 6 ids are only on one side: 'a', 'b', ...`."""
    only_left, only_right = ([each for each in side if each not in other] for side, other in ((left, set(right)), (right, set(left))))
    differing = [*only_left, *only_right]
    if not differing:
        place = next((row for row, pair in enumerate(zip(left, right, strict=False)) if pair[0] != pair[1]), min(len(left), len(right)))
        return f"the same ids in another order or number ({len(left)} and {len(right)}), from row {place} on"
    shown = ", ".join(map(repr, differing[:_IDS_SHOWN])) + (", ..." if len(differing) > _IDS_SHOWN else "")
    return f"{len(only_left)} of {len(left)} and {len(only_right)} of {len(right)} ids are on one side only: {shown}"
