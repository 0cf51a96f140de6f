"""A prompt stands before every text, and must leave room for it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from acclimate.errors import ConfigError
from acclimate.strategies.prompt import Prompt
from tests.contract.made import RATES, fine_tuning


def test_the_prompt_changes_the_output_and_is_all_that_is_trained_beside_the_head(encoders: Path) -> None:
    plain, prompted = (fine_tuning(encoders, strategy=name) for name in ("full", "prompt"))
    batch = plain.streams.window(0)[0].batch
    inputs = (batch.ids_BT, batch.mask_BT, batch.type_ids_BT)
    with torch.no_grad():
        outputs = [made.trained.kept().eval()(*inputs) for made in (plain, prompted)]
    assert outputs[0].shape == outputs[1].shape and not torch.allclose(*outputs)
    listed = {id(parameter) for group in prompted.trained.groups(RATES) for parameter in group.parameters}
    names = {name for name, parameter in prompted.trained.named_parameters() if id(parameter) in listed}
    assert names == {"model.prompt.vectors_PD", "model.head.weight", "model.head.bias"}


def test_a_prompt_that_leaves_too_little_room_is_refused(encoders: Path) -> None:
    model = fine_tuning(encoders).trained.kept()
    with pytest.raises(ConfigError, match=r"strategy.prompt.length is 200, but texts of 24 tokens leave room for 104 in bert's 128"):
        Prompt(length=200).apply(model, torch.Generator())
