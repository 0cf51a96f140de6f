"""What every section of params.yaml is made of: a frozen pydantic model, its value types, and one line for each problem."""

from __future__ import annotations

import difflib
import re
import reprlib
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Protocol

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from acclimate.errors import one_line
from acclimate.redaction import redact

Share = Annotated[float, Field(ge=0.0, le=1.0)]
OpenShare = Annotated[float, Field(gt=0.0, lt=1.0)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0.0)]
LearningRate = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
UNKNOWN_KEY = "unknown_key"
"""Type of a problem that names its own nearest key."""
MAX_BITS = 63
"""Of a whole number, without its sign."""
MAX_SHOWN = 50
"""Problems that an error names."""
HALF_PAIR = "half of a surrogate pair, such as \\ud83d alone, is no character; write the character itself"
_NAME_FORM, _MAX_NAME_CHARS = re.compile(r"[A-Za-z][A-Za-z0-9_]*"), 60


def _check_name(name: str) -> str:
    if not _NAME_FORM.fullmatch(name) or len(name) > _MAX_NAME_CHARS:
        raise ValueError(
            f"it becomes a file name and a part of longer ones: letters, digits and _, a letter first, at most {_MAX_NAME_CHARS} of them"
        )
    return name


Name = Annotated[str, AfterValidator(_check_name)]
"""Of a task, an encoder or a recipe."""


class Described(Protocol):
    """For `Annotated`: says which section stands below a key of a field that is no section itself."""

    def section_of(self, key: str) -> type[BaseModel] | None:
        """The section at a key; None where there is none."""


def located(message: str, *place: str, value: Any) -> ValidationError:
    """A problem of one key below the value that a validator checks.

    Args:
        value: shown with the problem, unless it is a mapping.
    """
    written = message.encode(errors="backslashreplace").decode()  # pydantic stumbles over half of a surrogate pair
    error = PydanticCustomError("value_error", "{message}", {"message": written})
    return ValidationError.from_exception_data("section", [InitErrorDetails(type=error, loc=place, input=value)])


def removed(replacements: Mapping[str, str]) -> BeforeValidator:
    """For `Annotated`: refuse a value that an earlier version took, and name what takes its place."""

    def refuse(value: Any) -> Any:
        if isinstance(value, str) and value in replacements:
            raise ValueError(f"`{value}` was removed; {replacements[value]}")
        return value

    return BeforeValidator(refuse)


class Options(BaseModel):
    """One section of params.yaml. Frozen; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)

    @field_validator("*")
    @classmethod
    def _fits_into_64_bits(cls, value: Any) -> Any:
        """Tensors hold no larger number, and Python does not even print one of more than 4,300 digits."""
        for each in value if isinstance(value, list | tuple) else [value]:
            if isinstance(each, int) and each.bit_length() > MAX_BITS:
                raise ValueError(f"a whole number of {each.bit_length():,} bits; at most {MAX_BITS} are allowed")
        return value


def describe_errors(error: ValidationError, model: type[BaseModel], *, prefix: str = "", file: Path | None = None) -> str:
    """One line per problem: dotted path, what is wrong, what is allowed or the nearest valid name."""
    problems = problems_of(error, model, prefix)
    return listed(problems, file) if file else "\n".join(map(one_line, problems[:MAX_SHOWN]))


def listed(problems: list[str], file: Path) -> str:
    """An error over all problems of a file, each on a line of its own."""
    more = [f"and {len(problems) - MAX_SHOWN} more"] if len(problems) > MAX_SHOWN else []
    return "\n  ".join([f"{file}: {len(problems)} problem{'s' if len(problems) > 1 else ''}", *map(one_line, problems[:MAX_SHOWN]), *more])


Place = tuple[int | str, ...]
"""Keys and indices from the root of params.yaml to a value."""


def problems_of(error: ValidationError, model: type[BaseModel], prefix: str = "", *, place: Callable[[Place], Place] = tuple) -> list[str]:
    """One line a problem; those beyond the ones that are shown are empty.

    Args:
        place: where a value stands that the model has at a place.
    """
    lines = []
    problems = error.errors(include_url=False)
    for item in problems[:MAX_SHOWN]:
        path = ".".join([prefix, *(str(part) for part in place(item["loc"]) if part != "[key]")]).strip(".")
        if item["type"] == "extra_forbidden":
            lines.append(f"{path}: unknown key; {_suggest(model, item['loc'])}")
        elif item["type"] == UNKNOWN_KEY:
            lines.append(f"{path}: {item['msg']}")
        elif item["type"] == "missing":
            lines.append(f"{path}: missing; it must be given")
        else:
            message = item["msg"].removeprefix("Value error, ")
            given = "" if isinstance(item["input"], dict | BaseModel) else f" (given: {_shown(item['input'])})"
            lines.append(f"{path}: {message}{given}" if path else message)
    lines = [redact(line) for line in lines]
    return lines + [""] * (len(problems) - len(lines))


def _shown(value: Any) -> str:
    """A value as an error shows it: aliases of aliases of aliases can make a short file a value of a thousand million parts."""
    short = reprlib.Repr()
    short.maxlevel, short.maxstring, short.maxother = 2, 200, 200
    short.maxlist = short.maxdict = short.maxset = short.maxtuple = 20
    try:
        return short.repr(value)
    except ValueError:  # Python writes no whole number of more than 4,300 digits
        return f"a {type(value).__name__}"


def _suggest(model: type[BaseModel], loc: tuple[int | str, ...]) -> str:
    """Nearest valid key of the section that holds an unknown key."""
    section: Any = model
    for part in loc[:-1]:
        section = _descend(section, part)
    if not (isinstance(section, type) and issubclass(section, BaseModel)):
        return "remove it"
    return nearest_key(str(loc[-1]), [field.alias or name for name, field in section.model_fields.items()])


def nearest_key(key: str, valid: Sequence[str]) -> str:
    """What to write instead of an unknown key."""
    nearest = difflib.get_close_matches(key, valid, n=1, cutoff=0.5)
    return f"did you mean `{nearest[0]}`?" if nearest else f"allowed: {', '.join(valid)}"


def _descend(annotation: Any, part: int | str) -> Any:
    """The type found one step further down a dotted path; unions give their section member."""
    if hasattr(annotation, "section_of"):
        return annotation.section_of(str(part))
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        by_alias = {field.alias or name: field for name, field in annotation.model_fields.items()}
        if part not in by_alias:
            return annotation if part == annotation.__name__ else None
        described = [each for each in by_alias[str(part)].metadata if hasattr(each, "section_of")]
        return described[0] if described else _section_of(by_alias[str(part)].annotation)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (dict, list) and arguments:
        return _section_of(arguments[-1])
    return None


def _section_of(annotation: Any) -> Any:
    """Unwrap Annotated and Optional."""
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        described = [each for each in typing.get_args(annotation)[1:] if hasattr(each, "section_of")]
        return described[0] if described else _section_of(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        members = [_section_of(member) for member in typing.get_args(annotation)]
        sections = [m for m in members if hasattr(m, "section_of") or (isinstance(m, type) and issubclass(m, BaseModel))]
        return sections[0] if sections else members[0]
    return annotation
