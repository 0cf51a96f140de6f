"""Small inputs as people reported them in public, with invented content: each is read, or refused in clear lines.

`case.yaml` says the situation, what is right, the sections of params.yaml, and where the input ends: it `passes`, or `check` or `ingest`
refuses it. `says` lists what the messages must hold, log lines included. Where `right.py` stands beside it, its `check(out, said)` asserts
the right values of what ingest wrote.
"""

from __future__ import annotations

import copy
import logging
import runpy
from pathlib import Path
from typing import Any

import pytest

from acclimate.config import Config, parse_config
from acclimate.data.preview import data_problems
from acclimate.errors import AcclimateError, ConfigError
from acclimate.params_file import read_yaml
from acclimate.sinks import MemorySink
from stages import ingest
from stages.command import StageContext, select_params

ROOT = Path(__file__).parents[2]
CASES = sorted(path.parent for path in (ROOT / "tests/cases").glob("*/case.yaml"))


def config_of(case: dict[str, Any]) -> Config:
    """The project's params.yaml with the case's sections, as a user would edit it."""
    raw = copy.deepcopy(read_yaml(ROOT / "params.yaml"))
    tasks = list(case["sections"]["tasks"])
    raw |= {"probe": {}, "export": {"tasks": tasks}, "encoders": {"adapted": raw["encoders"]["adapted"]}}
    raw["runs"] |= {"tasks": tasks, "single_seed_tasks": [], "seeds": [0]}
    return parse_config({**raw, **case["sections"]}, file=Path("params.yaml"))


def end_of(case: dict[str, Any], data: Path, out: Path) -> tuple[str, str]:
    """Where an input ends, and what is said."""
    try:
        config = config_of(case)
        if problems := data_problems(config.ingest, config.tasks, data):
            return "check", "\n".join(problems)
    except ConfigError as error:
        return "check", str(error)
    context = StageContext(stage="ingest", sink=MemorySink(), checkpoint_directory=out / "checkpoints", run_id=lambda: None)
    try:
        (out / "ingest").mkdir()
        ingest.run(select_params(config, ingest.Params), data=data, out=out / "ingest", context=context)  # type: ignore[arg-type]
    except AcclimateError as error:
        return "ingest", str(error)
    return "passes", ""


@pytest.mark.parametrize("directory", CASES, ids=lambda path: path.name)
def test_a_reported_input_gives_the_right_values(directory: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    case = read_yaml(directory / "case.yaml")
    with caplog.at_level(logging.INFO):
        end, error = end_of(case, directory / "data", tmp_path)
    assert end == case["ends"], error
    assert (error == "") == (end == "passes")
    said = "\n".join([error, *(record.getMessage() for record in caplog.records)])
    assert all(len(line) < 2100 for line in said.splitlines())
    assert [part for part in case.get("says", []) if part not in said] == []
    if (right := directory / "right.py").exists():
        runpy.run_path(str(right))["check"](tmp_path / "ingest", said)


def test_there_are_cases() -> None:
    assert len(CASES) > 20
