"""No file outside of a component names it in quotes: what differs by component is asked of the component."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from acclimate import plugins
from acclimate.backbones.loading import families

ROOT = Path(__file__).parents[2]
NAMES = {
    **{family: set(plugins.names(family)) for family in ("objectives", "retention", "strategies", "tasks", "terms")},
    "backbones": {*families(), *families().values()},
}


def named_in(source: str, names: set[str], *, python: bool) -> Iterator[tuple[int, str]]:
    """Line and name of each string that is a component's name."""
    if python:
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Constant) and node.value in names:
                yield node.lineno, str(node.value)
    else:
        for number, line in enumerate(source.splitlines(), start=1):
            yield from ((number, found) for found in re.findall(r"""["'](\w+)["']""", line) if found in names)


@pytest.mark.parametrize("family", NAMES)
def test_a_component_is_named_in_quotes_by_itself_alone(family: str) -> None:
    names = NAMES[family]
    files = [path for folder in ("src", "stages") for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".html")]
    outside = [path for path in files if not path.is_relative_to(ROOT / "src/acclimate" / family)]
    found = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in outside
        for line, name in named_in(path.read_text(encoding="utf-8"), names, python=path.suffix == ".py")
    ]
    assert found == []
    assert len(outside) > 100


@pytest.mark.parametrize(("source", "python"), [('if kind == "tagging": pass', True), ("{% if kind == 'tagging' %}", False)])
def test_a_comparison_is_found(source: str, python: bool) -> None:
    assert list(named_in(source, {"tagging"}, python=python)) == [(1, "tagging")]
