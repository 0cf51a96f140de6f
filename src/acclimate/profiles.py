"""Lay a set of values, `params.<name>.yaml`, over params.yaml without losing its comments."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acclimate.artifacts import partial
from acclimate.config import CHOICES, load_config
from acclimate.errors import ConfigError
from acclimate.params_file import read_yaml

_MAKES_A_NEW_ONE = {"tasks": "kind", "encoders": "start", "recipes": "strategy"}
"""A profile's entry that has this key is not meant for one that is there."""


@dataclass(frozen=True)
class Change:
    """One key whose value a profile changed."""

    path: str
    before: Any
    after: Any


def profile_names(directory: Path) -> list[str]:
    """The profiles that stand beside params.yaml."""
    return sorted(path.name.split(".")[1] for path in directory.glob("params.*.yaml"))


def apply_profile(params: Path, name: str) -> list[Change]:
    """Merge a profile into params.yaml: sections key by key, lists, values and choices of components whole.

    The result is validated before it takes the file's place, in one rename; nothing is written when nothing changes.

    Returns:
        The keys that changed, in the profile's order.

    Raises:
        ConfigError: there is no such profile, or params.yaml would not be valid with it.
    """
    from ruamel.yaml import YAML

    valid = profile_names(params.parent)
    if name not in valid:
        nearest = difflib.get_close_matches(name, valid, n=1)
        hint = f"did you mean {nearest[0]!r}? " if nearest else ""
        raise ConfigError(f"no profile called {name!r}; {hint}there are: {', '.join(valid) or 'none'} (params.<profile>.yaml)")
    profile = params.with_name(f"params.{name}.yaml")
    for path in (params, profile):
        read_yaml(path)  # its errors name the file and the line
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 140
    yaml.indent(mapping=2, sequence=4, offset=2)
    merged = yaml.load(params.read_text(encoding="utf-8"))
    values = yaml.load(profile.read_text(encoding="utf-8"))  # not read_yaml: its lists keep their style
    _leave_out_what_is_not_there(values, merged)
    changes = merge(merged, values)
    if changes:
        temporary = partial(params)
        try:
            with temporary.open("w", encoding="utf-8") as file:
                yaml.dump(merged, file)
            load_config(temporary)
            os.replace(temporary, params)
        except ConfigError as error:
            raise ConfigError(str(error).replace(str(temporary), f"{params} with {profile.name}")) from None
        finally:
            temporary.unlink(missing_ok=True)
    return changes


def _leave_out_what_is_not_there(values: dict[str, Any], params: dict[str, Any]) -> None:
    """A profile's budgets for tasks, encoders and recipes that params.yaml does not have, such as the default's, are passed over.

    An entry that the profile itself runs is meant to be new.
    """
    runs = values.get("runs") or {}
    named = {name for names in runs.values() if isinstance(names, list) for name in names} if isinstance(runs, dict) else set()
    for section, key in _MAKES_A_NEW_ONE.items():
        mine, given = params.get(section) or {}, values.get(section) or {}
        for name in [name for name, settings in given.items() if name not in mine and key not in (settings or {}) and name not in named]:
            del given[name]


def merge(target: dict[str, Any], source: dict[str, Any], prefix: str = "") -> list[Change]:
    """Merge `source` into `target` in place; mappings key by key, anything else and choices of components whole."""
    changes: list[Change] = []
    for key, value in source.items():
        path = f"{prefix}{key}"
        present = target.get(key)
        if isinstance(value, dict) and isinstance(present, dict) and key not in CHOICES:
            changes += merge(present, value, f"{path}.")
        elif key not in target or present != value:
            changes.append(Change(path, present, value))
            target[key] = value
    return changes
