"""The encoder with random weights: shaped and tokenized like the base, and nothing of its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from acclimate.artifacts import files_md5, read_json
from acclimate.backbones.loading import load_backbone
from acclimate.backbones.options import ModelConfig
from acclimate.backbones.scratch import write_scratch
from acclimate.backbones.source import copy_backbone
from tests.tiny_models import SETTINGS, write_tiny_model
from tests.unit.backbones.test_source import write_tokenizer


@pytest.fixture
def base(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A tiny base of the architecture that the test names, as the stage `backbone` keeps it."""
    for name in ("model", "base"):
        (tmp_path / name).mkdir()
    write_tiny_model(request.param, tmp_path / "model")
    write_tokenizer(tmp_path / "model", 120)
    copy_backbone(ModelConfig(source="path", name=str(tmp_path / "model")), tmp_path / "base", code_of=str)
    return tmp_path / "base"


def written(base: Path, name: str, seed: int) -> Path:
    out = base.parent / name
    out.mkdir()
    write_scratch(base, out, seed=seed)
    return out


def settings(directory: Path) -> dict[str, Any]:
    """What config.json says of the architecture."""
    of_the_file = ("architectures", "dtype", "torch_dtype")
    return {name: value for name, value in read_json(directory / "config.json").items() if name not in of_the_file}


@pytest.mark.parametrize("base", SETTINGS, indirect=True)
def test_it_is_like_the_base_in_all_but_its_weights(base: Path) -> None:
    before = torch.random.get_rng_state()
    found, again, other = written(base, "found", 3), written(base, "again", 3), written(base, "other", 4)
    assert torch.equal(torch.random.get_rng_state(), before), "the caller's own draws stay the same"
    assert files_md5(found) == files_md5(again)
    assert (found / "tokenizer.json").read_bytes() == (base / "tokenizer.json").read_bytes()
    assert settings(found) == settings(base)
    weights, unlike = (load_file(each / "model.safetensors") for each in (found, other))
    ours, named = (load_backbone(each).model.state_dict() for each in (found, base))
    assert {name: tensor.shape for name, tensor in ours.items()} == {name: tensor.shape for name, tensor in named.items()}
    for name, tensor in weights.items():
        assert tensor.dtype == torch.float32
        if tensor.ndim > 1 and tensor.numel() > 64:
            assert not torch.equal(tensor, unlike[name]), name
            assert not torch.allclose(tensor, named[name]), name
            assert 0 < tensor.std() < 1.5, name


@pytest.mark.parametrize("base", ["bert"], indirect=True)
def test_its_note_names_no_weights_but_where_config_and_tokenizer_are_from(base: Path) -> None:
    told, of_base = read_json(written(base, "found", 3) / "source.json"), read_json(base / "source.json")
    assert (told["source"], told["seed"], told["family"]) == ("random weights", 3, of_base["family"])
    assert told["config_of"]["name"] == of_base["name"]
    assert told["config_of"]["sha256"] == {name: of_base["sha256"][name] for name in ("config", "tokenizer")}
    assert of_base["sha256"]["weights"] not in (base.parent / "found" / "source.json").read_text()
