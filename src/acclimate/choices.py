"""Choose and configure: a mapping from component names to their options becomes configured components."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, BeforeValidator, Field, SerializationInfo, ValidationInfo, create_model
from pydantic.annotated_handlers import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from acclimate import plugins
from acclimate.settings import HALF_PAIR, Options, located

_WEIGHT = "weight"
ONLY_NAMES = "only_names"
"""Key of a validation's context: components are named and not loaded, since that takes torch and two seconds."""


class _Weight(Options):
    """What stands beside the options of a component that is weighted against others."""

    weight: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 1.0


Component = TypeVar("Component")


@dataclass(frozen=True)
class Chosen(Generic[Component]):
    """One configured component.

    In params.yaml it is an entry `<name>: {<its options>}`, with `weight` among them where several losses are summed.
    """

    name: str
    component: Component
    weight: float = 1.0

    def options(self, mode: str = "json") -> dict[str, Any]:
        """What stands in params.yaml for it, defaults included."""
        if isinstance(self.component, BaseModel):
            return self.component.model_dump(mode=mode, by_alias=True)
        assert isinstance(self.component, Mapping), "named alone, see `ONLY_NAMES`"
        return dict(self.component)


@dataclass(frozen=True)
class Choice:
    """For `Annotated`: a field that chooses components of a family.

    It reads `{<name>: {<options>}, ...}`; a bare name stands for one without options. Its value is a tuple of `Chosen`, or
    the only one where `only_one` is set.
    """

    family: str
    only_one: bool = False
    at_least: int = 0
    weighted: bool = False
    always: bool = False
    """Whether its components are loaded wherever they are named, since they import little."""

    def section_of(self, key: str) -> type[BaseModel] | None:
        """The options of the component called so."""
        return plugins.options_class(self.family, key) if key in plugins.names(self.family) else None

    def __get_pydantic_core_schema__(self, _source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        """Validate from, and write back to, what stands in params.yaml."""
        writes = core_schema.plain_serializer_function_ser_schema(self._as_written, info_arg=True)
        return core_schema.with_info_plain_validator_function(self._validated, serialization=writes)

    def _validated(self, given: Any, info: ValidationInfo) -> Chosen[Any] | tuple[Chosen[Any], ...]:
        if isinstance(given, Chosen) or (isinstance(given, tuple) and all(isinstance(each, Chosen) for each in given)):
            return given
        if isinstance(given, str):
            given = {given: None}
        if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
            raise ValueError(f"expected `<name>: {{<options>}}` of {self.family}; a bare name stands for one without options")
        if any("\ud800" <= letter <= "\udfff" for name in given for letter in name):
            raise ValueError(HALF_PAIR)
        if self.only_one and len(given) != 1:
            raise ValueError(f"exactly one of the {self.family} is chosen here, not {len(given)}")
        if len(given) < self.at_least:
            raise ValueError(f"at least one of the {self.family} is needed (allowed: {', '.join(plugins.names(self.family))})")
        if (info.context or {}).get(ONLY_NAMES) and not self.always:
            named = tuple(Chosen(name, options or {}) for name, options in given.items())
            return named[0] if self.only_one else named
        fields: dict[str, Any] = {
            f"entry_{number}": (Annotated[Any, BeforeValidator(self._configured(name))], Field(alias=name))
            for number, name in enumerate(given)
        }
        read = create_model(self.family, **fields).model_validate(given)  # reports every problem at once, each with its place
        chosen = tuple(getattr(read, field) for field in fields)
        return chosen[0] if self.only_one else chosen

    def _configured(self, name: str) -> Callable[[Any], Chosen[Any]]:
        """What makes the entry called so into a configured component."""

        def configured(options: Any) -> Chosen[Any]:
            try:
                plugins.check_name(self.family, name)
            except ValueError as error:
                raise located(str(error), value={}) from None
            if not isinstance(options, Mapping | None):
                raise ValueError("expected the component's options, `<option>: <value>` each")
            given, weight = dict(options or {}), _Weight()
            if self.weighted and _WEIGHT in given:
                weight = _Weight.model_validate({_WEIGHT: given.pop(_WEIGHT)})
            return Chosen(name, plugins.options_class(self.family, name).model_validate(given), weight.weight)

        return configured

    def _as_written(self, value: Chosen[Any] | tuple[Chosen[Any], ...], info: SerializationInfo) -> dict[str, Any]:
        return {
            each.name: {
                **each.options(info.mode),
                **({_WEIGHT: each.weight} if self.weighted else {}),
            }
            for each in ((value,) if isinstance(value, Chosen) else value)
        }
