"""A params.yaml of before encoders and recipes is refused with the lines to write, and following them gives a valid one."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from acclimate.config import load_config, parse_config
from acclimate.errors import ConfigError
from acclimate.former_params import lines_to_write
from acclimate.params_file import read_yaml

PARAMS = Path(__file__).parents[2] / "params.yaml"
FORMER: dict[str, Any] = {
    "tokenize": {"tokens_per_row": 128},
    "tasks": {"section": {"kind": "classification", "data": "a.csv", "max_tokens": 64}},
    "pretrain": {
        "objective": "mlm",
        "objectives": {"mlm": {"rate": 0.2}},
        "max_tokens": 524288,
        "rows_per_batch": 32,
        "optimizer": {"learning_rate": 3e-4},
        "retention": {
            "method": "weight_average",
            "options": {"weight_average": {"shares": [0.5, 1.0]}},
            "criterion": "probe",
            "task": "section",
        },
    },
    "runs": {"tasks": ["section"], "encoders": ["base", "adapted"], "seeds": [0]},
    "finetune": {"strategy": "lora", "strategies": {"full": {}, "lora": {"rank": 8}}, "rows_per_batch": 32, "lr": 2e-4, "head_lr": 5e-3},
    "train": {"micro_rows": "auto"},
}


def test_each_former_key_is_one_line_with_what_to_write() -> None:
    assert lines_to_write(FORMER) == [
        "tokenize.tokens_per_row: write `sequence_length: 128`",
        "tasks.section.max_tokens: write `max_length: 64`",
        "pretrain.max_tokens: write `tokens: 524288`",
        "pretrain.rows_per_batch: write `batch_size: 32`",
        "finetune.rows_per_batch: write `batch_size: 32`",
        "finetune.lr: write `learning_rate: 0.0002`",
        "finetune.head_lr: write `head_learning_rate: 0.005`",
        "train.micro_rows: write `micro_batch_size: auto`",
        "pretrain.objective and pretrain.objectives: write `objectives: {mlm: {rate: 0.2}}`",
        "pretrain.retention.method and its options: write `retention: {weight_average: {shares: [0.5, 1.0]}}`",
        "pretrain.retention.criterion: write `retain_by: probe` in `pretrain`",
        "pretrain.retention.task: remove it; the probes look at every task of `runs`",
        "finetune.strategy and finetune.strategies: write `strategy: {lora: {rank: 8}}`",
        "runs.encoders: write `encoders: [base, mlm]`, and a section `encoders: {mlm: {start: base}}`",
        "finetune: write a section `recipes: {lora: {}}`, and in runs `recipes: [lora]`",
        "runs: write `reference: {encoder: base, recipe: lora}`",
    ]


def test_a_former_file_is_refused_by_these_lines_alone(tmp_path: Path) -> None:
    from ruamel.yaml import YAML

    with (tmp_path / "params.yaml").open("w", encoding="utf-8") as file:
        YAML().dump(FORMER, file)
    with pytest.raises(ConfigError) as error:
        load_config(tmp_path / "params.yaml")
    assert [line.strip() for line in str(error.value).splitlines()[1:]] == lines_to_write(FORMER)


def test_what_the_lines_say_is_valid() -> None:
    new = copy.deepcopy(read_yaml(PARAMS))
    new["pretrain"] = {
        "objectives": {"mlm": {"rate": 0.2}},
        "retention": {"weight_average": {"shares": [0.5, 1.0]}},
        "retain_by": "probe",
        "tokens": 524288,
        "batch_size": 32,
        "optimizer": {"learning_rate": 3e-4},
    }
    new |= {"encoders": {"mlm": {"start": "base"}}, "probe": {}}
    new["finetune"] = {"strategy": {"lora": {"rank": 8}}, "batch_size": 32, "learning_rate": 2e-4, "head_learning_rate": 5e-3}
    new["recipes"] = {"lora": {}}
    new["runs"] |= {"encoders": ["base", "mlm"], "recipes": ["lora"], "reference": {"encoder": "base", "recipe": "lora"}}
    assert parse_config(new, file=PARAMS).recipe("lora").strategy.name == "lora"


def test_a_params_yaml_of_today_gives_no_line() -> None:
    for file in PARAMS.parent.glob("params*.yaml"):
        assert lines_to_write(read_yaml(file)) == []


@pytest.mark.parametrize("odd", [None, 3, "x", [], [1], {"a": 1}, {1: {}}])
@pytest.mark.parametrize("section", [*FORMER, "encoders", "recipes"])
def test_sections_that_are_no_sections_are_left_to_the_check(section: str, odd: Any) -> None:
    assert isinstance(lines_to_write({**FORMER, section: odd}), list)
