"""Components found by module name: `strategies/lora.py` is the strategy called `lora`.

A component's file ends with `COMPONENT`, a frozen section whose fields are its options; the file is the whole registration.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Collection, Mapping
from typing import Any

from pydantic import ValidationError

from acclimate.errors import ConfigError
from acclimate.settings import Options, describe_errors

FAMILIES = ("objectives", "retention", "strategies", "terms", "tasks")


def names(family: str) -> list[str]:
    """Names of every component of a family, sorted."""
    package = importlib.import_module(f"acclimate.{family}")
    valid = getattr(package, "KINDS", None)
    return sorted(valid or (module.name for module in pkgutil.iter_modules(package.__path__) if not module.name.startswith("_")))


def check_among(what: str, name: str, valid: Collection[str]) -> None:
    """Refuse a name that is not one of those that there are.

    Raises:
        ValueError: the message names the nearest and all valid ones.
    """
    if name not in valid:
        nearest = difflib.get_close_matches(name, valid, n=1)
        hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
        raise ValueError(f"{name!r} is not one of the {what}{hint} (allowed: {', '.join(valid)})")


def check_name(family: str, name: str) -> None:
    """Refuse a component that has no file.

    Raises:
        ValueError: the message names the nearest and all valid ones.
    """
    check_among(family, name, names(family))


def require(family: str, name: str) -> None:
    """As `check_name`, for a name that was not checked with params.yaml.

    Raises:
        ConfigError: there is no such component.
    """
    try:
        check_name(family, name)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def load(family: str, name: str) -> Any:
    """Import one component: its class, or the module of a family whose components are modules.

    Raises:
        ConfigError: there is no such component; the message names the nearest and all valid ones.
    """
    require(family, name)
    module = importlib.import_module(f"acclimate.{family}.{name}")
    return getattr(module, "COMPONENT", module)


def options_class(family: str, name: str) -> type[Options]:
    """The section of a component's options: the component itself, or the `Config` of its module.

    Raises:
        ConfigError: there is no such component.
    """
    component = load(family, name)
    found: type[Options] = component if isinstance(component, type) else component.Config
    return found


def configure(family: str, name: str, options: Mapping[str, Any], *, where: str) -> Any:
    """Validate a component's options.

    Args:
        where: dotted path of the options in params.yaml, for messages.
    Raises:
        ConfigError: unknown or invalid options, all at once.
    """
    section = options_class(family, name)
    try:
        return section.model_validate(options)
    except ValidationError as error:
        raise ConfigError(describe_errors(error, section, prefix=where)) from None
