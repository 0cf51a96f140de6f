"""What a kind of task is: everything that differs by kind, asked for by the kind's name and typed here.

A kind is one folder, `tasks/<kind>/`, of five files. Nothing outside of it compares the kind's name:

- table.py: reads, checks and lists a labelled table (needs no torch)
- model.py: rows of token ids, targets, head and loss
- metrics.py: scores with their direction
- baseline.py: what any encoder must beat, the judge of labels, the linear probe
- decode.py: from raw text to rows, and from their logits to the answer; travels inside the registered model, so it imports nothing of
  acclimate, and its protocol stands in export/predictor.py, which travels with it

Each file ends with `COMPONENT: type[...] = Class`, which is how the type checker holds it to the protocols below.
The parts are loaded one by one, so that a stage depends only on those it asks for.

Shapes: B rows of a batch, T tokens, D width, U units of a score (examples), R rows, C labels, S resamples.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from acclimate import plugins
from acclimate.errors import ConfigError
from acclimate.settings import Options

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from tokenizers import Tokenizer
    from torch import Tensor, nn

    from acclimate.data.screening.label_problems import LabelProblem
    from acclimate.data.screening.texts import Rewriting
    from acclimate.data.tokens.encoding import Encoded

Floats = NDArray[np.float64]
Input = Mapping[str, Any]
"""What an example shows to the model, by column of the ingested table: `{"text": ...}`, `{"words": [...]}`."""
Expectation = tuple[str, dict[str, Any]]
"""A Great Expectations type and its arguments."""
Scores = dict[str, Floats]
"""Each metric's values, (S,)."""


@dataclass(frozen=True)
class Metric:
    """A score's name, which way is better, and when there is none."""

    name: str
    higher_is_better: bool = True
    undefined_where: str = ""
    """Where its values are NaN, as the end of a sentence; empty for one that always has a value."""


@dataclass(frozen=True)
class Examples:
    """Rows of a table as their kind reads them; a label is None where its cell is empty."""

    inputs: list[dict[str, Any]]
    labels: list[Any]
    spelled: list[Any]
    """The labels before any of them was renamed."""


class Table(Protocol):
    """How a kind reads a labelled table. An instance holds one task's options: a `Options` whose fields are its keys under `tasks`."""

    default_metric: ClassVar[str]
    """The metric that decides where params.yaml names none."""
    rewritten: ClassVar[Mapping[str, Rewriting]]
    """How `ingest` may rewrite each input: cleaning, personal data. Where a label counts characters or words, they keep their places."""
    counted: ClassVar[str]
    """What a report calls the count of labels: `Rows by label`."""

    @property
    def pair(self) -> bool:
        """Whether an example is two texts, which the encoder tells apart by type ids."""

    @property
    def carried(self) -> dict[str, Any]:
        """The options that training and serving must know; they travel in schema.json and task.json."""

    def columns(self) -> list[str]:
        """Columns that are read of the table, each once."""

    def read(self, cells: Mapping[str, list[Any]], *, where: str) -> Examples:
        """Parse and check columns.

        Raises:
            DataError: cells that cannot be read, with their number and the first rows at fault.
        """

    def notes(self, spelled: Sequence[Any]) -> list[str]:
        """What to warn of, once the labels of the whole table are known."""

    def collect_labels(self, by_split: Mapping[str, Sequence[Any]], *, where: str) -> list[str] | None:
        """The label list, from the training rows; None for a kind without.

        Raises:
            DataError: labels that cannot be trained or evaluated on.
        """

    def arrow_types(self) -> dict[str, pa.DataType]:
        """Type of each input and of `label`, in the order of the columns of the ingested table."""

    @staticmethod
    def relabelled(row: Input, label: Any) -> Any:
        """The label of a row whose inputs were rewritten: another one only where it quotes them."""

    @staticmethod
    def texts(row: Input) -> list[str]:
        """The plain texts of a row, the one that names its group first."""

    @staticmethod
    def label_names(label: Any) -> list[str]:
        """The classes of a row, for sampling, stratified splits and drift; none where there are no classes."""

    @staticmethod
    def counted_labels(label: Any) -> list[str]:
        """What a report counts of a row's label."""

    @staticmethod
    def checks(frame: pd.DataFrame, labels: list[str] | None, *, min_rows_per_label: int, max_class_share: float) -> list[Expectation]:
        """What must hold of the labels of an ingested table.

        Args:
            frame: all splits; may get columns of its own and must lose those that hold lists.
        """


class Model(Protocol):
    """Rows of token ids, targets, head and loss. An example may be several rows: `Encoded.example_of_row`."""

    per_token: ClassVar[bool]
    """Whether the head sees each token, (B, T, D), instead of one vector a row."""
    task_class: ClassVar[str]
    """What follows `For` in the name of transformers' class for such a task: `TokenClassification`."""
    problem_type: ClassVar[str | None]
    """As transformers' config names the loss of a `SequenceClassification`."""

    def encode(self, inputs: Sequence[Input], tokenizer: Tokenizer, *, max_length: int, options: Mapping[str, Any]) -> Encoded:
        """Token ids of examples, special tokens included.

        Args:
            options: what `Table.carried` gave.
        """

    def num_outputs(self, labels: Sequence[str] | None) -> int:
        """Width of the head."""

    def gold(self, values: Sequence[Any], labels: Sequence[str] | None) -> list[Any]:
        """The label column as metrics and targets take it, one an example."""

    def standardization(self, values: Sequence[Any]) -> tuple[float, float]:
        """Shift and scale of the outputs, from the training labels; (0, 1) for none."""

    def targets(self, gold: Sequence[Any], encoded: Encoded, rows: NDArray[np.int64], width: int) -> tuple[Tensor, NDArray[np.int64]]:
        """Targets of the given rows, padded to `width` tokens, and how many loss terms each row has, (B,)."""

    def head(self, width: int, num_outputs: int) -> nn.Module:
        """A fresh head."""

    def row_losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss of each row, summed over its terms, (B,)."""

    def predictions(self, logits: Sequence[NDArray[np.float32]], encoded: Encoded) -> list[Any]:
        """One an example, as predictions.parquet keeps it and the metrics take it.

        Args:
            logits: of each row, (C,) or (positions, C).
        """


class Metrics(Protocol):
    """Scores that are functions of weighted sums over units, so that a bootstrap over thousands of resamples is one product."""

    metrics: ClassVar[tuple[Metric, ...]]

    def row_statistics(self, gold: Any, predictions: Any, labels: Sequence[str] | None) -> Floats:
        """What the scores need to know of each unit, (U, columns).

        Raises:
            DataError: gold and predictions do not fit each other.
            ModelError: a logit is not finite.
        """

    def scores(self, statistics_UK: Floats, weights_SU: Floats) -> Scores:
        """Every metric on weighted units."""

    def confidence(self, gold: Any, predictions: Any) -> tuple[Floats, Floats] | None:
        """How sure each prediction is, and whether it is right, for calibration; None where the model gives no probability."""

    def confusion(self, gold: Any, predictions: Any, labels: Sequence[str] | None) -> list[dict[str, str]] | None:
        """Actual and predicted label of each row; None where a row has not one label."""


Columns = Mapping[str, Sequence[Any]]
"""Columns of an ingested split."""


class LabelAudit(Protocol):
    """How the labels of a kind are doubted: a linear model on word counts, asked about rows that it has not seen."""

    def probabilities(self, features: Any, gold: NDArray[Any], others: Any, num_labels: int, *, inverse_penalty: float) -> Floats:
        """Fit on `features` and give each label's probability for each of `others`, (R, C)."""

    def known(self, gold: NDArray[Any], num_labels: int) -> NDArray[np.bool_]:
        """Labels that a model fitted on these rows can know, (C,)."""

    def judge(self, gold: NDArray[Any], probabilities_RC: Floats) -> dict[str, float]:
        """`accuracy` of the model and `of_the_most_frequent` answer."""

    def problems(
        self, gold: NDArray[Any], probabilities_RC: Floats, judged_RC: NDArray[np.bool_], names: Sequence[str]
    ) -> list[LabelProblem]:
        """Rows whose label the model finds unlikely."""


@dataclass(frozen=True)
class ProbeRows:
    """Frozen features and gold labels of one split.

    `features` is (R, D), or (positions, D) with `per_row` saying how many positions each row has.
    """

    features: NDArray[np.float32]
    gold: Sequence[Any]
    per_row: NDArray[np.int64] | None = None
    encoded: Encoded | None = None


class Baseline(Protocol):
    """What any encoder must beat, the judge of labels, and what can be read off frozen features."""

    description: ClassVar[str]
    audit: ClassVar[LabelAudit | None]
    """None where a label cannot be doubted by itself."""

    def candidates(
        self, rows: Mapping[str, Columns], gold: Mapping[str, Sequence[Any]], labels: Sequence[str] | None
    ) -> list[tuple[float | None, dict[str, Any]]]:
        """Fit on train. For each penalty of the grid (None: no penalty) the predictions of dev and test."""

    def probe(
        self, train: ProbeRows, others: Sequence[ProbeRows], *, num_outputs: int, regularization: float, tolerance: float
    ) -> list[Any]:
        """Fit a linear model on standardised features; its predictions for each other split.

        Args:
            tolerance: of the mean loss's gradient, where an iteration finds the model.
        """


@runtime_checkable
class SentenceBaseline(Baseline, Protocol):
    """A kind with one vector and one label for each example: the probe ledger may judge it."""

    def repeated(self, gold: Any, num_outputs: int) -> Floats:
        """Predictions that say the given labels, (R, C): what a row's nearest neighbour answers."""


def table(kind: str) -> type[Table]:
    """How a kind reads a table, without the options of a task: for what needs none."""
    found: type[Table] = _part(kind, "table")
    return found


def configured_table(kind: str, options: Mapping[str, Any]) -> Table:
    """How a kind reads one task's table.

    Raises:
        ValidationError: unknown or invalid options, all at once.
    """
    section: type[Options] = _part(kind, "table")
    found: Any = section.model_validate(options)
    configured: Table = found
    return configured


def option_names(kind: str) -> list[str]:
    """The keys that a kind brings to a task of params.yaml."""
    section: type[Options] = _part(kind, "table")
    return [field.alias or name for name, field in section.model_fields.items()]


def model(kind: str) -> Model:
    """A kind's rows, targets, head and loss."""
    found: type[Model] = _part(kind, "model")
    return found()


def metrics(kind: str) -> Metrics:
    """A kind's scores."""
    found: type[Metrics] = _part(kind, "metrics")
    return found()


def baseline(kind: str) -> Baseline:
    """A kind's baseline, audit and probe."""
    found: type[Baseline] = _part(kind, "baseline")
    return found()


def decode_file(kind: str) -> Path:
    """The file that turns logits into answers, to be copied beside a graph."""
    plugins.require("tasks", kind)
    spec = importlib.util.find_spec(f"acclimate.tasks.{kind}.decode")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin)


def is_sentence_level(kind: str) -> bool:
    """Whether a kind has one vector and one label for each example, as the probe ledger needs it."""
    return isinstance(baseline(kind), SentenceBaseline)


def sentence_baseline(kind: str) -> SentenceBaseline:
    """The baseline of a kind that the probe ledger may judge.

    Raises:
        ConfigError: it may not; the message names the kinds that it may.
    """
    if not isinstance(found := baseline(kind), SentenceBaseline):
        raise ConfigError(not_sentence_level(kind))
    return found


def not_sentence_level(kind: str) -> str:
    """Why the probe ledger cannot judge a kind."""
    allowed = ", ".join(each for each in plugins.names("tasks") if is_sentence_level(each))
    return f"kind {kind} has answers within a text; the ledger judges kinds with one answer for each: {allowed}"


@cache
def _part(kind: str, part: str) -> Any:
    plugins.require("tasks", kind)
    return importlib.import_module(f"acclimate.tasks.{kind}.{part}").COMPONENT


def metric_names(kind: str) -> tuple[str, ...]:
    """Every metric that a kind is scored by."""
    return tuple(metric.name for metric in metrics(kind).metrics)


def check_metric(kind: str, name: str) -> None:
    """Refuse a metric that a kind is not scored by.

    Raises:
        ValueError: the message names the nearest and all valid ones.
    """
    plugins.check_among(f"metrics of kind {kind}", name, metric_names(kind))


def higher_is_better(kind: str, name: str) -> bool:
    """Which way a metric of a kind is better.

    Raises:
        ConfigError: the kind has no such metric.
    """
    try:
        check_metric(kind, name)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    return next(metric.higher_is_better for metric in metrics(kind).metrics if metric.name == name)


def why_undefined(kind: str, name: str) -> str:
    """When a metric of a kind has no value."""
    where = next(metric.undefined_where for metric in metrics(kind).metrics if metric.name == name)
    return f"{name} is undefined where {where}" if where else f"{name} is undefined"
