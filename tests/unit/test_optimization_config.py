"""What params.yaml may say of optimizers, schedules and averages."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, get_args

import pytest

from acclimate.config import load_config
from acclimate.errors import ConfigError
from acclimate.params_file import read_yaml
from acclimate.training.averaging import WeightAverage
from acclimate.training.options import (
    AVERAGE_OPTIONS,
    SCHEDULE_OPTIONS,
    Average,
    OptimizationSection,
    OptimizerConfig,
    RecipeConfig,
    Schedule,
)
from acclimate.training.schedules import learning_rate_factor

ROOT = Path(__file__).parents[2]


def load_with(directory: Path, section: str, options: dict[str, Any]) -> Any:
    """The section of this project's params.yaml with `options` laid over it."""
    from ruamel.yaml import YAML

    values = read_yaml(ROOT / "params.yaml")
    if section == "finetune":
        values["finetune"].update(options)
    else:
        values["pretrain"]["optimizer"].update(options)
    with (directory / "params.yaml").open("w", encoding="utf-8") as file:
        YAML().dump(values, file)
    config = load_config(directory / "params.yaml")
    return config.recipe("full") if section == "finetune" else config.encoder("adapted").optimizer


@pytest.fixture(params=["finetune", "pretrain.optimizer"])
def section(request: pytest.FixtureRequest) -> str:
    return request.param


def test_the_defaults_are_those_from_before_there_was_a_choice() -> None:
    pretraining, finetuning = OptimizerConfig(learning_rate=1e-3), RecipeConfig(strategy="full")
    shared = {"weight_decay": 0.01, "clip_norm": 1.0, "schedule": "linear", "min_factor": 0.0, "average": "none"}
    for config in (pretraining, finetuning):
        assert {name: getattr(config, name) for name in shared} == shared
    assert (pretraining.name, pretraining.beta1, pretraining.beta2, pretraining.epsilon) == ("adamw", 0.9, 0.98, 1e-6)
    assert (finetuning.optimizer, finetuning.beta1, finetuning.beta2, finetuning.epsilon) == ("adamw", 0.9, 0.999, 1e-8)
    assert (pretraining.warmup_share, finetuning.warmup_share) == (0.06, 0.1)


@pytest.mark.parametrize(
    "options",
    [
        {"schedule": "polynomial", "power": 2.0, "min_factor": 0.1},
        {"schedule": "cyclical", "cycles": 4, "cycle_shape": "triangular"},
        {"schedule": "wsd", "decay_share": 0.3, "decay_shape": "linear", "average": "tail", "tail_share": 1.0},
        {"average": "ema", "ema_decay": 0.9},
    ],
)
def test_every_choice_may_be_made_in_both_sections(tmp_path: Path, section: str, options: dict[str, Any]) -> None:
    name = "optimizer" if section == "finetune" else "name"
    for optimizer in ("adamw", "stable_adamw"):
        config = load_with(tmp_path, section, {**options, name: optimizer})
        assert {key: getattr(config, key) for key in options} == options
        assert getattr(config, name) == optimizer


@pytest.mark.parametrize(
    ("options", "key", "message"),
    [
        ({"power": 2.0}, "power", "not read by schedule `linear`; remove it or choose one that reads it: polynomial"),
        (
            {"schedule": "constant", "min_factor": 0.1},
            "min_factor",
            ("not read by schedule `constant`; remove it or choose one that reads it: linear, cosine, polynomial, cyclical, wsd"),
        ),
        ({"schedule": "wsd", "cycles": 2}, "cycles", "not read by schedule `wsd`; remove it or choose one that reads it: cyclical"),
        ({"ema_decay": 0.9}, "ema_decay", "not read by average `none`; remove it or choose one that reads it: ema"),
        ({"average": "ema", "tail_share": 0.5}, "tail_share", "not read by average `ema`; remove it or choose one that reads it: tail"),
        (
            {"schedule": "wsd", "warmup_share": 0.4, "decay_share": 0.7},
            "decay_share",
            "`warmup_share` 0.4 and `decay_share` 0.7 together exceed 1",
        ),
    ],
)
def test_choices_that_do_not_go_together_are_refused_in_one_line(
    tmp_path: Path, section: str, options: dict[str, Any], key: str, message: str
) -> None:
    with pytest.raises(ConfigError) as error:
        load_with(tmp_path, section, options)
    assert str(error.value).splitlines()[1:] == [f"  {section}.{key}: {message} (given: {options[key]})"]


@pytest.mark.parametrize("value", [0, 0.0, -1e-4])
@pytest.mark.parametrize(
    ("section_of_rate", "name"),
    [("finetune", "learning_rate"), ("finetune", "head_learning_rate"), ("pretrain.optimizer", "learning_rate")],
)
def test_a_rate_that_teaches_nothing_is_refused_with_what_is_allowed(tmp_path: Path, section_of_rate: str, name: str, value: float) -> None:
    with pytest.raises(ConfigError) as error:
        load_with(tmp_path, section_of_rate, {name: value})
    assert str(error.value).splitlines()[1:] == [f"  {section_of_rate}.{name}: Input should be greater than 0 (given: {value!r})"]


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_a_rate_is_a_finite_number(tmp_path: Path, value: float) -> None:
    with pytest.raises(ConfigError, match=r"finetune\.learning_rate: Input should be"):
        load_with(tmp_path, "finetune", {"learning_rate": value})


def test_an_option_with_its_default_may_stand_beside_any_choice(section: str, tmp_path: Path) -> None:
    config = load_with(tmp_path, section, {"power": 1.0, "cycles": 1, "tail_share": 0.2, "schedule": "cosine"})
    assert type(config).model_validate(config.model_dump()) == config


def test_every_schedule_and_average_says_what_it_reads() -> None:
    assert tuple(SCHEDULE_OPTIONS) == get_args(Schedule)
    assert tuple(AVERAGE_OPTIONS) == get_args(Average)
    accepted = inspect.signature(learning_rate_factor).parameters
    read = {name for names in SCHEDULE_OPTIONS.values() for name in names}
    assert read == set(accepted) - {"step", "steps", "warmup_steps", "schedule"}
    fields = OptimizationSection.model_fields
    assert {name: accepted[name].default for name in read} == {name: fields[name].default for name in read}
    averaging = inspect.signature(WeightAverage).parameters
    for name in ("ema_decay", "tail_share"):
        assert averaging[name].default == fields[name].default


@pytest.mark.parametrize("schedule", get_args(Schedule))
def test_the_options_of_a_section_are_keywords_of_the_schedule(schedule: Schedule) -> None:
    config = RecipeConfig(strategy="full", schedule=schedule)
    assert learning_rate_factor(0, steps=10, warmup_steps=0, schedule=schedule, **config.schedule_options()) == 1.0
