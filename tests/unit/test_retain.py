"""What is kept of an encoder, whatever its checkpoint calls the weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from acclimate.sinks import MemorySink
from stages import retain
from stages.command import StageContext


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
    encoder = {
        "start": "base",
        "objectives": "mlm",
        "retention": {"weight_average": {"shares": [0.5, 1.0]}},
        "retain_by": "loss",
        "tokens": 10,
        "optimizer": {"learning_rate": 1e-3},
    }
    runs = {"tasks": ["t"]}
    params = retain.Params.model_validate({"seed": 0, "pretrain": {}, "encoders": {"x": encoder}, "runs": runs, "tasks": {}})
    context = StageContext("retain@x", MemorySink(), tmp_path / "checkpoints", lambda: None)
    paths = {"start_from": start, "pretrain": trained, "tables": tmp_path, "verdict": tmp_path, "out": out}
    retain.run(params, encoder_name="x", **paths, context=context)
    kept = load_file(out / "model.safetensors")
    assert json.loads((out / "retention.json").read_text(encoding="utf-8"))["chosen"] == "0.5"
    for name, tensor in before.items():
        torch.testing.assert_close(kept[name], tensor + 0.5)
