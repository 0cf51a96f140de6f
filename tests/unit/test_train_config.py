"""What params.yaml may say of how training runs, held against what it trains."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from acclimate.config import Config, load_config, parse_config
from acclimate.errors import ConfigError
from acclimate.params_file import read_yaml

ROOT = Path(__file__).parents[2]


def load_with(directory: Path, **train: Any) -> Config:
    """This project's params.yaml with batches of 32 and 16 rows, and a section `train`."""
    from ruamel.yaml import YAML

    values = read_yaml(ROOT / "params.yaml")
    values["pretrain"]["batch_size"], values["finetune"]["batch_size"] = 32, 16
    values["pretrain"]["objectives"] = "mlm"  # its rows can be shared out
    values |= {"encoders": {"mlm": {"start": "base"}}, "probe": {}, "train": train}
    values["runs"]["encoders"] = ["base", "mlm"]
    with (directory / "params.yaml").open("w", encoding="utf-8") as file:
        YAML().dump(values, file)
    return load_config(directory / "params.yaml")


def refused(directory: Path, **train: Any) -> list[str]:
    with pytest.raises(ConfigError) as error:
        load_with(directory, **train)
    return str(error.value).splitlines()[1:]


@pytest.mark.parametrize("micro_rows", ["auto", 1, 16, 17, 32])
def test_micro_rows_up_to_a_batch_are_taken(micro_rows: Any, tmp_path: Path) -> None:
    assert load_with(tmp_path, micro_batch_size=micro_rows).train.micro_batch_size == micro_rows


def test_micro_rows_beyond_every_batch_are_refused(tmp_path: Path) -> None:
    said = "33 rows at once, but no batch has so many (encoders.mlm.batch_size 32, recipes.full.batch_size 16, recipes.lora.batch_size 16)"
    assert refused(tmp_path, micro_batch_size=33) == [f"  train.micro_batch_size: {said}; `auto` computes a whole batch"]


def test_no_micro_rows_are_refused(tmp_path: Path) -> None:
    assert all("train.micro_batch_size" in line for line in refused(tmp_path, micro_batch_size=0))


WHOLE_NUMBERS = [
    ("seed",),
    ("pretrain", "batch_size"),
    ("finetune", "max_length"),
    ("runs", "seeds"),
    ("train", "micro_batch_size"),
    ("train", "launch", "processes"),
]


@pytest.mark.parametrize("digits", [19, 30, 5000], ids=lambda digits: f"{digits} digits")
@pytest.mark.parametrize("place", WHOLE_NUMBERS, ids=".".join)
def test_a_whole_number_beyond_64_bits_is_refused(place: tuple[str, ...], digits: int) -> None:
    values = section = copy.deepcopy(read_yaml(ROOT / "params.yaml"))
    for key in place[:-1]:
        section = section.setdefault(key, {})
    section[place[-1]] = [10**digits] if place[-1] == "seeds" else 10**digits
    with pytest.raises(ConfigError) as error:
        parse_config(values, file=Path("params.yaml"))
    assert any(line.strip().startswith(".".join(place)) for line in str(error.value).splitlines())
    assert all(len(line) < 400 for line in str(error.value).splitlines())


def test_more_processes_than_rows_of_a_batch_are_refused_before_any_is_started(tmp_path: Path) -> None:
    of_recipes = "recipes.full.batch_size 16, recipes.lora.batch_size 16"
    assert load_with(tmp_path, launch={"processes": 16}).train.launch.processes == 16
    assert refused(tmp_path, launch={"processes": 17}) == [
        f"  train.launch: 17 processes share batches of fewer rows: {of_recipes}; raise it or start fewer processes"
    ]
    both = refused(tmp_path, launch={"processes": 17, "nodes": 2, "rendezvous": "first:29500"})
    assert [line.split(": ", 1)[1].split(";")[0] for line in both] == [
        f"34 processes share batches of fewer rows: encoders.mlm.batch_size 32, {of_recipes}"
    ]
