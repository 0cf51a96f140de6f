"""dvc.yaml against the code: DVC does not follow imports, so a stage's imports and its entries of the code's lock are compared here."""

from __future__ import annotations

import functools
import graphlib
import importlib.util
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import grimp
import pytest

from acclimate import plugins
from acclimate.code import EXEMPT, Code, is_exempt
from acclimate.params_file import read_yaml
from stages.command import flag_types, out_names

ROOT = Path(__file__).parents[2]
TEMPLATES = ROOT / "src/acclimate/report/templates"
STAGES: dict[str, dict[str, Any]] = read_yaml(ROOT / "dvc.yaml")["stages"]
CODE = Code(ROOT / "src/acclimate", ROOT / "stages")
LOCK = "code.lock.yaml"
CHOSEN_BY = {"encoders": {"objectives", "retention"}, "recipes": {"strategies", "retention", "terms"}, "tasks": {"tasks"}}
"""Families by the section of params.yaml that chooses components of them."""
READ_VALUES_ALONE = {
    "code": "it depends on all code",
    "report": "it shows names and options of encoders and recipes, and runs none",
}


def body(name: str) -> dict[str, Any]:
    """A stage's own mapping, out of its `foreach` or `matrix`."""
    stage = STAGES[name]
    return stage.get("do", stage)


def module_of(name: str) -> str:
    found = re.search(r"python -m (stages\.\w+)", body(name)["cmd"])
    assert found, f"{name}: its command is not `python -m stages.<module>`"
    return found[1]


def flags(name: str) -> dict[str, str]:
    """The command's flags and their values, with `${...}` as it stands."""
    words = shlex.split(body(name)["cmd"])[3:]
    assert len(words) % 2 == 0, f"{name}: a flag has no value: {words}"
    return {flag.removeprefix("--").replace("-", "_"): value for flag, value in zip(words[::2], words[1::2], strict=True)}


def paths(entries: list[Any]) -> list[str]:
    """deps, outs, metrics and plots are strings, or mappings from a path to its settings."""
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]


def told(name: str) -> set[str]:
    """The entries of the code's lock that a stage depends on."""
    return {entry for param in body(name).get("params", []) if isinstance(param, dict) for entry in param[LOCK]}


@functools.cache
def import_graph() -> grimp.ImportGraph:
    graph = grimp.build_graph("acclimate", "stages", "flows", cache_dir=None, exclude_type_checking_imports=True)
    for module in list(graph.modules):
        if is_exempt(module) and "." in module:  # a package would take its modules with it
            graph.remove_module(module)
    return graph


def file_of(module: str) -> Path:
    base = ROOT / ("" if module.startswith("stages") else "src") / module.replace(".", "/")
    return base / "__init__.py" if base.is_dir() else base.with_suffix(".py")


def followed(name: str) -> set[Path]:
    """The files that the code's lock counts for a stage, those of packages and what is no Python left out."""
    return {file for file in CODE.files({module_of(name)}) if file.suffix == ".py" and file.name != "__init__.py"}


@pytest.mark.parametrize("name", STAGES)
def test_the_lock_follows_every_import_of_a_stage(name):
    """As another reader of imports finds them; components that are loaded by name, and files that are named, come on top."""
    module = module_of(name)
    expected = {file_of(each) for each in {module, *import_graph().find_upstream_modules(module)}}
    expected = {file for file in expected if file.name != "__init__.py"}
    found = followed(name)
    assert expected <= found
    beside = {file for file in found - expected if any(file.name in each.read_text(encoding="utf-8") for each in file.parent.glob("*.py"))}
    by_name = {
        file
        for family in ("data.reading.sources", "data.reading.documents")
        for file in (ROOT / "src/acclimate" / family.replace(".", "/")).glob("*.py")
    }
    assert found - expected - beside - by_name == set(), "neither imported, nor named, nor loaded by name"


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_is_told_of_its_code_and_of_the_components_that_it_may_run(name):
    entries = told(name)
    stage = module_of(name).removeprefix("stages.")
    if stage == "code":
        assert not entries
        return
    assert f"stages.{stage}" in entries
    fields = importlib.import_module(module_of(name)).Params.model_fields
    loaded = CODE.families({module_of(name)})
    covered = {entry.removeprefix("runs.").split(".")[0] for entry in entries} - {"stages"}
    if stage not in READ_VALUES_ALONE:
        missing = {*CHOSEN_BY} & {*fields} - covered
        assert not missing, f"{name}: tell it of {sorted(missing)} of {LOCK}"
    unknown = (loaded & {*plugins.FAMILIES}).difference(*(CHOSEN_BY[section] for section in covered))
    assert not unknown, f"{name}: loads components of {sorted(unknown)} by name; tell it of them"


def test_only_the_stage_that_writes_the_lock_depends_on_code():
    by_stage = {name: [dep for dep in paths(body(name)["deps"]) if dep.startswith(("src", "stages"))] for name in STAGES}
    assert by_stage.pop("code") == ["src/acclimate", "stages"]
    assert not any(by_stage.values())


@pytest.mark.parametrize("name", STAGES)
def test_the_lock_follows_the_templates_that_a_stage_renders(name):
    rendered = {file.name for file in CODE.files({module_of(name)}) if file.is_relative_to(TEMPLATES)}
    expected = {"validate": {"data_docs.html", "layout.html", "parts.html", "style.css"}}
    expected["report"] = {file.name for file in TEMPLATES.rglob("*") if file.is_file()}
    assert rendered == expected.get(name, set())


def test_every_template_is_package_data():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["package-data"]
    packaged = {path for pattern in declared["acclimate.report"] for path in TEMPLATES.parent.glob(pattern)}
    assert set(TEMPLATES.rglob("*.*")) - packaged == set()


@pytest.mark.parametrize("name", STAGES)
def test_flags_of_the_command_are_the_arguments_of_run(name):
    run = importlib.import_module(module_of(name)).run
    assert set(flags(name)) == {*flag_types(run), "record"}


@pytest.mark.parametrize("name", STAGES)
def test_path_arguments_are_deps_and_out_arguments_outs(name):
    run = importlib.import_module(module_of(name)).run
    given, outs = flags(name), {*out_names(run), "record"}
    declared_outs = paths([*body(name).get("outs", []), *body(name).get("metrics", []), *body(name).get("plots", [])])
    assert {given[arg] for arg, kind in flag_types(run).items() if kind is Path and arg not in outs} == set(paths(body(name)["deps"]))
    for out in outs:
        assert any(path == given[out] or path.startswith(f"{given[out]}/") for path in declared_outs), (
            f"{name}: --{out} {given[out]} is no out"
        )
    for path in declared_outs:
        assert any(path == given[out] or path.startswith(f"{given[out]}/") for out in outs), f"{name}: {path} is written by no --flag"


@pytest.mark.parametrize("name", STAGES)
def test_params_are_the_sections_that_the_stage_reads(name):
    fields = importlib.import_module(module_of(name)).Params.model_fields
    read = {field.alias or field_name.rstrip("_") for field_name, field in fields.items()}
    declared = {param.split(".")[0] for param in body(name).get("params", []) if isinstance(param, str)}
    assert declared == read


def test_every_stage_module_stands_in_the_dag():
    modules = {f"stages.{path.stem}" for path in (ROOT / "stages").glob("*.py")} - {"stages.__init__", "stages.command"}
    assert modules == {module_of(name) for name in STAGES}


def test_exempt_modules_exist():
    assert [module for module in EXEMPT if not file_of(module).is_file()] == []


def test_no_module_of_the_flows_hides_a_package() -> None:
    """Prefect puts the folder of the flow that a worker runs first on the path of imports; a flows/dvc.py hid DVC there."""
    names = {path.stem for path in (ROOT / "flows").glob("*.py")} - {"__init__"}
    assert [name for name in sorted(names) if importlib.util.find_spec(name)] == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = grimp.build_graph("acclimate", "stages", "flows", cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    graphlib.TopologicalSorter(imports).prepare()  # raises CycleError, which names the modules
