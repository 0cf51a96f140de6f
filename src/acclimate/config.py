"""The whole of params.yaml: its sections, what they must agree on, and every error at once with its dotted path."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, model_validator

from acclimate import plugins
from acclimate.adapters.options import RegisterConfig, TrackingConfig
from acclimate.backbones.options import ModelConfig
from acclimate.data.options import SOURCES, CorpusSource, IngestConfig, TaskConfig, TokenizeConfig, ValidateConfig
from acclimate.errors import ConfigError
from acclimate.evaluation.options import EvaluateConfig, ProbeConfig
from acclimate.export.options import ExportConfig
from acclimate.params_file import find_secrets, hide, read_yaml
from acclimate.settings import Name, Section, listed, problems_of
from acclimate.training.options import FinetuneConfig, PretrainConfig, RunsConfig, TrainConfig

_NO_SECRETS = "no secrets in params.yaml, which git, DVC and MLflow keep; put it into the environment or .dvc/config.local (docs/data.md)"

_HALF_PAIR = "half of a surrogate pair, such as \\ud83d alone, is no character; write the character itself"
_COMPONENT_OPTIONS = {
    "objectives": "pretrain.objectives",
    "retention": "pretrain.retention.options",
    "strategies": "finetune.strategies",
}


class ReportConfig(Section):
    """The HTML report."""

    title: str = "acclimate"


class Config(Section):
    """All of params.yaml."""

    seed: int
    model: ModelConfig
    tracking: TrackingConfig = TrackingConfig()
    ingest: IngestConfig
    tasks: Annotated[dict[Name, TaskConfig], Field(min_length=1)]
    validate_: ValidateConfig = Field(default=ValidateConfig(), alias="validate")
    tokenize: TokenizeConfig = TokenizeConfig()
    pretrain: PretrainConfig
    runs: RunsConfig
    finetune: FinetuneConfig
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    probe: ProbeConfig = ProbeConfig()
    export: ExportConfig
    register_: RegisterConfig = Field(default=RegisterConfig(), alias="register")
    report: ReportConfig = ReportConfig()

    @model_validator(mode="after")
    def _references(self) -> Config:
        problems = [
            f"{where}: task {task!r} is not defined under `tasks`; defined: {', '.join(self.tasks)}"
            for where, names in (
                ("runs.tasks", self.runs.tasks),
                ("runs.single_seed_tasks", self.runs.single_seed_tasks),
                ("probe.tasks", self.probe.tasks),
                ("export.tasks", self.export.tasks),
                ("pretrain.retention.task", [self.pretrain.retention.task]),
            )
            for task in names
            if task not in self.tasks
        ]
        problems += [
            f"export.tasks: {task!r} is not fine-tuned; fine-tuned: {', '.join(self.runs.all_tasks)}"
            for task in self.export.tasks
            if task in self.tasks and task not in self.runs.all_tasks
        ]
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @model_validator(mode="after")
    def _batches_are_shared_out(self) -> Config:
        rows = {"pretrain.rows_per_batch": self.pretrain.rows_per_batch, "finetune.rows_per_batch": self.finetune.rows_per_batch}
        at_once, processes = self.train.micro_rows, self.train.launch.processes * self.train.launch.nodes
        if at_once != "auto" and at_once > max(rows.values()):
            shown = ", ".join(f"{name} {number}" for name, number in rows.items())
            raise ValueError(f"train.micro_rows: {at_once} rows at once, but no batch has so many ({shown}); `auto` computes a whole batch")
        fewer = ", ".join(f"{name} {number}" for name, number in rows.items() if number < processes)
        if fewer:
            raise ValueError(f"train.launch: {processes} processes share batches of fewer rows: {fewer}; raise it or start fewer processes")
        return self


def load_config(path: Path = Path("params.yaml")) -> Config:
    """Read and validate the whole of params.yaml, with the options of every component.

    Raises:
        ConfigError: every problem at once, one line each, with its dotted path; a secret is named by its path alone.
    """
    return parse_config(read_yaml(path), file=path)


def parse_config(raw: Mapping[Any, Any], *, file: Path) -> Config:
    """Validate what YAML holds, with the options of every component.

    Raises:
        ConfigError: see `load_config`.
    """
    secrets = find_secrets(raw)
    config, problems = None, []
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        problems = problems_of(error, Config)
    except UnicodeEncodeError:  # pydantic stumbles over it
        problems = [_HALF_PAIR]
    for component in _components(raw):
        try:
            plugins.configure(*component[:3], where=component[3])
        except ConfigError as error:
            problems += str(error).splitlines()
        except UnicodeEncodeError:
            problems.append(f"{component[3]}: {_HALF_PAIR}")
    if config is None or problems or secrets:
        found = [f"{secret.path}: {secret.kind}; {_NO_SECRETS}" for secret in secrets]
        raise ConfigError(listed(found + hide(problems, secrets), file))
    return config


def _components(raw: Mapping[Any, Any]) -> Iterator[tuple[str, str, Mapping[str, Any], str]]:
    """Family, name, options and place of each component and source, as far as the sections around them are well formed."""
    for family, path in _COMPONENT_OPTIONS.items():
        for name, options in _mapping_at(raw, path).items():
            if isinstance(name, str) and isinstance(options, Mapping):
                yield family, name, options, f"{path}.{name}"
    for table in ("corpus", "heldout", "general"):
        entries = _mapping_at(raw, "ingest").get(table)
        for index, entry in enumerate(entries if isinstance(entries, list) else []):
            with suppress(ValidationError, UnicodeEncodeError):  # the whole names them
                source = CorpusSource.model_validate(entry)
                yield SOURCES, source.kind, source.model_extra or {}, f"ingest.{table}.{index}"


def _mapping_at(raw: Mapping[Any, Any], path: str) -> Mapping[Any, Any]:
    value: Any = raw
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}
