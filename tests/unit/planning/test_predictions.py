"""Which predictions a stage may compare itself with."""

from __future__ import annotations

from pathlib import Path

import pytest

from acclimate.config import Config
from acclimate.params_file import read_yaml
from acclimate.planning.estimate import Memory, StageEstimate
from acclimate.planning.planner import Plan, PlannedStage, write_plan
from acclimate.planning.predictions import fingerprint, predicted, stage_key

ROOT = Path(__file__).parents[3]
RECORD = {"device": "cpu", "threads": 2, "processes": 1}


def config(**changes) -> Config:
    raw = read_yaml(ROOT / "params.yaml")
    for path, value in changes.items():
        section, name = path.split("__")
        raw.setdefault(section, {})[name] = value
    return Config(**raw)


@pytest.fixture
def plan(tmp_path):
    """A plan of pretraining and of one task of the default params."""
    estimate = StageEstimate(Memory(900, 1000, 500, 32, 32), "cpu", 2, 1, 128, 1.0, {"start": 4.0, "steps": 128.0}, peak_rss_mb=900.04)
    stages = [
        PlannedStage(None, ["pretrain"], estimate, []),
        PlannedStage("entities", ["finetune@entities-base-0", "finetune@entities-adapted-0"], estimate, []),
    ]
    path = tmp_path / "plan.json"
    write_plan(Plan(stages, [], "free", None, 1.0), config(), path)
    return path


def test_a_stage_finds_its_prediction_under_either_template_of_the_dag(plan):
    wanted = {"predicted_wall_s": 132.0, "predicted_peak_rss_mb": 900.0}
    assert predicted(config(), "pretrain", RECORD, task=None, plan=plan) == wanted
    assert predicted(config(), "finetune-once@entities-base-0", RECORD, task="entities", plan=plan) == wanted
    assert stage_key("finetune-once@entities-base-0") == stage_key("finetune@entities-base-0")


def test_no_plan_and_no_such_stage_give_nothing(plan, tmp_path):
    assert predicted(config(), "pretrain", RECORD, task=None, plan=tmp_path / "none.json") == {}
    assert predicted(config(), "export@section", {}, task="section", plan=plan) == {}
    plan.write_text("{half")
    assert predicted(config(), "pretrain", RECORD, task=None, plan=plan) == {}


@pytest.mark.parametrize("other", [{"threads": 1}, {"device": "cuda"}, {"processes": 2}])
def test_a_prediction_for_another_machine_is_not_used(plan, other):
    assert predicted(config(), "pretrain", {**RECORD, **other}, task=None, plan=plan) == {}


def test_a_prediction_for_other_params_is_not_used(plan):
    changed = config(finetune__epochs=2)
    assert predicted(changed, "finetune@entities-base-0", RECORD, task="entities", plan=plan) == {}
    assert predicted(changed, "pretrain", RECORD, task=None, plan=plan)  # which does not read it


def test_the_price_and_the_seeds_change_no_fingerprint_and_the_rows_at_once_do():
    for task in (None, "section"):
        plain = fingerprint(config(), task=task)
        assert fingerprint(config(train__price_per_hour=2.0, runs__seeds=[0, 1, 2, 3]), task=task) == plain
        assert fingerprint(config(train__micro_rows=4), task=task) != plain
