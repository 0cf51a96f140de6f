"""dvc.yaml against the code: DVC does not follow imports, so what a stage imports and what it declares are compared here."""

from __future__ import annotations

import ast
import fnmatch
import functools
import graphlib
import importlib.util
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import grimp
import jinja2.meta
import pytest

from acclimate import plugins
from acclimate.params_file import read_yaml
from stages.command import flag_types, out_names

ROOT = Path(__file__).parents[2]
PARTS = {
    **{name: name for name in ("table", "model", "metrics", "baseline")},
    **dict.fromkeys(("metric_names", "check_metric", "higher_is_better"), "metrics"),
    "configured_table": "table",
    "decode_file": "decode",
}
"""Functions of `acclimate.kinds`, and the file of a kind that each loads."""
TEMPLATES = ROOT / "src/acclimate/report/templates"
STAGES: dict[str, dict[str, Any]] = read_yaml(ROOT / "dvc.yaml")["stages"]

EXEMPT = {
    "stages.command": "the frame around every stage: what it adds to an out is the manifest of what the stage wrote",
    "acclimate.adapters.tracking": "the record of a run, not its result",
    "acclimate.adapters.tracking_worker": "as tracking",
    "acclimate.cli": "no stage calls it",
    **dict.fromkeys(
        [
            "acclimate.config",
            "acclimate.settings",
            "acclimate.params_file",
            *(f"acclimate.{room}.options" for room in ("adapters", "data", "evaluation", "export", "models", "training")),
        ],
        "checks values; DVC compares the values themselves, as `params`",
    ),
    "acclimate.launch": "how many processes compute, not what; sums may be taken in another order",
    "acclimate.lifeline": "when a process ends",
    "acclimate.locks": "which of two processes may write",
    "acclimate.dvc_records": "refuses files; none is changed",
    "acclimate.plugins": "finds a component by name; the component's own file is the dep",
    "acclimate.kinds": "as plugins, for the parts of a kind of task",
    "acclimate.errors": "names and messages of failures; a failed stage has no outs",
    "acclimate.runtime": "environment, threads, logging, signals",
    "acclimate.sinks": "where metrics go, not which",
    "acclimate.artifacts": "how files are renamed and digested, not what is in them",
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


def code_deps(name: str) -> list[str]:
    """Deps that are code, `${...}` as a wildcard."""
    return [re.sub(r"\$\{[^}]*\}", "*", dep) for dep in paths(body(name)["deps"]) if dep.startswith(("src/", "stages/"))]


@functools.cache
def import_graph() -> grimp.ImportGraph:
    graph = grimp.build_graph("acclimate", "stages", "flows", cache_dir=None, exclude_type_checking_imports=True)
    for module in EXEMPT:
        if module in graph.modules:
            graph.remove_module(module)
    return graph


def file_of(module: str) -> Path:
    base = ROOT / ("" if module.startswith("stages") else "src") / module.replace(".", "/")
    return base / "__init__.py" if base.is_dir() else base.with_suffix(".py")


def closure(module: str) -> set[str]:
    """What a module imports, directly or not, and itself, with the components that it loads by name."""
    found: set[str] = set()
    waiting = {module}
    while waiting:
        added = waiting | set().union(*(import_graph().find_upstream_modules(name) for name in waiting))
        added -= found
        found |= added
        files = [file_of(name) for name in added]
        families = set().union(*map(loaded_families, files))
        waiting = {f"acclimate.{family}.{name}" for family in families - {"tasks"} for name in plugins.names(family)}
        parts = set().union(*map(loaded_parts, files))
        waiting |= {f"acclimate.tasks.{kind}.{part}" for part in parts for kind in plugins.names("tasks")}
        waiting -= found
    return found


def loaded_families(file: Path) -> set[str]:
    """Families that `plugins.load("family", ...)` and its like name in a file; `tasks` where a part of a kind is asked for."""
    named = {call.args[0].value for call in calls_of(file, "plugins") if call.args and isinstance(call.args[0], ast.Constant)}
    return named - {"tasks"} | ({"tasks"} if loaded_parts(file) else set())


def loaded_parts(file: Path) -> set[str]:
    """Files of a kind of task that `kinds.<part>(...)` and its like load."""
    return {PARTS[call.func.attr] for call in calls_of(file, "kinds") if isinstance(call.func, ast.Attribute) and call.func.attr in PARTS}


def calls_of(file: Path, module: str) -> list[ast.Call]:
    """Calls of the functions of a module."""
    calls = (node for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(node, ast.Call))
    return [
        call
        for call in calls
        if isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name) and call.func.value.id == module
    ]


def covers(dep: str, file: str) -> bool:
    return fnmatch.fnmatchcase(file, dep) or file.startswith(dep.rstrip("/") + "/")


def family_is_covered(family: str, deps: list[str]) -> bool:
    return any(dep.startswith(f"src/acclimate/{family}") for dep in deps) or "src/acclimate" in deps


@pytest.mark.parametrize("name", STAGES)
def test_stage_declares_all_the_code_it_imports(name):
    deps = code_deps(name)
    modules = closure(module_of(name))
    families = set().union(*(loaded_families(file_of(module)) for module in modules))
    missing = {family for family in families if not family_is_covered(family, deps)}
    assert not missing, f"{name}: loads components of {sorted(missing)} by name; add the chosen one's file to its deps"
    # Of a family the chosen component's file is enough; the other components are never imported.
    chosen_by_name = tuple(f"acclimate.{family}." for family in families - {"tasks"})
    files = {file_of(module).relative_to(ROOT).as_posix() for module in modules if not module.startswith(chosen_by_name)}
    undeclared = sorted(file for file in files if not file.endswith("__init__.py") and not any(covers(dep, file) for dep in deps))
    assert not undeclared, f"{name}: imports these, but dvc.yaml does not list them as deps: {undeclared}"


def templates_of(file: Path) -> set[str]:
    """Templates that `render("name", ...)` fills in, with those they refer to; empty for a name that is put together at run time."""
    calls = (node for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(node, ast.Call))
    rendered = [call.args[0] for call in calls if isinstance(call.func, ast.Name) and call.func.id == "render" and call.args]
    waiting, found = {each.value for each in rendered if isinstance(each, ast.Constant)}, set[str]()
    while waiting:
        found.add(name := waiting.pop())
        if name:
            tree = jinja2.Environment().parse((TEMPLATES / name).read_text(encoding="utf-8"))
            waiting |= {each or "" for each in jinja2.meta.find_referenced_templates(tree)} - found
    return found


@pytest.mark.parametrize("name", STAGES)
def test_stage_declares_the_templates_it_renders(name):
    used = set().union(*(templates_of(file_of(module)) for module in closure(module_of(name))))
    files = {(TEMPLATES / template).relative_to(ROOT).as_posix() for template in used}
    undeclared = sorted(file for file in files if not any(covers(dep, file) for dep in code_deps(name)))
    assert not undeclared, f"{name}: renders these, but dvc.yaml does not list them as deps: {undeclared}"
    assert bool(files) == (name in {"validate", "report"})


def test_every_template_is_package_data():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["package-data"]
    packaged = {path for pattern in declared["acclimate.report"] for path in TEMPLATES.parent.glob(pattern)}
    assert set(TEMPLATES.rglob("*.*")) - packaged == set()


@pytest.mark.parametrize("name", STAGES)
def test_declared_code_exists(name):
    missing = [dep for dep in code_deps(name) if not list(ROOT.glob(dep))]
    assert not missing, f"{name}: deps that match no file: {missing}"


@pytest.mark.parametrize("name", STAGES)
def test_flags_of_the_command_are_the_arguments_of_run(name):
    run = importlib.import_module(module_of(name)).run
    assert set(flags(name)) == {*flag_types(run), "record"}


@pytest.mark.parametrize("name", STAGES)
def test_path_arguments_are_deps_and_out_arguments_outs(name):
    run = importlib.import_module(module_of(name)).run
    given, outs = flags(name), {*out_names(run), "record"}
    declared_outs = paths([*body(name).get("outs", []), *body(name).get("metrics", []), *body(name).get("plots", [])])
    data_deps = {dep for dep in paths(body(name)["deps"]) if not dep.startswith(("src/", "stages/"))}
    assert {given[arg] for arg, kind in flag_types(run).items() if kind is Path and arg not in outs} == data_deps
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
    declared = {param.split(".")[0] for param in body(name).get("params", [])}
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
