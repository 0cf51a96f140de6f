"""The whole of params.yaml: its sections, what they must agree on, and every error at once with its dotted path."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field, ValidationError, model_validator

from acclimate import kinds, plugins
from acclimate.adapters.options import RegisterConfig, TrackingConfig
from acclimate.backbones.options import ModelConfig
from acclimate.choices import ONLY_NAMES
from acclimate.data.leakage.near_duplicates import TEXTS
from acclimate.data.options import SOURCES, CorpusSource, IngestConfig, TaskConfig, TokenizeConfig, ValidateConfig
from acclimate.errors import ConfigError
from acclimate.evaluation.options import EvaluateConfig, ProbeConfig
from acclimate.export.options import ExportConfig
from acclimate.former_params import lines_to_write
from acclimate.params_file import find_secrets, hide, read_yaml
from acclimate.settings import HALF_PAIR, Name, Options, Place, listed, problems_of
from acclimate.training.options import EncoderConfig, RecipeConfig, RunsConfig, TrainConfig

BASE = "base"
"""The encoder that the stage `backbone` keeps as it came."""
SCRATCH = "scratch"
"""The encoder that it writes beside: the same architecture, config and tokenizer with random weights."""
_GIVEN = {BASE: "the encoder that `model` names", SCRATCH: "the encoder with random weights"}
"""Encoders that no section makes, of which every other one starts, directly or not."""
Entry = TypeVar("Entry")
_SHARED = {"encoders": "pretrain", "recipes": "finetune"}
"""Sections of variants, and what all of each share."""
_OWN = {"encoders": ("start",), "recipes": ()}
"""Keys of a variant that cannot be shared."""
CHOICES = ("objectives", "retention", "strategy", "terms")
"""Keys that choose components: their value is replaced whole, never merged."""
_MERGED = ("optimizer", "health")
"""Mappings whose keys are laid over the shared ones one by one; any other value takes the place of the shared one."""
_NO_SECRETS = "no secrets in params.yaml, which git, DVC and MLflow keep; put it into the environment or .dvc/config.local (docs/data.md)"


class ReportConfig(Options):
    """The HTML report."""

    title: str = "acclimate"


class Config(Options):
    """All of params.yaml.

    `encoders` and `recipes` hold each variant whole: what all share with its own values laid over it.
    """

    seed: int
    model: ModelConfig
    tracking: TrackingConfig = TrackingConfig()
    ingest: IngestConfig
    tasks: Annotated[dict[Name, TaskConfig], Field(min_length=1)]
    validate_: ValidateConfig = Field(default=ValidateConfig(), alias="validate")
    tokenize: TokenizeConfig = TokenizeConfig()
    pretrain: dict[str, Any] = {}
    encoders: dict[Name, EncoderConfig]
    finetune: dict[str, Any] = {}
    recipes: Annotated[dict[Name, RecipeConfig], Field(min_length=1)]
    runs: RunsConfig
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    probe: ProbeConfig = ProbeConfig()
    export: ExportConfig
    register_: RegisterConfig = Field(default=RegisterConfig(), alias="register")
    report: ReportConfig = ReportConfig()

    @model_validator(mode="before")
    @classmethod
    def _variants_are_whole(cls, given: Any) -> Any:
        return {**given, **_whole_variants(given)} if isinstance(given, Mapping) else given

    def encoder(self, name: str) -> EncoderConfig:
        """A made encoder.

        Raises:
            ConfigError: params.yaml does not define it.
        """
        return defined("encoders", name, self.encoders)

    def recipe(self, name: str) -> RecipeConfig:
        """A way to fine-tune.

        Raises:
            ConfigError: params.yaml does not define it.
        """
        return defined("recipes", name, self.recipes)


def defined(section: str, name: str, entries: Mapping[str, Entry]) -> Entry:
    """An entry of a section by its name.

    Raises:
        ConfigError: there is none; the message names the nearest.
    """
    if name not in entries:
        raise ConfigError(_undefined(section, name, entries))
    return entries[name]


def _whole_variants(raw: Mapping[Any, Any]) -> dict[str, Any]:
    """The sections of variants, as far as they are well formed, with what all share laid below each."""
    return {
        section: {
            name: _laid_over(_mapping_at(raw, shared), own) if isinstance(own, Mapping) else own for name, own in raw[section].items()
        }
        for section, shared in _SHARED.items()
        if isinstance(raw.get(section), Mapping)
    }


def _laid_over(shared: Mapping[Any, Any], own: Mapping[Any, Any]) -> dict[Any, Any]:
    merged = {**shared, **own}
    for key in _MERGED:
        if isinstance(shared.get(key), Mapping) and isinstance(own.get(key), Mapping):
            merged[key] = {**shared[key], **own[key]}
    return merged


def _place_in(raw: Mapping[Any, Any], place: Place) -> Place:
    """Where params.yaml holds a value of a variant: in the variant, or in what all share."""
    if len(place) < 3 or (shared := _SHARED.get(str(place[0]))) is None or place[2] in ("[key]", *_OWN[str(place[0])]):
        return place
    section, name, key, *rest = place
    own = _mapping_at(raw, f"{section}.{name}")
    is_own = key in own and not (key in _MERGED and rest and isinstance(own[key], Mapping) and rest[0] not in own[key])
    return place if is_own else (shared, key, *rest)


def disagreements(config: Config) -> list[str]:
    """What sections say of each other that does not hold, one line each."""
    runs, tasks, encoders = config.runs, config.tasks, [*_GIVEN, *config.encoders]
    named = [
        *((where, "tasks", names, tasks) for where, names in _tasks_named(config).items()),
        ("runs.encoders", "encoders", runs.encoders, encoders),
        ("runs.recipes", "recipes", runs.recipes, config.recipes),
        ("probe.controls", "encoders", config.probe.controls, encoders),
        *((f"encoders.{name}.start", "encoders", [each.start], encoders) for name, each in config.encoders.items()),
    ]
    problems = [
        f"{where}: {_undefined(section, name, there)}" for where, section, names, there in named for name in names if name not in there
    ]
    problems += [
        f"export.tasks: {task!r} is not fine-tuned; fine-tuned: {', '.join(runs.all_tasks)}"
        for task in config.export.tasks
        if task in tasks and task not in runs.all_tasks
    ]
    problems += [
        f"{section}.{key}: stands in each of `{variants}`"
        for variants, section in _SHARED.items()
        for key in _OWN[variants]
        if key in getattr(config, section)
    ]
    if taken := [name for name in _GIVEN if name in config.encoders]:
        problems += [f"encoders.{name}: so {_GIVEN[name]} is called; give this one another name" for name in taken]
    elif circle := _circle(config.encoders):
        problems.append(f"encoders: {' starts from '.join(circle)}, a circle; one of them must start from `{BASE}` or `{SCRATCH}`")
    problems += [
        *_text_that_is_not_there(config),
        *_what_the_ledger_cannot_judge(config),
        *_retention_that_recipes_cannot_use(config),
        *_terms_that_exclude_each_other(config),
    ]
    return problems + list(_batches_that_cannot_be_shared_out(config))


def _text_that_is_not_there(config: Config) -> list[str]:
    wanting = [] if config.ingest.other else [name for name, encoder in config.encoders.items() if encoder.text == "other"]
    shared = config.pretrain.get("text") == "other"
    places = dict.fromkeys("pretrain.text" if shared else f"encoders.{name}.text" for name in wanting)
    return [f"{place}: `other` is the text of ingest.other, which names none; name files there or write `corpus`" for place in places]


def _what_the_ledger_cannot_judge(config: Config) -> Iterator[str]:
    probe, runs = config.probe, config.runs
    for name in ("tasks", "general_tasks"):
        for task in getattr(probe, name):
            if task in config.tasks and not kinds.is_sentence_level(config.tasks[task].kind):
                yield f"probe.{name}: {task!r}: {kinds.not_sentence_level(config.tasks[task].kind)}"
    for task in probe.general_tasks:
        if task in runs.all_tasks:
            yield f"probe.general_tasks: {task!r} is fine-tuned (runs); what is lost on a task is measured where nothing is trained on it"
    if runs.reference.encoder in probe.controls:
        yield f"probe.controls: {runs.reference.encoder!r} is the reference, with which every encoder is compared anyway; remove it here"


def _retention_that_recipes_cannot_use(config: Config) -> Iterator[str]:
    for name, recipe in config.recipes.items():
        for chosen in recipe.retention:
            if not getattr(chosen.component, "in_finetuning", True):
                usable = [each for each in plugins.names("retention") if plugins.load("retention", each).in_finetuning]
                yield f"recipes.{name}.retention.{chosen.name}: works in pretraining alone; a recipe may choose: {', '.join(usable)}"


def _terms_that_exclude_each_other(config: Config) -> Iterator[str]:
    for name, recipe in config.recipes.items():
        several = [chosen.name for chosen in recipe.terms if getattr(chosen.component, "has_passes", False)]
        if len(several) > 1:
            yield f"recipes.{name}.terms: {' and '.join(several)} each run the batch in passes of their own; choose one of them"
        for chosen in recipe.terms:
            if getattr(chosen.component, "has_passes", False) and chosen.weight != 1:
                yield f"recipes.{name}.terms.{chosen.name}.weight: has no effect, since its passes take the place of the batch; remove it"


def _tasks_named(config: Config) -> dict[str, list[str]]:
    return {
        "runs.tasks": config.runs.tasks,
        "runs.single_seed_tasks": config.runs.single_seed_tasks,
        "probe.tasks": config.probe.tasks,
        "probe.general_tasks": config.probe.general_tasks,
        "export.tasks": config.export.tasks,
    }


def _undefined(section: str, name: str, there: Iterable[str]) -> str:
    nearest = difflib.get_close_matches(name, list(there), n=1)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    return f"{name!r} is not defined under `{section}`{hint} (defined: {', '.join(there) or 'none'})"


def _circle(encoders: Mapping[str, EncoderConfig]) -> list[str]:
    """Encoders of which each starts from the next and the last from the first; empty where every one leads to one that is given."""
    for name in encoders:
        path = [name]
        while path[-1] in encoders:
            path.append(encoders[path[-1]].start)
            if path[-1] in path[:-1]:
                return path[path.index(path[-1]) :]
    return []


def _batches_that_cannot_be_shared_out(config: Config) -> Iterator[str]:
    variants = {f"{section}.{name}": each for section in _SHARED for name, each in getattr(config, section).items()}
    rows = {f"{name}.batch_size": each.batch_size for name, each in variants.items()}
    at_once, processes = config.train.micro_batch_size, config.train.launch.processes * config.train.launch.nodes
    if at_once != "auto" and at_once > max(rows.values()):
        shown = ", ".join(f"{name} {number}" for name, number in rows.items())
        yield f"train.micro_batch_size: {at_once} rows at once, but no batch has so many ({shown}); `auto` computes a whole batch"
    for name, encoder in config.encoders.items() if processes > 1 else ():
        for chosen in encoder.objectives:
            if not getattr(chosen.component, "divisible", True):
                yield (
                    f"encoders.{name}.objectives.{chosen.name}: the rows of a batch need each other, and train.launch would part them over "
                    f"{processes} processes; set it to 1 or choose another objective"
                )
    if fewer := ", ".join(f"{name} {number}" for name, number in rows.items() if number < processes):
        yield f"train.launch: {processes} processes share batches of fewer rows: {fewer}; raise it or start fewer processes"


def load_config(path: Path = Path("params.yaml"), *, components: bool = True) -> Config:
    """Read and validate the whole of params.yaml.

    Args:
        components: also load the chosen components and validate their options, which takes torch and two seconds.

    Raises:
        ConfigError: every problem at once, one line each, with its dotted path; a secret is named by its path alone.
    """
    return parse_config(read_yaml(path), file=path, components=components)


def parse_config(raw: Mapping[Any, Any], *, file: Path, components: bool = True) -> Config:
    """Validate what YAML holds.

    Raises:
        ConfigError: see `load_config`.
    """
    secrets = find_secrets(raw)
    if former := lines_to_write(raw):
        raise ConfigError(listed(hide(former, secrets), file))
    config, problems = None, []
    try:
        config = Config.model_validate(raw, context={ONLY_NAMES: not components})
        problems = disagreements(config)
    except ValidationError as error:
        problems = list(dict.fromkeys(problems_of(error, Config, place=lambda place: _place_in(raw, place))))
    except UnicodeEncodeError:  # pydantic stumbles over it
        problems = [HALF_PAIR]
    for kind, options, place in _sources(raw):
        try:
            plugins.configure(SOURCES, kind, options, where=place)
        except ConfigError as error:
            problems += str(error).splitlines()
        except UnicodeEncodeError:
            problems.append(f"{place}: {HALF_PAIR}")
    if config is None or problems or secrets:
        found = [f"{secret.path}: {secret.kind}; {_NO_SECRETS}" for secret in secrets]
        raise ConfigError(listed(found + hide(problems, secrets), file))
    return config


def _sources(raw: Mapping[Any, Any]) -> Iterator[tuple[str, Mapping[str, Any], str]]:
    """Kind, options and place of each source, as far as the sections around them are well formed."""
    for table in TEXTS:
        entries = _mapping_at(raw, "ingest").get(table)
        for index, entry in enumerate(entries if isinstance(entries, list) else []):
            with suppress(ValidationError, UnicodeEncodeError):  # the whole names them
                source = CorpusSource.model_validate(entry)
                yield source.kind, source.model_extra or {}, f"ingest.{table}.{index}"


def _mapping_at(raw: Mapping[Any, Any], path: str) -> Mapping[Any, Any]:
    value: Any = raw
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}
