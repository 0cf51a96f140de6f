"""What is kept of an encoder, whatever its checkpoint calls the weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from acclimate.sinks import MemorySink
from stages import retain
from stages.command import StageContext


def retain_run(directory: Path, **chosen: Any) -> None:
    """The stage, from `start` and `trained` to `out`; there are no tables."""
    encoder = {"start": "base", "objectives": "mlm", **chosen, "tokens": 10, "optimizer": {"learning_rate": 1e-3}}
    task = {"kind": "classification", "data": "t.csv", "text": "text", "label": "label"}
    written = {"seed": 0, "pretrain": {}, "encoders": {"x": encoder}, "runs": {"tasks": ["t"]}, "tasks": {"t": task}}
    context = StageContext("retain@x", MemorySink(), directory / "checkpoints", lambda: None)
    paths = {"start_from": directory / "start", "pretrain": directory / "trained", "out": directory / "out"}
    paths |= {"tables": directory / "no-tables", "verdict": directory}
    retain.run(retain.Params.model_validate(written), encoder_name="x", **paths, context=context)


@pytest.mark.parametrize("prefix", ["", "bert."])
def test_the_candidate_with_the_lowest_losses_is_kept(prefix: str, tiny_encoder_dir: Path, tmp_path: Path) -> None:
    start, trained, out = (tmp_path / name for name in ("start", "trained", "out"))
    for directory in (start, trained):
        shutil.copytree(tiny_encoder_dir, directory)
    out.mkdir()
    before = load_file(tiny_encoder_dir / "model.safetensors")
    save_file({prefix + name: tensor for name, tensor in before.items()}, start / "model.safetensors", {"format": "pt"})
    save_file({name: tensor + 1.0 for name, tensor in before.items()}, trained / "model.safetensors", {"format": "pt"})
    (start / "source.json").write_text("{}", encoding="utf-8")
    candidates = {"0.5": {"heldout_loss": 5.0, "general_loss": 6.0}, "1": {"heldout_loss": 4.0, "general_loss": 8.0}}
    metrics = {"candidates": candidates, "tokens": 10, "members": {"mlm": {}}}
    (trained / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    retain_run(tmp_path, retention={"weight_average": {"shares": [0.5, 1.0]}}, retain_by="loss")
    kept = load_file(out / "model.safetensors")
    assert json.loads((out / "retention.json").read_text(encoding="utf-8"))["chosen"] == "0.5"
    for name, tensor in before.items():
        torch.testing.assert_close(kept[name], tensor + 0.5)


@pytest.mark.parametrize("retention", [{}, {"weight_average": {"shares": [1.0]}}, {"weight_average": {"shares": [0.3]}}])
def test_a_single_candidate_is_kept_without_a_probe(retention: dict[str, Any], tiny_encoder_dir: Path, tmp_path: Path) -> None:
    """There are no tables to probe on."""
    for name in ("start", "trained"):
        shutil.copytree(tiny_encoder_dir, tmp_path / name)
    (tmp_path / "out").mkdir()
    (tmp_path / "start" / "source.json").write_text("{}", encoding="utf-8")
    (share,) = retention.get("weight_average", {"shares": [1]})["shares"]
    metrics = {"candidates": {f"{share:g}": {"heldout_loss": 5.0}}, "tokens": 10, "members": {"mlm": {}}}
    (tmp_path / "trained" / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    retain_run(tmp_path, retention=retention, retain_by="probe")
    told = json.loads((tmp_path / "out" / "retention.json").read_text(encoding="utf-8"))
    assert told["chosen"] == f"{share:g}" and "one candidate" in told["criterion"]
    assert told["candidates"] == [{"name": f"{share:g}", "score": -5.0, "tasks": {}, "heldout_loss": 5.0}]
