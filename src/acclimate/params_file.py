"""params.yaml as YAML: read within bounds, and searched for secrets."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acclimate.errors import ConfigError, one_line
from acclimate.redaction import HIDDEN, find_secret, names_secret, redact

_MAX_BYTES, _MAX_DEPTH, _MAX_MERGED = 1_000_000, 50, 10_000
_NAMED_BY_USER = ("label_map", "columns")
"""Mappings whose keys are the user's labels and columns: a label may be called `password`. So may a task."""


def read_yaml(path: Path) -> dict[str, Any]:
    """Read YAML 1.2 as DVC does: PyYAML would turn `1e-4` into a string.

    Raises:
        ConfigError: missing, not UTF-8, not YAML, or not a mapping.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    yaml = YAML(typ="safe", pure=True)
    yaml.max_depth = _MAX_DEPTH
    yaml.Constructor = _bounded_constructor()
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ConfigError(f"{path}: {path.stat().st_size:,} bytes; at most {_MAX_BYTES:,} are read")
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; run from the project's root, where params.yaml is") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8") from None
    try:
        loaded = yaml.load(text)
    except YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {_yaml_problem(error)}") from None
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        # The parser lets them through: `2020-13-45`, `!!int x`, `[[[[...`. Their messages quote the value.
        problem = "it is nested too deeply" if isinstance(error, RecursionError) else "a date, number or tag in it has no meaning"
        raise ConfigError(f"{path}: not valid YAML: {problem}") from None
    if not isinstance(loaded, dict):
        raise ConfigError(f"{path}: expected sections such as `model:` and `tasks:`, found {type(loaded).__name__}")
    return loaded


def _yaml_problem(error: Exception) -> str:
    """What is wrong and at which line. The line itself is not shown, nor a value that the parser quotes: it may be a secret."""
    problem = re.split(r" with value | from [\"']", str(getattr(error, "problem", None) or str(error).partition("\n")[0]))[0]
    if not problem.startswith("found duplicate"):
        problem = re.sub(r"""(["'])(?:(?!\1).){4,}\1""", HIDDEN, problem)
    mark = getattr(error, "problem_mark", None)
    return redact((f"line {mark.line + 1}, column {mark.column + 1}: " if mark else "") + one_line(" ".join(problem.split())))


def _bounded_constructor() -> type:
    from ruamel.yaml.constructor import ConstructorError, SafeConstructor
    from ruamel.yaml.nodes import MappingNode, SequenceNode

    class Bounded(SafeConstructor):
        """Refuses merge keys (`<<`) that multiply: nine lines of ten each would make a thousand million entries."""

        def flatten_mapping(self, node: MappingNode) -> None:
            merged = [value for key, value in node.value if key.tag == "tag:yaml.org,2002:merge"]
            merged = [each for value in merged for each in (value.value if isinstance(value, SequenceNode) else [value])]
            for each in {id(each): each for each in merged}.values():
                if isinstance(each, MappingNode):
                    self.flatten_mapping(each)
            if sum(len(each.value) for each in merged) > _MAX_MERGED:
                raise ConstructorError(None, None, f"merge keys give more than {_MAX_MERGED:,} entries", node.start_mark)
            super().flatten_mapping(node)

    return Bounded


@dataclass(frozen=True)
class FoundSecret:
    """A setting that looks like a secret: its dotted path, what it looks like, and its value, which is never shown."""

    path: str
    kind: str
    value: str


def find_secrets(settings: Mapping[Any, Any]) -> list[FoundSecret]:
    """Look through every key and value, however deep; a value is a secret by its form or by the name of its key."""
    found: list[FoundSecret] = []
    seen: set[tuple[int, bool]] = set()  # YAML may refer to a mapping from within itself
    waiting: list[tuple[str, Any, bool]] = [("", settings, False)]
    while waiting:
        path, value, is_named = waiting.pop()
        if isinstance(value, Mapping | list | tuple | set):
            if (id(value), is_named) not in seen:
                seen.add((id(value), is_named))
                waiting += reversed(_entries(path, value, is_named, found))
            continue
        if isinstance(value, int) and abs(value) >= 1 << 64:  # Python writes none of more than 4,300 digits
            value = hex(value)
        text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
        kind = find_secret(text)
        if kind or (is_named and text and value is not None and not isinstance(value, bool)):
            found.append(
                FoundSecret(path, f"holds what looks like {kind}" if kind else "is called as a secret is, and holds a value", text)
            )
    return found


def _entries(path: str, value: Any, is_named: bool, found: list[FoundSecret]) -> list[tuple[str, Any, bool]]:
    """What stands one step further down; a key that is itself a secret goes to `found`."""
    if not isinstance(value, Mapping):
        return [(f"{path}.{index}", entry, is_named) for index, entry in enumerate(value)]
    entries = []
    for key, entry in value.items():
        kind, place = find_secret(str(key)), f"{path}.{redact(str(key))}".strip(".")
        if kind:
            found.append(FoundSecret(place, f"a key that looks like {kind}", str(key)))
        named_by_user = path.rpartition(".")[2] in _NAMED_BY_USER or (path == "tasks" and isinstance(entry, Mapping))
        entries.append((place, entry, is_named or (names_secret(str(key)) and not named_by_user)))
    return entries


def hide(lines: list[str], secrets: Sequence[FoundSecret]) -> list[str]:
    """Lines of other problems, which may quote a value, without any of the secrets."""
    for secret in secrets:
        for shown in {secret.value, repr(secret.value)[1:-1]}:
            lines = [re.sub(rf"(?<!\w){re.escape(shown)}(?!\w)", HIDDEN, line) if shown in line else line for line in lines]
    return lines
