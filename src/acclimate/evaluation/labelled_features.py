"""The rows that the ledger reads of a table, and their features: chosen once for a task, the same for every encoder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from acclimate import kinds
from acclimate.data.labelled import TableSchema, read_rows
from acclimate.data.tokens.encoding import load_tokenizer, require_content
from acclimate.evaluation.draws import sampled_rows
from acclimate.evaluation.features import layer_features
from acclimate.evaluation.ledger import Split
from acclimate.evaluation.options import ProbeConfig

if TYPE_CHECKING:
    from acclimate.backbones.base import Backbone
    from acclimate.data.options import TaskConfig
    from acclimate.training.precision import Precision

POOL = ("train", "rest")
"""Training rows, and those that `max_train_rows` left out."""


@dataclass(frozen=True)
class Chosen:
    """Rows of a table."""

    name: str
    pool: pa.Table
    judged: pa.Table
    dev: pa.Table

    @property
    def pool_rows(self) -> int:
        """Labelled rows to draw from."""
        return int(self.pool.num_rows)

    @property
    def judged_rows(self) -> int:
        """Test rows."""
        return int(self.judged.num_rows)

    @property
    def num_rows(self) -> int:
        """Of which features are taken."""
        return self.pool_rows + self.judged_rows + int(self.dev.num_rows)


def choose_rows(table: Path, config: ProbeConfig, *, seed: int) -> Chosen | str:
    """At most as many labelled and test rows of a table as are asked for; why there is nothing to judge, where there is not.

    Raises:
        DataError: a split is damaged, or train is missing.
    """
    parts = {split: table / f"{split}.parquet" for split in (*POOL, "test", "dev")}
    rows = {split: read_rows(path) for split, path in parts.items() if split == "train" or path.exists()}
    pool = pa.concat_tables([rows[split] for split in POOL if split in rows], promote_options="default")
    judged, dev = (rows.get(split, pool.slice(0, 0)) for split in ("test", "dev"))
    if not judged.num_rows:
        return f"{table.name}: no test rows, so there is nothing to judge the probes on"
    if pool.num_rows < 2:
        return f"{table.name}: {pool.num_rows} labelled training rows; a probe needs 2"
    return Chosen(
        table.name,
        pool.take(sampled_rows(pool.num_rows, config.max_pool_rows, seed=seed, task=table.name)),
        judged.take(sampled_rows(judged.num_rows, config.max_judged_rows, seed=seed, task=table.name)),
        dev,
    )


def read_features(
    backbone: Backbone, schema: TableSchema, chosen: Chosen, encoder: Path, task: TaskConfig, precision: Precision
) -> tuple[Split, Split, Split | None]:
    """Features of every layer of the pool, of the judged and of the dev rows, each from one pass.

    Args:
        encoder: directory with tokenizer.json.
    """
    tokenizer, model = load_tokenizer(encoder), kinds.model(schema.kind)

    def split_of(rows: pa.Table, name: str) -> Split:
        encoded = model.encode(rows.to_pylist(), tokenizer, max_length=task.max_length, options=schema.options)
        require_content(encoded, rows["id"].to_pylist(), where=f"{chosen.name}: {name}")
        features = layer_features(backbone, encoded, pooling=task.pooling, pair=schema.pair, precision=precision)
        return Split(features, np.asarray(model.gold(rows["label"].to_pylist(), schema.labels)))

    return split_of(chosen.pool, "train"), split_of(chosen.judged, "test"), split_of(chosen.dev, "dev") if chosen.dev.num_rows else None
