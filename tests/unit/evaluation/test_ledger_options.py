"""What params.yaml may ask of the ledger, and the one line that refuses the rest."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from acclimate import plugins
from acclimate.config import Config, parse_config
from acclimate.errors import ConfigError
from acclimate.kinds import is_sentence_level
from acclimate.params_file import read_yaml

PARAMS = Path(__file__).parents[3] / "params.yaml"
KINDS = "kind {} has answers within a text; the ledger judges kinds with one answer for each: classification, multi_label, regression"
UNKNOWN = "'sektion' is not defined under `tasks`; did you mean 'section'? (defined: section, entities, works_with, related, tag_overlap"


def config(**probe: Any) -> Config:
    raw = copy.deepcopy(read_yaml(PARAMS))
    raw["probe"] = probe
    return parse_config(raw, file=PARAMS, components=False)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown task": ({"tasks": ["sektion"]}, f"probe.tasks: {UNKNOWN}"),
    "an unknown general task": ({"general_tasks": ["sektion"]}, f"probe.general_tasks: {UNKNOWN}"),
    "an unknown control": ({"controls": ["othr"]}, "probe.controls: 'othr' is not defined under `encoders`; did you mean 'other'?"),
    "the reference as a control": (
        {"controls": ["base"]},
        "probe.controls: 'base' is the reference, with which every encoder is compared anyway; remove it here",
    ),
    "a tagging task": ({"tasks": ["entities"]}, f"probe.tasks: 'entities': {KINDS.format('tagging')}"),
    "a general task that is fine-tuned": (
        {"general_tasks": ["section"]},
        "probe.general_tasks: 'section' is fine-tuned (runs); what is lost on a task is measured where nothing is trained on it",
    ),
    "a task of both": (
        {"tasks": ["related"], "general_tasks": ["related"]},
        "probe.general_tasks: ['related'] stand both in `tasks` and in `general_tasks`; keep one",
    ),
    "declared rows that are not measured": ({"rows": [100, "all"]}, "probe.declared.rows: 500 is not among probe.rows: 100, all"),
    "no rows": ({"rows": [0, 100, 500]}, "probe.rows.0: must be a whole number above 0, or `all` (given: 0)"),
    "a declared size twice": ({"declared": {"rows": [100, 100]}}, "probe.declared.rows: names a value twice: [100, 100]"),
    "a size twice": ({"rows": [100, 500, 100]}, "probe.rows: names a value twice: [100, 500, 100]"),
    "no declared size": ({"declared": {"rows": []}}, "probe.declared.rows: List should have at least 1 item after validation, not 0"),
    "an unknown probe": ({"declared": {"probe": "tree"}}, "probe.declared.probe: Input should be 'linear' or 'neighbour' (given: 'tree')"),
    "a margin of 0": ({"margin": 0}, "probe.margin: must be above 0, and finite"),
    "one draw": ({"draws": 1}, "probe.draws: Input should be greater than or equal to 2 (given: 1)"),
    "a key of before": ({"max_train_rows": 9}, "probe.max_train_rows: write `max_pool_rows: 9`"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_the_ledger_cannot_do_is_refused_in_one_line(what: str) -> None:
    probe, line = REFUSED[what]
    with pytest.raises(ConfigError) as error:
        config(**probe)
    _, *problems = str(error.value).splitlines()
    assert [problem.strip()[: len(line)] for problem in problems] == [line]


def test_without_tasks_the_fine_tuned_ones_are_judged_that_have_one_answer() -> None:
    found = config(general_tasks=["related"], controls=["scratch"])
    assert found.probe.judged_tasks(found.runs.all_tasks, found.tasks) == ["section", "related"]
    assert found.probe.encoders(found.runs.encoders) == [*found.runs.encoders, "scratch"]
    assert [kind for kind in plugins.names("tasks") if is_sentence_level(kind)] == ["classification", "multi_label", "regression"]
