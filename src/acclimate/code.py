"""Which code each stage, encoder, recipe and task uses. DVC does not follow imports, so the stage `code` writes digests of it for DVC.

A stage's code is its module and all that this one imports, directly or not, but none of the components that params.yaml chooses:
those belong to the encoder, the recipe or the task that chose them. The file of a family of backbones belongs to the encoder's artifact:
the stage `backbone` writes its digest there, and whatever reads the artifact follows.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import acclimate
from acclimate import plugins
from acclimate.artifacts import file_md5

if TYPE_CHECKING:
    from acclimate.choices import Chosen
    from acclimate.data.options import TaskConfig
    from acclimate.training.options import EncoderConfig, RecipeConfig, RunsConfig

LOCK = Path("code.lock.yaml")
_BACKBONES, _READS_BACKBONES = "backbones", "backbone"
"""The package of families, and the stage that notes the one it copies."""
_LAYOUTS = "data.reading.layouts"
Digests = dict[str, dict[str, str]]
"""Options and name -> digest, as they stand in the lock."""

EXEMPT: Mapping[str, str] = {
    "acclimate": "the version, which names a release and changes no result",
    "stages": "how a stage's process begins",
    "stages.command": "the frame around every stage: what it adds to an out is the manifest of what the stage wrote",
    "acclimate.adapters.tracking": "the record of a run, not its result",
    "acclimate.adapters.tracking_worker": "as tracking",
    "acclimate.cli": "no stage calls it",
    **dict.fromkeys(
        [
            "acclimate.choices",
            "acclimate.config",
            "acclimate.former_params",
            "acclimate.settings",
            "acclimate.params_file",
        ],
        "checks values; DVC compares the values themselves, as `params`",
    ),
    "acclimate.code": "says which code a stage uses",
    "acclimate.launch": "how many processes compute, not what; sums may be taken in another order",
    "acclimate.lifeline": "when a process ends",
    "acclimate.locks": "which of two processes may write",
    "acclimate.dvc_records": "refuses files; none is changed",
    "acclimate.plugins": "finds a component by name; the component's own code counts",
    "acclimate.errors": "names and messages of failures; a failed stage has no outs",
    "acclimate.runtime": "environment, threads, logging, signals",
    "acclimate.sinks": "where metrics go, not which",
    "acclimate.artifacts": "how files are renamed and digested, not what is in them",
}
"""Modules that are neither followed nor counted, and why. So are those called `options`, the sections of params.yaml."""


def is_exempt(module: str) -> bool:
    """Whether a module changes no result."""
    return module in EXEMPT or module.endswith(".options")


class Choices(Protocol):
    """The sections of params.yaml that choose components."""

    @property
    def encoders(self) -> dict[str, EncoderConfig]: ...  # noqa: D102
    @property
    def recipes(self) -> dict[str, RecipeConfig]: ...  # noqa: D102
    @property
    def tasks(self) -> dict[str, TaskConfig]: ...  # noqa: D102
    @property
    def runs(self) -> RunsConfig: ...  # noqa: D102


@dataclass(frozen=True)
class Code:
    """The project's own source."""

    library: Path = Path(acclimate.__file__).parent
    stages: Path = Path("stages")

    def digests(self, config: Choices) -> Digests:
        """Every digest that DVC compares.

        `runs` holds one digest over all recipes, and one over all tasks, that are fine-tuned.
        """
        names = sorted(file.stem for file in self.stages.glob("*.py") if not is_exempt(f"stages.{file.stem}") and file.stem != "__init__")
        found = {
            "stages": {name: self.of_stage(name) for name in names},
            "encoders": {name: self.of_encoder(each) for name, each in config.encoders.items()},
            "recipes": {name: self.of_recipe(each) for name, each in config.recipes.items()},
            "tasks": {name: self.of_task(each) for name, each in config.tasks.items()},
        }
        runs = {"recipes": config.runs.recipes, "tasks": config.runs.all_tasks}
        return {**found, "runs": {section: _digest(found[section][name] for name in sorted(each)) for section, each in runs.items()}}

    def of_stage(self, name: str) -> str:
        """Digest of a stage's code."""
        return self._digest_of({f"stages.{name}", *([f"acclimate.{_BACKBONES}"] if name == _READS_BACKBONES else [])})

    def of_family(self, name: str) -> str:
        """Digest of the code of a family of backbones."""
        return self._digest_of({f"acclimate.{_BACKBONES}.{name}"})

    def of_encoder(self, encoder: EncoderConfig) -> str:
        """Digest of the components that an encoder chooses."""
        return self._digest_of({*_modules("objectives", encoder.objectives), *_modules("retention", encoder.retention)})

    def of_recipe(self, recipe: RecipeConfig) -> str:
        """Digest of the components that a recipe chooses."""
        chosen: dict[str, Iterable[Chosen[Any]]] = {"strategies": [recipe.strategy], "retention": recipe.retention, "terms": recipe.terms}
        return self._digest_of({module for family, each in chosen.items() for module in _modules(family, each)})

    def of_task(self, task: TaskConfig) -> str:
        """Digest of a task's kind, and of the layout of its file."""
        return self._digest_of({f"acclimate.tasks.{task.kind}", *_modules(_LAYOUTS, [task.layout] if task.layout else [])})

    def files(self, modules: Collection[str]) -> set[Path]:
        """What the modules are made of: their own files, and those of all that they import or name."""
        return {file for read in self._followed(modules).values() for file in (read.file, *read.named_files)}

    def families(self, modules: Collection[str]) -> set[str]:
        """Families of components that the modules, or what they import, load by name."""
        return {family for module, read in self._followed(modules).items() for family in self._loaded(module, read)}

    def _followed(self, modules: Collection[str]) -> dict[str, _Source]:
        """The modules with all that they import, directly or not, packages among them whole where they are given or loaded by name."""
        waiting, found = [*modules], dict[str, _Source]()
        while waiting:
            module = waiting.pop()
            if module in found or is_exempt(module) or (file := self._file(module)) is None:
                continue
            found[module] = read = _read(file)
            waiting += [module.rpartition(".")[0], *read.imports]
            loaded = self._loaded(module, read) - {*plugins.FAMILIES, _BACKBONES}
            for package in {f"acclimate.{family}" for family in loaded} | ({module} & {*modules}):
                waiting += self._inside(package)
        return found

    def _loaded(self, module: str, read: _Source) -> set[str]:
        return {text for family in read.families if (text := self._text(family, module))}

    def _digest_of(self, modules: Collection[str]) -> str:
        named = {self._name(file): file for file in self.files(modules)}
        return _digest(f"{name} {_md5(named[name])}" for name in sorted(named))

    def _name(self, file: Path) -> str:
        """The same wherever the project lies."""
        root = self.library if file.is_relative_to(self.library) else self.stages
        return f"{root.name}/{file.relative_to(root).as_posix()}"

    def _file(self, module: str) -> Path | None:
        """A module's file; None where it is not one of the project's."""
        root, *parts = module.split(".")
        if root not in ("acclimate", "stages"):
            return None
        base = (self.library if root == "acclimate" else self.stages).joinpath(*parts)
        return next((file for file in (base.with_suffix(".py"), base / "__init__.py") if file.is_file()), None)

    def _inside(self, package: str) -> list[str]:
        """Every module of a package."""
        file = self._file(package)
        if file is None or file.name != "__init__.py":
            return []
        inside = (path.relative_to(file.parent).with_suffix("").parts for path in file.parent.rglob("*.py"))
        return [".".join([package, *parts]).removesuffix(".__init__") for parts in inside]

    def _text(self, name: str | tuple[str, str], module: str) -> str | None:
        """What a text, or a module's constant, says."""
        if isinstance(name, str):
            return name
        file = self._file(name[0] or module)
        return _read(file).texts.get(name[1]) if file else None


def _modules(family: str, chosen: Iterable[Chosen[Any]]) -> set[str]:
    return {f"acclimate.{family}.{each.name}" for each in chosen}


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


@functools.cache
def _md5(file: Path) -> str:
    return file_md5(file)


@dataclass(frozen=True)
class _Source:
    """What a file says of other files."""

    file: Path
    imports: tuple[str, ...]
    """Modules, and names that may be modules."""
    families: tuple[str | tuple[str, str], ...]
    """What `plugins.load` and its like are given first: a text, or a constant by its module (empty for this one) and name.
    Of `importlib.import_module(f"acclimate.backbones.{name}")` the package."""
    named_files: frozenset[Path]
    """Templates that it renders, and files that lie beside it."""
    texts: Mapping[str, str]
    """Constants of the module."""


@functools.cache
def _read(file: Path) -> _Source:
    imports, families, named, texts = list[str](), list[str | tuple[str, str]](), set[Path](), dict[str, str]()
    origin: dict[str, str] = {}
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in _nodes(tree):
        match node:
            case ast.Import():
                imports += [alias.name for alias in node.names]
            case ast.ImportFrom(module=str(module)):
                imports += [module, *(f"{module}.{alias.name}" for alias in node.names)]
                origin |= {alias.name: module for alias in node.names}
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=str(text))):
                texts[name] = text
            case ast.Call(func=ast.Attribute(value=ast.Name(id="plugins")), args=[ast.Constant(value=str(text)), *_]):
                families.append(text)
            case ast.Call(func=ast.Attribute(value=ast.Name(id="plugins")), args=[ast.Name(id=name), *_]):
                families.append((origin.get(name, ""), name))
            case ast.Call(func=ast.Attribute(attr="import_module"), args=[ast.JoinedStr(values=[ast.Constant(value=str(text)), *_])]):
                families.append(text.removeprefix("acclimate.").rstrip("."))
            case ast.Call(func=ast.Name(id="render"), args=[ast.Constant(value=str(template)), *_]):
                named |= _templates(file.parents[1] / "report" / "templates" / template)
            case ast.Constant(value=str(text)) if re.fullmatch(r"\w+\.py", text) and (file.parent / text).is_file():
                named.add(file.parent / text)
    return _Source(file, tuple(imports), tuple(families), frozenset(named), texts)


def _nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those under `if TYPE_CHECKING`."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        yield node
        waiting += ast.iter_child_nodes(node)


def _templates(template: Path) -> set[Path]:
    """A template with all that it refers to; where a name is put together as it is filled in, every template."""
    import jinja2.meta

    directory, waiting, found = template.parent, {template.name}, set[Path]()
    while waiting:
        found.add(path := directory / waiting.pop())
        referenced = set(jinja2.meta.find_referenced_templates(jinja2.Environment().parse(path.read_text(encoding="utf-8"))))
        if None in referenced:
            return {file for file in directory.rglob("*") if file.is_file()}
        waiting |= {name for name in referenced if name and directory / name not in found}
    return found


def as_yaml(digests: Digests) -> str:
    """The text of the lock."""
    lines = ["# Written by the stage `code`: what changes here runs again what uses it."]
    for section, entries in digests.items():
        lines += [f"{section}:" if entries else f"{section}: {{}}", *(f"  {name}: '{digest}'" for name, digest in entries.items())]
    return "\n".join(lines) + "\n"
