"""Objectives that fit neither the text nor the encoder are refused before a weight is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from acclimate.config import load_config
from acclimate.errors import ConfigError
from acclimate.params_file import read_yaml
from acclimate.training.distributed import World
from acclimate.training.options import EncoderConfig
from acclimate.training.precision import Precision
from acclimate.training.pretraining import read_pretraining, require_fit

ROOT = Path(__file__).parents[3]


def encoder(objective: str, batch_size: int, **own: Any) -> EncoderConfig:
    shared = {"start": "base", "objectives": objective, "tokens": 100, "batch_size": batch_size, "optimizer": {"learning_rate": 1e-3}}
    return EncoderConfig.model_validate({**shared, **own})


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    """Ten rows of eight tokens: one document of 74 tokens, three of 2."""
    write_split(tmp_path, "corpus", np.arange(80), [0, 74, 76, 78, 80])
    (tmp_path / "index.json").write_text(json.dumps({"sequence_length": 8}), encoding="utf-8")
    return tmp_path


def write_split(directory: Path, name: str, ids: np.ndarray, offsets: list[int]) -> None:
    np.save(directory / f"{name}.ids.npy", ids.astype(np.uint16))
    np.save(directory / f"{name}.document_offsets.npy", np.array(offsets))
    np.save(directory / f"{name}.word_starts.npy", np.packbits(np.ones(len(ids), dtype=bool)))


@pytest.mark.parametrize(
    ("objective", "batch_size", "said"),
    [
        ("mlm", 11, r"encoders.x.objectives.mlm: a batch has 11 rows \(batch_size\), but ingest.corpus has 10 rows"),
        (
            "halves",
            2,
            r"encoders.x.objectives.halves: a batch has 2 rows \(batch_size\), but ingest.corpus has 1 documents of 8 tokens or more",
        ),
        ("span_corruption", 1, r"needs a backbone of the shape encoder_decoder; bert is of the shape encoder"),
    ],
)
def test_what_does_not_fit_is_named(objective: str, batch_size: int, said: str, tokens: Path, tiny_encoder_dir: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        require_fit(encoder(objective, batch_size), "x", tokens, tiny_encoder_dir)


def test_what_fits_is_taken(tokens: Path, tiny_encoder_dir: Path) -> None:
    require_fit(encoder("mlm", 10), "x", tokens, tiny_encoder_dir)
    require_fit(encoder("halves", 1), "x", tokens, tiny_encoder_dir)


def test_a_control_differs_from_the_adapted_encoder_in_what_it_is_trained_on_alone(tokens: Path, tiny_encoder_dir: Path) -> None:
    """The losses and the heads' statistics are of the same text."""
    for name, first in (("heldout", 100), ("general", 200), ("other", 300)):
        write_split(tokens, name, np.arange(first, first + 40), [0, 40])
    np.save(tokens / "unigram.npy", np.arange(30522))
    given = {"pad_id": 0, "seed": 0, "precision": Precision("fp32", "cpu"), "world": World()}
    adapted, control = (
        read_pretraining(encoder("mlm", 4, text=text), "x", tokens, tiny_encoder_dir, **given) for text in ("corpus", "other")
    )
    assert (adapted.text.ids[0, 0], control.text.ids[0, 0]) == (0, 300)
    assert adapted.steps == control.steps
    for same in ("heldout", "general"):
        assert np.array_equal(getattr(adapted, same).ids, getattr(control, same).ids)
    assert np.array_equal(adapted.facts.unigram_V, control.facts.unigram_V)


def test_too_little_other_text_is_named(tokens: Path, tiny_encoder_dir: Path) -> None:
    write_split(tokens, "other", np.arange(24), [0, 24])
    require_fit(encoder("mlm", 3, text="other"), "x", tokens, tiny_encoder_dir)
    with pytest.raises(ConfigError, match=r"encoders.x.objectives.mlm: a batch has 4 rows \(batch_size\), but ingest.other has 3 rows"):
        require_fit(encoder("mlm", 4, text="other"), "x", tokens, tiny_encoder_dir)


def test_rows_that_need_each_other_are_not_parted_over_processes(tmp_path: Path) -> None:
    from ruamel.yaml import YAML

    values = read_yaml(ROOT / "params.yaml")
    values["encoders"]["halves"] = {"start": "adapted", "objectives": "halves"}
    values["pretrain"]["objectives"] = "mlm"
    for processes in (1, 2):
        values["train"] = {"launch": {"processes": processes}}
        with (tmp_path / "params.yaml").open("w", encoding="utf-8") as file:
            YAML().dump(values, file)
        if processes == 1:
            load_config(tmp_path / "params.yaml")
    with pytest.raises(ConfigError, match=r"encoders.halves.objectives.halves: the rows of a batch need each other, and train.launch"):
        load_config(tmp_path / "params.yaml")
