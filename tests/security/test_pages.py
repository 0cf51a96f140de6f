"""No text that a stranger wrote runs as script in a page that we write."""

from __future__ import annotations

import dataclasses
import html
import shutil
import subprocess
import warnings
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from jinja2 import UndefinedError
from markupsafe import escape
from pydantic import BaseModel

from acclimate.adapters.great_expectations import Check, Suite, run_suites
from acclimate.report.facts import Facts, Sources, read_facts
from acclimate.report.page import page
from tests.unit import report_artifacts

_MARK = "document.documentElement.setAttribute('data-owned','1')"
ATTACKS = (
    f'<svg onload="{_MARK}">',
    f'<img src=x onerror="{_MARK}">',
    f"<script>{_MARK}</script>",
    f"</script></style></title></textarea><script>{_MARK}</script>",
    f'"><svg/onload={_MARK}>',
    f"'><img src=x onerror={_MARK}>",
    f'" autofocus onfocus="{_MARK}" x="',
    f"-->]]><svg onload={_MARK}>",
    f'<a href="javascript:{_MARK}">here</a>',
    f'<iframe srcdoc="<script>parent.{_MARK}</script>"></iframe>',
    '<meta http-equiv="refresh" content="0;url=https://evil.example/">',
    "<base href=https://evil.example/><link rel=stylesheet href=//evil.example/a.css>",
)
"""Each sets a mark in the page if it runs, or loads something."""


class _Active(HTMLParser):
    """Collects whatever could run or load."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.policies: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "meta" and values.get("http-equiv", "").lower() == "content-security-policy":
            self.policies.append(values["content"])
        elif tag in {"script", "iframe", "object", "embed", "base", "link", "form", "img"} or "http-equiv" in values:
            self.found.append(tag)
        self.found += [name for name in values if name.startswith("on") or name in {"src", "srcdoc", "autofocus", "xlink:href"}]
        self.found += [value for name, value in attrs if ":" in (value or "") and name == "href"]


def _check_page(path: Path) -> None:
    parser = _Active()
    parser.feed(path.read_text(encoding="utf-8"))
    assert parser.found == [], path
    (policy,) = parser.policies
    assert policy.startswith("default-src 'none'")
    assert "script" not in policy


def _run_in_browser(path: Path, profile: Path) -> str:
    """The page as a browser leaves it after its scripts, if any, have run."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium: what a browser does with the page is not looked at, only what html.parser finds in it")
    flags = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", f"--user-data-dir={profile}", "--no-first-run")
    command = [browser, *flags, "--virtual-time-budget=2000", "--dump-dom", path.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def _attacked_suite(name: str) -> Suite:
    rows = len(ATTACKS)
    table = pd.DataFrame({"id": list(ATTACKS), "text": list(ATTACKS), "label": list(ATTACKS), ATTACKS[0]: [1] * rows})
    table = pd.concat([table, table], ignore_index=True)
    checks = [
        Check("ExpectColumnValuesToBeUnique", {"column": "id"}),
        Check("ExpectColumnValuesToNotMatchRegex", {"column": "text", "regex": "<|javascript|on"}),
        Check("ExpectColumnValuesToBeInSet", {"column": "label", "value_set": [f"{attack} " for attack in ATTACKS]}),
        Check("ExpectColumnValuesToBeInSet", {"column": ATTACKS[0], "value_set": [0]}),
        Check("ExpectColumnMaxToBeBetween", {"column": "no such column " + ATTACKS[1], "max_value": 1}),
        Check("ExpectTableRowCountToBeBetween", {"min_value": 1}),
    ]
    return Suite(name, table, checks)


@pytest.fixture(scope="module")
def data_docs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    docs = tmp_path_factory.mktemp("docs")
    with warnings.catch_warnings():  # of Great Expectations, at its first import
        warnings.simplefilter("ignore")
        import great_expectations  # noqa: F401
    run_suites([_attacked_suite("tables.attacked")], docs)
    return docs


def test_a_browser_runs_a_script_that_is_not_escaped(tmp_path: Path) -> None:
    """Otherwise the next tests would see nothing on any page."""
    page = tmp_path / "page.html"
    page.write_text(f"<!doctype html><p>{ATTACKS[0]}</p>", encoding="utf-8")
    assert "data-owned" in _run_in_browser(page, tmp_path / "profile").partition("<head")[0]


def _assert_nothing_runs(path: Path, tmp_path: Path) -> None:
    _check_page(path)
    dom = _run_in_browser(path, tmp_path / "profile")
    assert "Content-Security-Policy" in dom  # the browser is still on this page
    assert "data-owned" not in dom.partition("<head")[0]


def test_row_text_does_not_run_in_the_data_docs(data_docs: Path, tmp_path: Path) -> None:
    for path in sorted(data_docs.rglob("*.html")):
        _assert_nothing_runs(path, tmp_path)


def test_data_docs_name_rows_values_and_settings(data_docs: Path) -> None:
    shown = html.unescape((data_docs / "index.html").read_text(encoding="utf-8"))
    assert "column values to not match regex" in shown
    assert "regex <|javascript|on" in shown
    assert shown.count(ATTACKS[0]) >= 4
    assert "and 14 more" in shown


def test_data_docs_have_the_same_bytes_each_time(data_docs: Path, tmp_path: Path) -> None:
    run_suites([_attacked_suite("tables.attacked")], tmp_path)
    assert (tmp_path / "index.html").read_bytes() == (data_docs / "index.html").read_bytes()


Shape = tuple[str, ...]


def _strings(value: Any, shape: Shape = ()) -> Iterator[Shape]:
    """Where strings stand in the facts: field names and keys; every entry of a list has the same place. `<key>` is a key itself."""
    if isinstance(value, str):
        yield shape
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _strings(each, (*shape, "*"))
    elif isinstance(value, dict):
        for key, each in value.items():
            if isinstance(key, str):
                yield (*shape, "<key>", key)
            yield from _strings(each, (*shape, str(key)))
    elif dataclasses.is_dataclass(value) or isinstance(value, BaseModel):
        for name in _fields(value):
            yield from _strings(getattr(value, name), (*shape, name))


def _fields(value: Any) -> list[str]:
    return list(type(value).model_fields) if isinstance(value, BaseModel) else [field.name for field in dataclasses.fields(value)]


def _changed(value: Any, place: Shape, change: Callable[[str], str]) -> Any:
    """The facts with the strings at one place changed."""
    if not place:
        return change(value) if isinstance(value, str) else value
    head, rest = place[0], place[1:]
    if isinstance(value, list | tuple):
        return type(value)(_changed(each, rest, change) for each in value)
    if isinstance(value, dict):
        if head == "<key>":
            return {change(key) if key == rest[0] else key: each for key, each in value.items()}
        return {key: _changed(each, rest, change) if str(key) == head else each for key, each in value.items()}
    if isinstance(value, BaseModel):
        return value.model_copy(update={head: _changed(getattr(value, head), rest, change)})
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.replace(value, **{head: _changed(getattr(value, head), rest, change)})
    return value


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> Facts:
    root = tmp_path_factory.mktemp("artifacts")
    report_artifacts.write_all(root)
    sources = Sources(**{field.name: root / field.name for field in dataclasses.fields(Sources)})
    return read_facts(
        sources,
        report_artifacts.RUNS,
        title="acclimate",
        model=report_artifacts.MODEL,
        encoders=report_artifacts.ENCODERS,
        recipes=report_artifacts.RECIPES,
    )


def _rendered(facts: Facts) -> str:
    """The page; empty where it cannot be made, because the text is a name that is looked up or a number."""
    try:
        return page(facts, docs_link="../data_docs/index.html")
    except (KeyError, ValueError, UndefinedError):
        return ""


def test_each_text_of_the_artifacts_is_escaped_in_the_report(facts: Facts) -> None:
    """Every string and every key of every artifact, one after the other."""
    attack = "".join(ATTACKS)
    pages = {place: _rendered(_changed(facts, place, lambda text: text + attack)) for place in sorted(set(_strings(facts)))}
    shown = [place for place, made in pages.items() if escape(attack) in made]
    assert len(shown) > 60
    assert [place for place, made in pages.items() if ATTACKS[0] in made] == []


def test_attacked_artifacts_run_nothing_in_the_report(facts: Facts, tmp_path: Path) -> None:
    attacked = facts
    for place in sorted(set(_strings(facts))):
        changed = _changed(attacked, place, lambda text: "".join(ATTACKS) + text)
        if "<key>" not in place and _rendered(changed):
            attacked = changed
    path = tmp_path / "report.html"
    path.write_text(_rendered(attacked), encoding="utf-8")
    assert path.read_text(encoding="utf-8").count(escape(ATTACKS[0])) > 100
    _assert_nothing_runs(path, tmp_path)
