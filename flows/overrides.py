"""Other values of params.yaml for one flow run: the form that the deployment shows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from acclimate.config import load_config
from acclimate.errors import ConfigError

_PATHS = {
    "encoders": "runs.encoders",
    "recipes": "runs.recipes",
    "finetune_learning_rate": "finetune.learning_rate",
    "finetune_epochs": "finetune.epochs",
    "pretrain_tokens": "pretrain.tokens",
    "seeds": "runs.seeds",
}
_OPEN = (
    "seed",
    "tokenize",
    "pretrain",
    "encoders",
    "finetune",
    "recipes",
    "runs",
    "probe",
    "tasks.*.max_train_rows",
    "tasks.*.max_dev_rows",
    "tasks.*.max_test_rows",
    "tasks.*.max_length",
    "tasks.*.pooling",
    "train.micro_batch_size",
    "train.compile",
    "train.activation_checkpointing",
    "train.attention",
    "evaluate.bootstrap_samples",
    "evaluate.confidence",
    "evaluate.calibration_bins",
)
"""What the form may change: how a model is trained and measured. Not what is read, from where, what passes a gate, or where it goes."""


class Overrides(BaseModel):
    """Values to change for this run only. Empty fields keep what params.yaml says."""

    model_config = ConfigDict(extra="forbid")

    everything: ClassVar[bool] = False

    encoders: list[str] | None = Field(default=None, title="Encoders to compare", description="`base` or names under `encoders`")
    recipes: list[str] | None = Field(default=None, title="Recipes to compare", description="Names under `recipes`")
    finetune_learning_rate: Annotated[float, Field(gt=0)] | None = Field(
        default=None, title="Fine-tuning: learning rate", description="Of every recipe that has none of its own"
    )
    finetune_epochs: Annotated[float, Field(gt=0)] | None = Field(default=None, title="Fine-tuning: epochs")
    pretrain_tokens: Annotated[int, Field(gt=0)] | None = Field(default=None, title="Pretraining: tokens to train on")
    seeds: list[int] | None = Field(default=None, title="Seeds of fine-tuning")
    params: dict[str, Any] = Field(
        default={}, title="Any other value", description='Dotted paths of params.yaml, such as {"tokenize.sequence_length": 64}'
    )

    def by_path(self) -> dict[str, Any]:
        """The values that are set, by dotted path.

        Raises:
            ConfigError: a path that may not be changed from here.
        """
        named = {path: getattr(self, field) for field, path in _PATHS.items() if getattr(self, field) is not None}
        closed = [path for path in self.params if not (self.everything or _is_open(path))]
        if closed:
            refused = ", ".join(map(repr, closed))
            raise ConfigError(f"{refused}: not open to the form, which changes {', '.join(_OPEN)}; edit params.yaml instead")
        return {**named, **self.params}


class TerminalOverrides(Overrides):
    """The same from `--set`: whoever has the terminal may edit params.yaml as well. No form and no API makes one of these."""

    everything: ClassVar[bool] = True


def _is_open(path: str) -> bool:
    """Whether a path is one of those, or below one."""
    parts = path.split(".")
    return any(
        len(parts) >= len(pattern) and all(wanted in ("*", part) for wanted, part in zip(pattern, parts, strict=False))
        for pattern in (each.split(".") for each in _OPEN)
    )


def write_params(path: Path, values: dict[str, Any]) -> None:
    """Change params.yaml in place, comments kept, and validate the whole.

    Raises:
        ConfigError: a path that is not there, or a value that is not allowed; every problem at once.
    """
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 140
    yaml.indent(mapping=2, sequence=4, offset=2)
    content = yaml.load(path.read_text(encoding="utf-8"))
    for dotted, value in values.items():
        *sections, name = dotted.split(".")
        section = content
        for each in sections:
            section = section.setdefault(each, {}) if isinstance(section, dict) else None
        if not isinstance(section, dict):
            raise ConfigError(f"{dotted}: {sections[-1]!r} is not a section of params.yaml, so it holds no {name!r}")
        section[name] = value
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(content, file)
    load_config(path)
