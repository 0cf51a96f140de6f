"""Jinja2 templates as text: every value is escaped, and a value that a template misses is an error that names it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acclimate.report import wording

if TYPE_CHECKING:
    from jinja2 import Environment


def render(template: str, **values: Any) -> str:
    """Fill in a template of `templates/`.

    Raises:
        jinja2.UndefinedError: the template reads a value that is not there; the message names it.
    """
    return _environment().get_template(template).render(values)


@functools.cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    def for_template(filter_: Callable[..., str]) -> Callable[..., str]:
        """The filter, with a dash for None; `str` raises the error that names a missing value."""
        return lambda value, *arguments: (
            str(value) if isinstance(value, StrictUndefined) else wording.DASH if value is None else filter_(value, *arguments)
        )

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=lambda name: name != "summary.txt",
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.do"],
    )
    environment.filters |= {name: for_template(filter_) for name, filter_ in inspect.getmembers(wording, inspect.isfunction)}
    return environment
