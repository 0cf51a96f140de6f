"""Objectives that fit neither the text nor the encoder are refused before a weight is loaded."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from acclimate.config import load_config
from acclimate.errors import ConfigError
from acclimate.params_file import read_yaml
from acclimate.training.options import EncoderConfig
from acclimate.training.pretraining import require_fit

ROOT = Path(__file__).parents[3]


def encoder(objective: str, batch_size: int) -> EncoderConfig:
    return EncoderConfig.model_validate(
        {"start": "base", "objectives": objective, "tokens": 100, "batch_size": batch_size, "optimizer": {"learning_rate": 1e-3}}
    )


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    """Ten rows of eight tokens: one document of 74 tokens, three of 2."""
    np.save(tmp_path / "corpus.ids.npy", np.arange(80, dtype=np.uint16))
    np.save(tmp_path / "corpus.document_offsets.npy", np.array([0, 74, 76, 78, 80]))
    np.save(tmp_path / "corpus.word_starts.npy", np.packbits(np.ones(80, dtype=bool)))
    (tmp_path / "index.json").write_text(json.dumps({"sequence_length": 8}), encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("objective", "batch_size", "said"),
    [
        ("mlm", 11, r"encoders.x.objectives.mlm: a batch has 11 rows \(batch_size\), but the text has 10 rows"),
        ("halves", 2, r"encoders.x.objectives.halves: a batch has 2 rows \(batch_size\), but the text has 1 documents of 8 tokens or more"),
        ("span_corruption", 1, r"needs a backbone of the shape encoder_decoder; bert is of the shape encoder"),
    ],
)
def test_what_does_not_fit_is_named(objective: str, batch_size: int, said: str, tokens: Path, tiny_encoder_dir: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        require_fit(encoder(objective, batch_size), "x", tokens, tiny_encoder_dir)


def test_what_fits_is_taken(tokens: Path, tiny_encoder_dir: Path) -> None:
    require_fit(encoder("mlm", 10), "x", tokens, tiny_encoder_dir)
    require_fit(encoder("halves", 1), "x", tokens, tiny_encoder_dir)


def test_rows_that_need_each_other_are_not_parted_over_processes(tmp_path: Path) -> None:
    from ruamel.yaml import YAML

    values = read_yaml(ROOT / "params.yaml")
    values["encoders"]["halves"] = {"start": "mlm", "objectives": "halves"}
    for processes in (1, 2):
        values["train"] = {"launch": {"processes": processes}}
        with (tmp_path / "params.yaml").open("w", encoding="utf-8") as file:
            YAML().dump(values, file)
        if processes == 1:
            load_config(tmp_path / "params.yaml")
    with pytest.raises(ConfigError, match=r"encoders.halves.objectives.halves: the rows of a batch need each other, and train.launch"):
        load_config(tmp_path / "params.yaml")
