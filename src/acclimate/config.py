"""The shape of params.yaml: frozen sections, unknown keys refused, every error at once with its dotted path."""

from __future__ import annotations

import difflib
import re
import reprlib
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from acclimate import plugins
from acclimate.errors import ConfigError, one_line
from acclimate.redaction import HIDDEN, find_secret, names_secret, redact

Share = Annotated[float, Field(ge=0.0, le=1.0)]
OpenShare = Annotated[float, Field(gt=0.0, lt=1.0)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0.0)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]
LearningRate = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
OptimizerName = Literal["adamw", "stable_adamw", "lamb"]
Schedule = Literal["linear", "cosine", "polynomial", "constant", "cyclical", "wsd"]
CycleShape = Literal["cosine", "triangular"]
DecayShape = Literal["1-sqrt", "linear"]
Average = Literal["none", "ema", "tail"]
SCHEDULE_OPTIONS: dict[Schedule, tuple[str, ...]] = {
    "linear": ("min_factor",),
    "cosine": ("min_factor",),
    "polynomial": ("min_factor", "power"),
    "constant": (),
    "cyclical": ("min_factor", "cycles", "cycle_shape"),
    "wsd": ("min_factor", "decay_share", "decay_shape"),
}
AVERAGE_OPTIONS: dict[Average, tuple[str, ...]] = {"none": (), "ema": ("ema_decay",), "tail": ("tail_share",)}
Precision = Literal["auto", "bf16", "fp16", "fp32"]
_MAX_BYTES, _MAX_DEPTH, _MAX_MERGED = 1_000_000, 50, 10_000
_MAX_SHOWN = 50
"""Problems that an error names."""
SOURCES = "data.sources"
REMOVED_SOURCES = {
    "remote": "run `dvc import-url <url> data/...`",
    "sql": "run `dvc import-db --conn <name> --sql <query> -o data/...`",
}
INGEST_RULES = {
    "cleaning": ("data.cleaning", "CleaningConfig"),
    "quality": ("data.quality", "QualityConfig"),
    "language": ("data.language", "LanguageConfig"),
    "personal_data": ("data.personal_data", "PersonalDataConfig"),
    "duplicates": ("data.near_duplicates", "DuplicatesConfig"),
    "decontamination": ("data.contamination", "DecontaminationConfig"),
}


Options = dict[str, Any]
"""Options whose shape the module that uses them owns; checked when params.yaml is read."""


class Section(BaseModel):
    """One section of params.yaml. Frozen; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class ModelDigests(Section):
    """SHA-256 of each file of the encoder that is used. A single digest is that of the weights."""

    weights: Sha256 | None = None
    config: Sha256 | None = None
    tokenizer: Sha256 | None = Field(default=None, description="of tokenizer.json, also where it is made from the model's other files")

    @model_validator(mode="before")
    @classmethod
    def _of_weights(cls, given: Any) -> Any:
        return {"weights": given} if isinstance(given, str) else given


class ModelConfig(Section):
    """Which pretrained encoder is adapted, and how it is known to be the right one."""

    source: Literal["package", "path", "hub"] = "package"
    name: str = Field(description="importable package, directory, or hub id, by `source`")
    subfolder: str = ""
    revision: str | None = Field(default=None, description="hub only: the 40-digit commit")
    sha256: ModelDigests | None = None
    vocabulary: Options = Field(default={}, description="domain words to add; see models/vocabulary_extension.py: VocabularyConfig")

    def vocabulary_rules(self) -> Any:
        """The options of the vocabulary's extension.

        Raises:
            ConfigError: unknown or invalid ones.
        """
        return plugins.configure_class("models.vocabulary_extension", "VocabularyConfig", self.vocabulary, where="model.vocabulary")

    @model_validator(mode="after")
    def _pinned(self) -> ModelConfig:
        if self.source == "hub" and not (self.revision and len(self.revision) == 40):
            raise ValueError("source `hub` needs `revision`: the full 40-digit commit, so that the run can be made again")
        if self.source != "hub" and self.revision:
            raise ValueError(f"`revision` belongs to source `hub`, not to `{self.source}`; use `sha256` to pin the weights")
        return self


class CorpusSource(Section):
    """Where unlabelled text is read from. `kind` is a file name under src/acclimate/data/sources/; other keys are that kind's options."""

    model_config = ConfigDict(frozen=True, extra="allow")

    kind: str = "files"
    weight: Annotated[float, Field(gt=0, le=100)] = Field(
        default=1.0, description="how often each document stands in the corpus; 0.5 takes every other one, by the hash of its id"
    )

    @model_validator(mode="after")
    def _source_exists(self) -> CorpusSource:
        if self.kind in REMOVED_SOURCES:
            raise ValueError(f"kind `{self.kind}` was removed; {REMOVED_SOURCES[self.kind]}, then `kind: files` (docs/data.md)")
        _check_name(SOURCES, self.kind)
        return self

    def options(self, *, where: str) -> Any:
        """The options of this kind of source, as its own `Config`.

        Args:
            where: the source's place in params.yaml, for messages.
        Raises:
            ConfigError: unknown or invalid ones.
        """
        return plugins.configure(SOURCES, self.kind, dict(self.model_extra or {}), where=where)


class IngestConfig(Section):
    """Unlabelled text: the domain, its held-out part, and general text to measure forgetting against."""

    corpus: Annotated[list[CorpusSource], Field(min_length=1)]
    heldout: list[CorpusSource] = Field(default=[], description="when empty, `heldout_share` of the corpus groups is held out")
    general: list[CorpusSource] = []
    heldout_share: OpenShare = 0.02
    min_chars: Annotated[int, Field(ge=0)] = 20
    cleaning: Options = Field(default={}, description="see data/cleaning.py: CleaningConfig")
    quality: Options = Field(default={}, description="see data/quality.py: QualityConfig")
    language: Options = Field(default={}, description="see data/language.py: LanguageConfig")
    personal_data: Options = Field(default={}, description="see data/personal_data.py: PersonalDataConfig")
    duplicates: Options = Field(default={}, description="see data/near_duplicates.py: DuplicatesConfig")
    decontamination: Options = Field(default={}, description="see data/contamination.py: DecontaminationConfig")
    max_quarantine_share: Share = 0.2
    reference: str | None = Field(
        default=None, description="statistics.json of the data's last version, below data/; validate then tells drift"
    )
    engine: Literal["local", "ray"] = Field(default="local", description="what prepares the parts of the corpus; the result is the same")
    workers: Annotated[int, Field(ge=0)] = Field(default=0, description="processes; 0 is one for each core")

    def rules(self, name: str) -> Any:
        """The options of one family of rules, as the `Config` of its module.

        Raises:
            ConfigError: unknown or invalid ones.
        """
        module, config = INGEST_RULES[name]
        return plugins.configure_class(module, config, getattr(self, name), where=f"ingest.{name}")


class SplitFiles(Section):
    """One file per split, relative to data/."""

    train: str
    dev: str | None = None
    test: str


class TaskConfig(Section):
    """One labelled table. `kind` is a file name under src/acclimate/tasks/."""

    kind: str
    data: str | SplitFiles
    text: str = Field(default="text", description="column of the text; for `tagging`, of the list of words")
    text_pair: str | None = None
    label: str = "label"
    id: str | None = None
    label_map: dict[str, str] = Field(default={}, description="labels as the table spells them -> as the task shall have them")
    encoding: str = Field(default="utf-8", description="of CSV, TSV, JSON and text files")
    group: str | None = Field(default=None, description="rows of one group never part; without it, rows with equal text")
    split: str | None = Field(default=None, description="column holding train, dev or test; without it, by `split_by`")
    split_by: Literal["hash", "stratified", "time"] = Field(
        default="hash", description="hash of the group; the same within each class; or the oldest to train and the newest to test"
    )
    time: str | None = Field(default=None, description="column that orders rows for split_by: time; ISO dates or numbers")
    dev_share: OpenShare = 0.1
    test_share: OpenShare = 0.1
    label_separator: str | None = Field(default=None, description="splits a string of labels (multi_label) or words and tags (tagging)")
    max_train_rows: Count | None = None
    max_dev_rows: Count | None = None
    max_test_rows: Count | None = None
    max_tokens: Annotated[int, Field(ge=4)] = 64
    pooling: Literal["mean", "first"] = "mean"
    metric: str | None = Field(default=None, description="the metric that decides; default by kind")

    @model_validator(mode="after")
    def _kind_exists(self) -> TaskConfig:
        _check_name("tasks", self.kind)
        if self.dev_share + self.test_share >= 1:
            raise ValueError(f"dev_share + test_share is {self.dev_share + self.test_share:g}; it must be below 1")
        if (self.split_by == "time") != (self.time is not None):
            raise ValueError("`split_by: time` and `time`, the column that orders the rows, go together; one of them is missing")
        return self


class ValidateConfig(Section):
    """Thresholds of the Great Expectations suites."""

    max_duplicate_share: Share = 0.01
    min_tokens: Count = Field(default=3, description="99 of 100 texts have so many at least")
    max_class_share: Share = Field(default=0.95, description="of the largest class of a classification table")
    max_drift: Positive = Field(default=0.25, description="population stability index against ingest.reference, for lengths, words, labels")
    max_rows: Count = Field(default=100_000, description="rows of a text file that are looked at, spread evenly over it")
    label_problems: Options = Field(default={}, description="see data/label_problems.py: LabelProblemsConfig")

    def label_rules(self) -> Any:
        """The options of the search for doubtful labels.

        Raises:
            ConfigError: unknown or invalid ones.
        """
        return plugins.configure_class("data.label_problems", "LabelProblemsConfig", self.label_problems, where="validate.label_problems")

    min_rows_per_label: Count = 2
    min_rows_per_split: Count = 8


class TokenizeConfig(Section):
    """Packing of the corpus: rows of `tokens_per_row` ids, documents laid end to end, no padding."""

    tokens_per_row: Annotated[int, Field(ge=8, le=8192)] = 128
    min_document_tokens: Count = 4
    backend: Literal["auto", "reference", "nanotoken"] = Field(
        default="auto", description="nanotoken is faster and checked against the reference as it runs; auto takes it where it can"
    )


class OptimizationSection(Section):
    """What pretraining and fine-tuning state alike: the step, the schedule of its rate, the average of the weights it leaves.

    An option that the chosen schedule or average does not read is refused unless it has its default.
    """

    weight_decay: Annotated[float, Field(ge=0)] = Field(default=0.01, description="norms and biases have none")
    beta1: OpenShare
    beta2: OpenShare
    epsilon: Positive
    clip_norm: Positive = 1.0
    schedule: Schedule = Field(default="linear", description="see training/schedules.py")
    warmup_share: Share
    min_factor: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(default=0.0, description="share of the rate that the schedule keeps")
    power: Positive = Field(default=1.0, description="of schedule `polynomial`")
    cycles: Count = Field(default=1, description="of schedule `cyclical`")
    cycle_shape: CycleShape = Field(default="cosine", description="of schedule `cyclical`")
    decay_share: OpenShare = Field(default=0.1, description="of schedule `wsd`: the share of all steps that the rate falls in")
    decay_shape: DecayShape = Field(default="1-sqrt", description="of schedule `wsd`")
    average: Average = Field(default="none", description="of the weights, see training/averaging.py; it takes the place of the last ones")
    ema_decay: OpenShare = Field(default=0.999, description="of average `ema`")
    tail_share: Annotated[float, Field(gt=0.0, le=1.0)] = Field(default=0.2, description="of average `tail`: the last share of all steps")

    def schedule_options(self) -> dict[str, Any]:
        """What the schedule reads, as keywords of `learning_rate_factor`."""
        return {name: getattr(self, name) for name in SCHEDULE_OPTIONS[self.schedule]}

    @model_validator(mode="after")
    def _options_are_read(self) -> Self:
        _refuse_unread(self, "schedule", SCHEDULE_OPTIONS)
        _refuse_unread(self, "average", AVERAGE_OPTIONS)
        if self.schedule == "wsd" and self.warmup_share + self.decay_share > 1.0:
            raise ValueError(f"`warmup_share` {self.warmup_share:g} and `decay_share` {self.decay_share:g} together exceed 1")
        return self


class HealthSection(Section):
    """What is watched while training; see training/health.py."""

    spike_sigmas: Positive = Field(default=8.0, description="robust standard deviations above the recent median that make a spike")
    on_spike: Literal["mark", "rewind"] = "mark"
    rewind_steps: Count = Field(default=16, description="how far `rewind` goes back at most")
    patience: Annotated[int, Field(ge=0)] = Field(
        default=0, description="evaluations without a better score until training stops and the best weights come back; 0 never"
    )


class OptimizerConfig(OptimizationSection):
    """The optimizer of pretraining; `name` is one of those of training/optimizers.py."""

    name: OptimizerName = "adamw"
    learning_rate: LearningRate
    beta1: OpenShare = 0.9
    beta2: OpenShare = 0.98
    epsilon: Positive = 1e-6
    warmup_share: Share = 0.06


class RetentionConfig(Section):
    """What to keep of the base model. `method` is a file name under src/acclimate/retention/."""

    method: str = "weight_average"
    options: dict[str, dict[str, Any]] = {}
    task: str = Field(description="the task on whose dev split a linear probe scores each candidate")
    criterion: Literal["probe", "loss"] = Field(default="probe", description="`loss`: the mean of held-out domain and general loss chooses")


class PretrainConfig(Section):
    """Domain-adaptive pretraining (Gururangan et al. 2020, https://arxiv.org/abs/2004.10964)."""

    objective: str = "mlm"
    objectives: dict[str, dict[str, Any]] = {}
    max_tokens: Count
    head_warmup_tokens: Annotated[int, Field(ge=0)] = 0
    rows_per_batch: Count = 32
    accumulation: Count = 1
    optimizer: OptimizerConfig
    head_learning_rate: LearningRate = 1e-3
    dropout: Share = 0.0
    precision: Precision = "auto"
    heldout_rows: Count = 256
    evaluations: Count = 4
    health: HealthSection = HealthSection()
    checkpoint_every_s: Positive = 30.0
    retention: RetentionConfig

    @model_validator(mode="after")
    def _components_exist(self) -> PretrainConfig:
        _check_name("objectives", self.objective)
        _check_name("retention", self.retention.method)
        return self


class RunsConfig(Section):
    """Which fine-tunings are made: task x encoder x seed. Adding one runs no other again."""

    tasks: Annotated[list[str], Field(min_length=1)]
    single_seed_tasks: list[str] = Field(default=[], description="run with the first seed only")
    encoders: Annotated[list[Literal["base", "adapted"]], Field(min_length=1)] = ["base", "adapted"]
    seeds: Annotated[list[int], Field(min_length=1)] = [0, 1, 2]

    @model_validator(mode="after")
    def _no_repeats(self) -> RunsConfig:
        both = set(self.tasks) & set(self.single_seed_tasks)
        if both:
            raise ValueError(f"{sorted(both)} stand both in `tasks` and in `single_seed_tasks`; keep one")
        for field in ("tasks", "single_seed_tasks", "encoders", "seeds"):
            values = getattr(self, field)
            if len(set(values)) < len(values):
                raise ValueError(f"`{field}` names a value twice: {values}")
        return self

    @property
    def all_tasks(self) -> list[str]:
        """Every task that is fine-tuned, those with all seeds first."""
        return [*self.tasks, *self.single_seed_tasks]

    def seeds_of(self, task: str) -> list[int]:
        """The seeds that a task is fine-tuned with."""
        return self.seeds if task in self.tasks else self.seeds[:1]


class FinetuneConfig(OptimizationSection):
    """How each fine-tuning is done. `strategy` is a file name under src/acclimate/strategies/."""

    strategy: str = "full"
    strategies: dict[str, dict[str, Any]] = {}
    epochs: Positive = 4
    rows_per_batch: Count = 16
    accumulation: Count = 1
    optimizer: OptimizerName = "adamw"
    lr: LearningRate = 1e-4
    head_lr: LearningRate = 1e-3
    beta1: OpenShare = 0.9
    beta2: OpenShare = 0.999
    epsilon: Positive = 1e-8
    warmup_share: Share = 0.1
    dropout: Share = 0.1
    precision: Precision = "auto"
    health: HealthSection = Field(default=HealthSection(), description="its evaluations: the metric on dev, after each epoch")
    checkpoint_every_s: Positive = 30.0

    @model_validator(mode="after")
    def _strategy_exists(self) -> FinetuneConfig:
        _check_name("strategies", self.strategy)
        return self


class EvaluateConfig(Section):
    """Significance of adapted against base."""

    bootstrap_samples: Count = 2000
    allow_unchecked_corpus: bool = Field(default=False, description="score although nobody looked for dev and test texts in the corpus")
    confidence: OpenShare = 0.95
    calibration_bins: Count = 10


class ProbeConfig(Section):
    """Linear probing: frozen features of every layer."""

    tasks: list[str] = Field(default=[], description="empty: the first fine-tuned task")
    max_train_rows: Count | None = None
    regularization: Positive = 1.0


class ExportConfig(Section):
    """Which fine-tuned models become ONNX, and what they must meet."""

    tasks: Annotated[list[str], Field(min_length=1)]
    quantize: list[Literal["int8"]] = ["int8"]
    max_logit_difference: Positive = 1e-3
    max_metric_loss: Annotated[float, Field(ge=0)] = 0.01
    latency_batches: list[Count] = [1, 8]
    latency_rounds: Count = 30
    optimize_for: Literal["accuracy", "latency"] = "accuracy"


class GatesConfig(Section):
    """When a new version becomes champion."""

    min_metric: float | None = None
    min_over_baseline: float | None = Field(default=None, description="metric minus the TF-IDF baseline's")
    min_over_champion: float | None = Field(default=None, description="metric minus the present champion's, when there is one")
    max_latency_ms: Positive | None = None
    max_calibration_error: Share | None = None


class RegisterConfig(Section):
    """The MLflow registry."""

    model_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")] = "acclimate"
    gates: GatesConfig = GatesConfig()


class TrackingConfig(Section):
    """Where runs are recorded. MLFLOW_TRACKING_URI overrides `uri`."""

    uri: str = "sqlite:///mlflow.db"
    experiment: str = "acclimate"
    system_metrics_every_s: Positive = 5.0


class LaunchConfig(Section):
    """On how many processes a training stage runs. Under torchrun or accelerate theirs count instead."""

    processes: Count = Field(default=1, description="on this node, as a rule one for each GPU")
    nodes: Count = 1
    rendezvous: Annotated[str, Field(pattern=r"^[^:\s]+:\d+$")] | None = Field(default=None, description="host:port of the first node")
    timeout_s: Positive = Field(default=300.0, description="how long the processes wait for each other at the start")
    sharding: Literal["ddp", "fsdp"] = Field(default="ddp", description="fsdp: optimizer state split over the processes")

    @model_validator(mode="after")
    def _nodes_meet(self) -> LaunchConfig:
        if self.nodes > 1 and self.rendezvous is None:
            raise ValueError("several nodes need `rendezvous`: host:port of the first one")
        return self


class TrainConfig(Section):
    """How training runs, not what it computes: changing it runs no finished stage again."""

    launch: LaunchConfig = LaunchConfig()
    micro_rows: Literal["auto"] | Count = Field(default="auto", description="rows computed at once; auto halves them when memory runs out")
    compile: bool = Field(default=False, description="torch.compile of the encoder; pays from some minutes of training on")
    activation_checkpointing: bool = Field(default=False, description="compute activations again in backward: less memory, a third slower")
    attention: Literal["auto", "eager", "sdpa", "varlen"] = Field(default="auto", description="kernel; varlen needs a GPU and bf16 or fp16")
    price_per_hour: Positive | None = Field(default=None, description="of this machine, in any currency; `acclimate plan` tells the cost")


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


def _refuse_unread(section: Section, choice: str, options: Mapping[Any, tuple[str, ...]]) -> None:
    """Refuse an option with a value of its own that the section's choice does not read."""
    chosen, fields = getattr(section, choice), type(section).model_fields
    unread = {name for names in options.values() for name in names} - set(options[chosen])
    for name in sorted(name for name in unread if getattr(section, name) != fields[name].default):
        readers = ", ".join(value for value, names in options.items() if name in names)
        raise ValueError(f"`{name}` is not read by {choice} `{chosen}`; remove it or choose one that reads it: {readers}")


def _check_name(family: str, name: str) -> None:
    """Refuse a component that has no file."""
    valid = plugins.names(family)
    if name not in valid:
        nearest = difflib.get_close_matches(name, valid, n=1)
        hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
        raise ValueError(f"{name!r} is not one of the {family}{hint} (allowed: {', '.join(valid)})")


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
    problems = [f"{secret.path}: {secret.kind}; {_NO_SECRETS}" for secret in secrets]
    try:
        config = Config.model_validate(raw)
        _check_component_options(config)
        if not secrets:
            return config
    except ValidationError as error:
        problems += _hide(_problems(error, Config), secrets)
    except UnicodeEncodeError:  # pydantic stumbles over it
        problems.append("half of a surrogate pair, such as \\ud83d alone, is no character; write the character itself")
    except ConfigError as error:
        if not secrets:
            raise
        problems += _hide(str(error).splitlines(), secrets)
    raise ConfigError(_listed(problems, file))


_NO_SECRETS = "no secrets in params.yaml, which git, DVC and MLflow keep; put it into the environment or .dvc/config.local (docs/data.md)"
_NAMED_BY_USER = ("label_map", "columns")
"""Mappings whose keys are the user's labels and columns: a label may be called `password`. So may a task."""


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


def _hide(lines: list[str], secrets: Sequence[FoundSecret]) -> list[str]:
    """Lines of other problems, which may quote a value, without any of the secrets."""
    for secret in secrets:
        for shown in {secret.value, repr(secret.value)[1:-1]}:
            lines = [re.sub(rf"(?<!\w){re.escape(shown)}(?!\w)", HIDDEN, line) if shown in line else line for line in lines]
    return lines


def _check_component_options(config: Config) -> None:
    groups = (
        ("objectives", "pretrain.objectives", config.pretrain.objectives),
        ("retention", "pretrain.retention.options", config.pretrain.retention.options),
        ("strategies", "finetune.strategies", config.finetune.strategies),
    )
    checks: list[Callable[[], Any]] = [
        *(
            partial(plugins.configure, family, name, options, where=f"{where}.{name}")
            for family, where, options_by_name in groups
            for name, options in options_by_name.items()
        ),
        config.validate_.label_rules,
        config.model.vocabulary_rules,
        *(partial(config.ingest.rules, name) for name in INGEST_RULES),
        *(
            partial(source.options, where=f"ingest.{table}.{index}")
            for table in ("corpus", "heldout", "general")
            for index, source in enumerate(getattr(config.ingest, table))
        ),
    ]
    problems = []
    for check in checks:
        try:
            check()
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError("\n".join(problems))


def describe_errors(error: ValidationError, model: type[BaseModel], *, prefix: str = "", file: Path | None = None) -> str:
    """One line per problem: dotted path, what is wrong, what is allowed or the nearest valid name."""
    problems = _problems(error, model, prefix)
    return _listed(problems, file) if file else "\n".join(map(one_line, problems[:_MAX_SHOWN]))


def _listed(problems: list[str], file: Path) -> str:
    more = [f"and {len(problems) - _MAX_SHOWN} more"] if len(problems) > _MAX_SHOWN else []
    return "\n  ".join([f"{file}: {len(problems)} problem{'s' if len(problems) > 1 else ''}", *map(one_line, problems[:_MAX_SHOWN]), *more])


def _problems(error: ValidationError, model: type[BaseModel], prefix: str = "") -> list[str]:
    """One line a problem; those beyond the ones that are shown are empty."""
    lines = []
    problems = error.errors(include_url=False)
    for item in problems[:_MAX_SHOWN]:
        path = ".".join([prefix, *map(str, item["loc"])]).strip(".")
        if item["type"] == "extra_forbidden":
            lines.append(f"{path}: unknown key; {_suggest(model, item['loc'])}")
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
    valid = [field.alias or name for name, field in section.model_fields.items()]
    nearest = difflib.get_close_matches(str(loc[-1]), valid, n=1, cutoff=0.5)
    return f"did you mean `{nearest[0]}`?" if nearest else f"allowed: {', '.join(valid)}"


def _descend(annotation: Any, part: int | str) -> Any:
    """The type found one step further down a dotted path; unions give their section member."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        by_alias = {field.alias or name: field.annotation for name, field in annotation.model_fields.items()}
        if part not in by_alias:
            return annotation if part == annotation.__name__ else None
        return _section_of(by_alias[str(part)])
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (dict, list) and arguments:
        return _section_of(arguments[-1])
    return None


def _section_of(annotation: Any) -> Any:
    """Unwrap Annotated and Optional."""
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        return _section_of(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        members = [_section_of(member) for member in typing.get_args(annotation)]
        sections = [m for m in members if isinstance(m, type) and issubclass(m, BaseModel)]
        return sections[0] if sections else members[0]
    return annotation
