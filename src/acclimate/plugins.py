"""Components found by module name: `strategies/lora.py` is the strategy called `lora`.

A component's module holds `class Config(Section)` with its own options; the file is the whole registration.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from types import ModuleType
from typing import Any

from pydantic import ValidationError

from acclimate.errors import ConfigError

FAMILIES = ("objectives", "retention", "strategies", "tasks")


def names(family: str) -> list[str]:
    """Names of every component of a family, sorted."""
    package = importlib.import_module(f"acclimate.{family}")
    valid = getattr(package, "KINDS", None)
    return sorted(valid or (module.name for module in pkgutil.iter_modules(package.__path__) if not module.name.startswith("_")))


def load(family: str, name: str) -> ModuleType:
    """Import one component.

    Raises:
        ConfigError: there is no such component; the message names the nearest and all valid ones.
    """
    valid = names(family)
    if name not in valid:
        nearest = difflib.get_close_matches(name, valid, n=1)
        hint = f"did you mean {nearest[0]!r}? " if nearest else ""
        raise ConfigError(f"{family}: no component called {name!r}; {hint}allowed: {', '.join(valid)}")
    return importlib.import_module(f"acclimate.{family}.{name}")


def configure(family: str, name: str, options: dict[str, Any], *, where: str) -> Any:
    """Validate a component's options with its own `Config`.

    Args:
        where: dotted path of the options in params.yaml, for messages.
    Raises:
        ConfigError: unknown or invalid options, all at once.
    """
    return _validated(load(family, name).Config, options, where)


def configure_class(module: str, name: str, options: dict[str, Any], *, where: str) -> Any:
    """Validate options with a class that their module owns, such as `data.cleaning`'s `CleaningConfig`.

    Raises:
        ConfigError: unknown or invalid options, all at once.
    """
    return _validated(getattr(importlib.import_module(f"acclimate.{module}"), name), options, where)


def _validated(config_class: Any, options: dict[str, Any], where: str) -> Any:
    try:
        return config_class(**options)
    except ValidationError as error:
        from acclimate.config import describe_errors

        raise ConfigError(describe_errors(error, config_class, prefix=where)) from None
