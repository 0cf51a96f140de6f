"""An adapter starts as the plain model, is small on disk, and names where it does not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from acclimate.errors import ConfigError
from acclimate.strategies.adapter import Adapter
from acclimate.training.task_model import save_task_model
from tests.contract.made import RATES, fine_tuning


def test_it_starts_as_the_plain_model_and_saves_the_base_as_it_was(encoders: Path, tmp_path: Path) -> None:
    plain, adapted = (fine_tuning(encoders, strategy=name) for name in ("full", "adapter"))
    batch = plain.streams.window(0)[0].batch
    inputs = (batch.ids_BT, batch.mask_BT, batch.type_ids_BT)
    with torch.no_grad():
        assert torch.equal(adapted.trained.kept().eval()(*inputs), plain.trained.kept().eval()(*inputs))
    save_task_model(adapted.trained.kept(), encoders / "encoder", tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == saved_plain(plain, encoders, tmp_path)
    listed = {id(parameter) for group in adapted.trained.groups(RATES) for parameter in group.parameters}
    names = [name for name, parameter in adapted.trained.named_parameters() if id(parameter) in listed]
    assert all(any(part in name for part in ("down", "up", "LayerNorm", "head")) for name in names)


def saved_plain(plain, encoders: Path, directory: Path) -> bytes:
    (directory / "plain").mkdir()
    save_task_model(plain.trained.kept(), encoders / "encoder", directory / "plain")
    return (directory / "plain" / "model.safetensors").read_bytes()


def test_a_target_that_no_layer_has_is_named_with_those_that_there_are(encoders: Path) -> None:
    model = fine_tuning(encoders).trained.kept()
    with pytest.raises(ConfigError, match=r"strategy.adapter.targets: no linear layer ends in nowhere; there are: .*output.dense"):
        Adapter(targets=["nowhere"]).apply(model, torch.Generator())
