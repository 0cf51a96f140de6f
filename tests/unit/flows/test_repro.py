"""What DVC's output means: what it did, and whether trying again may help."""

from __future__ import annotations

import io

import pytest

from acclimate.errors import ConfigError
from flows.overrides import Overrides
from flows.pipeline import parse_values
from flows.repro import _failure, _lines, outcome_of


@pytest.mark.parametrize(
    ("line", "outcome"),
    [
        ("Running stage 'ingest':", "ran"),
        ("Stage 'ingest' is cached - skipping run, checking out outputs", "restored"),
        ("Stage 'ingest' didn't change, skipping", "unchanged"),
    ],
)
def test_outcomes_are_read_from_what_dvc_prints(line, outcome):
    assert outcome_of([line]) == outcome


@pytest.mark.parametrize(
    ("line", "may_pass"),
    [
        ("failed to run: python -m stages.x, exited with 75", True),
        ("failed to run: python -m stages.x, exited with -9", True),
        ("failed to run: python -m stages.x, exited with 137", True),
        ("ERROR: '/p/artifacts/x' is busy, it is being blocked by:", True),
        ("failed to run: python -m stages.x, exited with 1", False),
        ("failed to run: python -m stages.x, exited with -2", False),
        ("failed to run: python -m stages.x, exited with 130", False),
        ("ERROR: invalid dvc.yaml", False),
    ],
)
def test_only_what_may_pass_next_time_is_tried_again(line, may_pass):
    assert _failure("x", 255, [line]).may_pass is may_pass


def test_of_a_progress_bar_only_the_last_state_is_logged():
    assert list(_lines(io.BytesIO(b"one\n10%\r50%\r100%\n\ntwo"))) == ["one", "100%", "two"]


def test_the_form_names_values_by_their_path():
    overrides = Overrides(finetune_learning_rate=2e-4, seeds=[1], recipes=["full"], params={"tokenize.sequence_length": 64})
    assert overrides.by_path() == {
        "runs.recipes": ["full"],
        "finetune.learning_rate": 2e-4,
        "runs.seeds": [1],
        "tokenize.sequence_length": 64,
    }
    assert Overrides().by_path() == {}


def test_values_on_the_command_line_are_yaml():
    assert parse_values(["train.x=2e-4", "runs.seeds=[0, 1]", "a.b=text"]) == {"train.x": 2e-4, "runs.seeds": [0, 1], "a.b": "text"}
    with pytest.raises(ConfigError, match="expected PATH=VALUE"):
        parse_values(["train.x"])
