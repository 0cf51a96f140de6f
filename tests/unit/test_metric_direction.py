"""Early stopping asks the metric which way is better; the share that retention keeps does so in evaluation/test_probes.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from acclimate.sinks import MemorySink
from stages import finetune
from stages.command import StageContext


@pytest.mark.parametrize(("metric", "maximize"), [("rmse", False), ("spearman", True)])
def test_early_stopping_waits_for_a_lower_error(
    metric: str, maximize: bool, tiny_encoder_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema = {"name": "toy", "kind": "regression", "labels": None, "pair": False, "metric": metric}
    (tmp_path / "schema.json").write_text(json.dumps(schema))
    for split in ("train", "dev", "test"):
        rows = {"id": ["x", "y"], "text": ["a text", "another"], "label": [1.0, 2.0]}
        pq.write_table(pa.table(rows), tmp_path / f"{split}.parquet")

    def stop_before_training(*_: Any, config: Any, **__: Any) -> Any:
        raise InterruptedError(config.health.watch, config.health.maximize)

    monkeypatch.setattr(finetune, "fit", stop_before_training)
    params = finetune.Params.model_validate(
        {"finetune": {}, "recipes": {"full": {"strategy": "full"}}, "tasks": {"toy": {"kind": "regression", "data": "x", "metric": metric}}}
    )
    context = StageContext("finetune@toy", MemorySink(), tmp_path / "checkpoints", lambda: None)
    with pytest.raises(InterruptedError) as caught:
        finetune.run(
            params,
            task="toy",
            encoder_name="base",
            recipe="full",
            seed=0,
            encoder=tiny_encoder_dir,
            table=tmp_path,
            verdict=tmp_path,
            out=tmp_path,
            context=context,
        )
    assert caught.value.args == (f"dev/{metric}", maximize)
