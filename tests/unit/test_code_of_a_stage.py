"""What a checkpoint's name says of the code, and the refusal of code that DVC was not told of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from acclimate.code import Code, as_yaml
from acclimate.config import load_config
from acclimate.errors import ConfigError
from stages import command, finetune, pretrain
from stages.command import code_digests, fingerprint, select_params

ROOT = Path(__file__).parents[2]
CONFIG = load_config(ROOT / "params.yaml")


def finetuning(recipe: str = "full", task: str = "section") -> Any:
    return select_params(CONFIG, finetune.Params, {"recipe": recipe, "task": task, "encoder_name": "adapted"})


def test_a_stage_has_the_code_of_its_own_recipe_and_task_alone() -> None:
    found = code_digests(finetune.run, finetuning())
    assert {section: list(entries) for section, entries in found.items()} == {
        "stages": ["finetune"],
        "recipes": ["full"],
        "tasks": ["section"],
    }
    made = code_digests(pretrain.run, select_params(CONFIG, pretrain.Params, {"encoder_name": "adapted"}))
    assert {section: list(entries) for section, entries in made.items()} == {"stages": ["pretrain"], "encoders": ["adapted"]}


def test_it_is_what_the_lock_holds() -> None:
    lock = Code(stages=ROOT / "stages").digests(CONFIG)
    found = code_digests(finetune.run, finetuning())
    assert all(lock[section][name] == digest for section, entries in found.items() for name, digest in entries.items())


def test_checkpoints_of_other_recipes_and_inputs_have_other_names() -> None:
    name = "finetune@section-mlm-full-0"
    found = {
        fingerprint(finetune.run, name, params, inputs)
        for params in (finetuning(), finetuning("lora"), finetuning(task="entities"))
        for inputs in ({"encoder": "1"}, {"encoder": "2"})
    }
    assert len(found) == 6
    assert all(each.startswith("finetune-section-mlm-full-0-") for each in found)


def test_an_unknown_recipe_is_named_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="'ful' is not defined under `recipes`; did you mean 'full'"):
        finetuning("ful")


def test_under_dvc_code_that_was_changed_after_the_lock_was_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lock = Code(stages=ROOT / "stages").digests(CONFIG)
    Path("code.lock.yaml").write_text(as_yaml(lock), encoding="utf-8")
    monkeypatch.setenv("DVC_STAGE", "finetune@section-mlm-full-0")
    command._check_code(finetune.run, finetuning())
    lock["recipes"]["full"] = "another"
    Path("code.lock.yaml").write_text(as_yaml(lock), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"code\.lock\.yaml: the code was changed after it was written \(recipes\.full\); run the same"):
        command._check_code(finetune.run, finetuning())
    monkeypatch.delenv("DVC_STAGE")
    command._check_code(finetune.run, finetuning())  # by hand one may run what one has just changed
