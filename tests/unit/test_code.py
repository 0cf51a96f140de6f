"""Which code counts for a stage, an encoder, a recipe and a task: what is imported, named or chosen, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from acclimate.code import Code, as_yaml
from acclimate.config import Config
from acclimate.params_file import read_yaml

PARAMS = Path(__file__).parents[2] / "params.yaml"
FILES = {
    "lib/__init__.py": "",
    "lib/plugins.py": "",
    "lib/settings.py": "x = 1",
    "lib/data/__init__.py": "",
    "lib/data/reading.py": 'FAMILY = "data.sources"\nfrom acclimate import plugins\ndef read(kind): plugins.load(FAMILY, kind)',
    "lib/data/sources/__init__.py": "",
    "lib/data/sources/files.py": "import acclimate.data.lines",
    "lib/data/lines.py": "",
    "lib/data/unused.py": "",
    "lib/training/__init__.py": "",
    "lib/training/loop.py": "from typing import TYPE_CHECKING\n"
    "if TYPE_CHECKING:\n    from acclimate.data import unused\nimport acclimate.settings",
    "lib/training/options.py": "import acclimate.data.unused",
    "lib/objectives/__init__.py": "",
    "lib/objectives/topics.py": "def build():\n    from acclimate.training import masks",
    "lib/training/masks.py": "",
    "lib/retention/__init__.py": "",
    "lib/retention/weight_average.py": "",
    "lib/strategies/__init__.py": "",
    "lib/strategies/full.py": "",
    "lib/strategies/lora.py": "from acclimate.training import masks as low_rank",
    "lib/tasks/__init__.py": "",
    "lib/tasks/classification/__init__.py": "",
    "lib/tasks/classification/model.py": "",
    "lib/tasks/tagging/__init__.py": "",
    "lib/tasks/tagging/model.py": "",
    "lib/tasks/multi_label/__init__.py": "",
    "lib/tasks/regression/__init__.py": "",
    "lib/backbones/__init__.py": "",
    "lib/backbones/loading.py": 'import importlib\ndef load(kind): importlib.import_module(f"acclimate.backbones.{kind}").COMPONENT',
    "lib/backbones/bert.py": "",
    "lib/export/__init__.py": "",
    "lib/export/register.py": 'from pathlib import Path\nmodel = Path(__file__).with_name("serving.py")',
    "lib/export/serving.py": "",
    "lib/report/__init__.py": "",
    "lib/report/page.py": 'from acclimate.report.render import render\ndef page(): return render("page.html")',
    "lib/report/render.py": "def render(name): ...",
    "lib/report/templates/page.html": '{% include "part.html" %}',
    "lib/report/templates/part.html": "",
    "lib/report/templates/other.html": "",
    "stages/__init__.py": "",
    "stages/ingest.py": "from acclimate.data.reading import read",
    "stages/pretrain.py": "from acclimate.training import loop, options\nfrom acclimate import plugins\nplugins.load('objectives', name)",
    "stages/backbone.py": "import acclimate.backbones.loading",
    "stages/register.py": "import acclimate.export.register",
    "stages/report.py": "from acclimate.report import page",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


@pytest.fixture(scope="module")
def config() -> Config:
    raw = read_yaml(PARAMS)
    raw["runs"]["recipes"] = ["full"]
    return Config.model_validate(raw)


def code(root: Path) -> Code:
    return Code(root / "lib", root / "stages")


def names(root: Path, stage: str) -> set[str]:
    found = {file.relative_to(root).as_posix() for file in code(root).files({f"stages.{stage}"})}
    return {name for name in found if not name.endswith("__init__.py")}


def test_imports_are_followed_and_those_for_types_are_not(root: Path) -> None:
    assert names(root, "pretrain") == {"stages/pretrain.py", "lib/training/loop.py"}


def test_a_family_that_is_loaded_by_name_counts_whole_unless_params_choose_of_it(root: Path) -> None:
    data = {"lib/data/reading.py", "lib/data/sources/files.py", "lib/data/lines.py"}
    assert names(root, "ingest") == {"stages/ingest.py", *data}
    assert code(root).families({"stages.pretrain"}) == {"objectives"}


def test_a_family_of_backbones_counts_for_the_stage_that_notes_it_alone(root: Path) -> None:
    before = {name: code(root).of_stage(name) for name in ("backbone", "report")}, code(root).of_family("bert")
    assert names(root, "backbone") == {"stages/backbone.py", "lib/backbones/loading.py"}
    (root / "lib/backbones/t5.py").write_text("", encoding="utf-8")
    assert code(root).of_stage("backbone") != before[0]["backbone"]
    assert code(root).of_stage("report") == before[0]["report"] and code(root).of_family("bert") == before[1]


def test_files_that_are_named_and_templates_that_are_rendered_count(root: Path) -> None:
    assert names(root, "register") == {"stages/register.py", "lib/export/register.py", "lib/export/serving.py"}
    templates = {"lib/report/templates/page.html", "lib/report/templates/part.html"}
    assert names(root, "report") == {"stages/report.py", "lib/report/page.py", "lib/report/render.py", *templates}


CHANGES: dict[str, set[str]] = {
    "lib/objectives/topics.py": {"encoders.adapted", "encoders.other"},
    "lib/training/masks.py": {"encoders.adapted", "encoders.other", "recipes.lora"},
    "lib/retention/weight_average.py": {"encoders.adapted", "encoders.other"},
    "lib/strategies/lora.py": {"recipes.lora"},
    "lib/strategies/full.py": {"recipes.full", "runs.recipes"},
    "lib/tasks/classification/model.py": {"tasks.section", "tasks.related", "tasks.supersense", "runs.tasks"},
    "lib/tasks/tagging/model.py": {"tasks.entities", "runs.tasks"},
    "lib/training/loop.py": {"stages.pretrain"},
    "lib/data/sources/files.py": {"stages.ingest"},
    "lib/data/unused.py": set(),
    "lib/settings.py": set(),
    "lib/training/options.py": set(),
    "lib/strategies/new.py": set(),
    "stages/new.py": {"stages.new"},
}


@pytest.mark.parametrize("changed", CHANGES)
def test_a_change_is_told_to_what_uses_it_and_to_nothing_else(root: Path, tmp_path_factory: Any, changed: str, config: Config) -> None:
    before = flat(code(root).digests(config))
    other = tmp_path_factory.mktemp("other")  # each file is read once a process
    for name, text in {**FILES, changed: FILES.get(changed, "") + "\n# changed"}.items():
        (other / name).parent.mkdir(parents=True, exist_ok=True)
        (other / name).write_text(text, encoding="utf-8")
    after = flat(code(other).digests(config))
    assert {name for name, digest in after.items() if before.get(name) != digest} == CHANGES[changed]


def flat(digests: dict[str, dict[str, str]]) -> dict[str, str]:
    return {f"{section}.{name}": digest for section, entries in digests.items() for name, digest in entries.items()}


def test_the_lock_is_yaml_of_these_digests(root: Path, config: Config, tmp_path: Path) -> None:
    found = code(root).digests(config)
    (tmp_path / "code.lock.yaml").write_text(as_yaml({**found, "none": {}}), encoding="utf-8")
    assert read_yaml(tmp_path / "code.lock.yaml") == {**found, "none": {}}
