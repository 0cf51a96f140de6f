"""The sections `ingest`, `tasks`, `validate` and `tokenize` of params.yaml."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from acclimate import kinds, plugins
from acclimate.choices import Choice, Chosen
from acclimate.data.leakage.contamination import DecontaminationConfig
from acclimate.data.leakage.near_duplicates import DuplicatesConfig
from acclimate.data.reading.layouts import FAMILY as LAYOUTS
from acclimate.data.reading.layouts import Layout
from acclimate.data.reading.options import ReadOptions
from acclimate.data.screening.label_problems import LabelProblemsConfig
from acclimate.data.screening.language import LanguageConfig
from acclimate.data.screening.options import CleaningConfig, PersonalDataConfig
from acclimate.data.screening.quality import QualityConfig
from acclimate.settings import UNKNOWN_KEY, Count, OpenShare, Options, Positive, Share, nearest_key, removed

SOURCES = "data.reading.sources"
_REMOVED_SOURCES = {
    "remote": "run `dvc import-url <url> data/...`, then `kind: files` (docs/data.md)",
    "sql": "run `dvc import-db --conn <name> --sql <query> -o data/...`, then `kind: files` (docs/data.md)",
}


class CorpusSource(Options):
    """Where unlabelled text is read from. `kind` names a file of src/acclimate/data/reading/sources/; other keys are its options."""

    model_config = ConfigDict(frozen=True, extra="allow")

    kind: Annotated[str, removed(_REMOVED_SOURCES)] = "files"
    weight: Annotated[float, Field(gt=0, le=100)] = Field(
        default=1.0, description="how often each document stands in the corpus; 0.5 takes every other one, by the hash of its id"
    )

    @model_validator(mode="after")
    def _source_exists(self) -> CorpusSource:
        plugins.check_name(SOURCES, self.kind)
        return self

    def options(self, *, where: str) -> Any:
        """The options of this kind of source, as its own `Config`.

        Args:
            where: the source's place in params.yaml, for messages.
        Raises:
            ConfigError: unknown or invalid ones.
        """
        return plugins.configure(SOURCES, self.kind, dict(self.model_extra or {}), where=where)


class IngestConfig(Options):
    """Unlabelled text: the domain, its held-out part, general text to measure forgetting against, and text of another domain."""

    corpus: Annotated[list[CorpusSource], Field(min_length=1)]
    heldout: list[CorpusSource] = Field(default=[], description="when empty, `heldout_share` of the corpus groups is held out")
    general: list[CorpusSource] = []
    other: list[CorpusSource] = Field(
        default=[], description="text of another domain, on which a control is trained (`encoders.<name>.text: other`)"
    )
    heldout_share: OpenShare = 0.02
    min_chars: Annotated[int, Field(ge=0)] = 20
    cleaning: CleaningConfig = CleaningConfig()
    quality: QualityConfig = QualityConfig()
    language: LanguageConfig = LanguageConfig()
    personal_data: PersonalDataConfig = PersonalDataConfig()
    duplicates: DuplicatesConfig = DuplicatesConfig()
    decontamination: DecontaminationConfig = DecontaminationConfig()
    max_quarantine_share: Share = 0.2
    reference: str | None = Field(
        default=None, description="statistics.json of the data's last version, below data/; validate then tells drift"
    )
    engine: Literal["local", "ray"] = Field(default="local", description="what prepares the parts of the corpus; the result is the same")
    workers: Annotated[int, Field(ge=0)] = Field(default=0, description="processes; 0 is one for each core")


class SplitFiles(Options):
    """One file per split, relative to data/."""

    train: str
    dev: str | None = None
    test: str


class TaskConfig(ReadOptions):
    """One labelled table. `kind` is the name of a folder under src/acclimate/tasks/; keys that are not listed here are that kind's own."""

    model_config = ConfigDict(frozen=True, extra="allow")

    kind: str
    data: str | SplitFiles
    layout: Annotated[Chosen[Layout], Choice(LAYOUTS, only_one=True, always=True)] | None = Field(
        default=None, description="the annotation tool that wrote `data`, with its options; without it, a table with a row for each example"
    )
    id: str | None = None
    group: str | None = Field(default=None, description="rows of one group never part; without it, rows with equal text")
    split: str | None = Field(default=None, description="column holding train, dev or test; without it, by `split_by`")
    split_by: Literal["hash", "stratified", "time"] = Field(
        default="hash", description="hash of the group; the same within each class; or the oldest to train and the newest to test"
    )
    time: str | None = Field(default=None, description="column that orders rows for split_by: time; ISO dates or numbers")
    dev_share: OpenShare = 0.1
    test_share: OpenShare = 0.1
    max_train_rows: Count | None = None
    max_dev_rows: Count | None = None
    max_test_rows: Count | None = None
    max_length: Annotated[int, Field(ge=4)] = Field(default=64, description="tokens of a text; the rest is cut off")
    pooling: Literal["mean", "first"] = "mean"
    metric: str | None = Field(default=None, description="the metric that decides; default by kind")

    @model_validator(mode="wrap")
    @classmethod
    def _with_the_kinds_own(cls, raw: Any, validate: ModelWrapValidatorHandler[TaskConfig]) -> TaskConfig:
        """Validate the kind's own keys with the kind's options, and give all problems at once."""
        problems: list[InitErrorDetails] = []
        config = None
        try:
            config = validate(raw)
        except ValidationError as error:
            problems += _details(error)
        kind = raw.get("kind") if isinstance(raw, Mapping) else None
        if isinstance(kind, str) and kind in plugins.names("tasks"):
            problems += _problems_of_the_kind(kind, {key: value for key, value in raw.items() if key not in cls.model_fields}, cls)
        if config is None or problems:
            raise ValidationError.from_exception_data(cls.__name__, problems)
        return config

    @model_validator(mode="after")
    def _fits(self) -> TaskConfig:
        plugins.check_name("tasks", self.kind)
        if self.dev_share + self.test_share >= 1:
            raise ValueError(f"dev_share + test_share is {self.dev_share + self.test_share:g}; it must be below 1")
        if (self.split_by == "time") != (self.time is not None):
            raise ValueError("`split_by: time` and `time`, the column that orders the rows, go together; one of them is missing")
        if self.metric is not None:
            kinds.check_metric(self.kind, self.metric)
        return self

    @property
    def deciding_metric(self) -> str:
        """The metric that early stopping, choices and comparisons go by."""
        return self.metric or kinds.table(self.kind).default_metric

    @property
    def own(self) -> dict[str, Any]:
        """The keys that are the kind's own, for `kinds.configured_table`."""
        return self.model_extra or {}


def _problems_of_the_kind(kind: str, own: Mapping[str, Any], common: type[Options]) -> list[InitErrorDetails]:
    """What is wrong with the keys that are not common to all tasks."""
    try:
        kinds.configured_table(kind, own)
    except ValidationError as error:
        return _details(error, known=[*common.model_fields, *kinds.option_names(kind)])
    return []


def _details(error: ValidationError, *, known: Sequence[str] = ()) -> list[InitErrorDetails]:
    """Problems to raise again; an unknown key names the nearest of all `known` ones."""
    found: list[InitErrorDetails] = []
    for item in error.errors(include_url=False):
        details = InitErrorDetails(type=item["type"], loc=item["loc"], input=item["input"], ctx=item.get("ctx", {}))
        if item["type"] == "extra_forbidden" and known and len(item["loc"]) == 1:
            details["type"] = PydanticCustomError(UNKNOWN_KEY, "unknown key; {hint}", {"hint": nearest_key(str(item["loc"][0]), known)})
        elif item["type"] == "value_error" and "error" not in item.get("ctx", {}):  # of `settings.located`
            details["type"] = PydanticCustomError("value_error", "{message}", {"message": item["msg"]})
        found.append(details)
    return found


class ValidateConfig(Options):
    """Thresholds of the Great Expectations suites."""

    max_duplicate_share: Share = 0.01
    min_tokens: Count = Field(default=3, description="99 of 100 texts have so many at least")
    max_class_share: Share = Field(default=0.95, description="of the largest class of a classification table")
    max_drift: Positive = Field(default=0.25, description="population stability index against ingest.reference, for lengths, words, labels")
    max_rows: Count = Field(default=100_000, description="rows of a text file that are looked at, spread evenly over it")
    label_problems: LabelProblemsConfig = LabelProblemsConfig()
    min_rows_per_label: Count = 2
    min_rows_per_split: Count = 8


class TokenizeConfig(Options):
    """Packing of the corpus: rows of `sequence_length` ids, documents laid end to end, no padding."""

    sequence_length: Annotated[int, Field(ge=8, le=8192)] = Field(default=128, description="tokens of a row")
    min_document_tokens: Count = 4
    backend: Literal["auto", "reference", "nanotoken"] = Field(
        default="auto", description="nanotoken is faster and checked against the reference as it runs; auto takes it where it can"
    )
