"""The sections `evaluate` and `probe` of params.yaml."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from acclimate import kinds
from acclimate.settings import Count, OpenShare, Options, Positive, located

if TYPE_CHECKING:
    from acclimate.data.options import TaskConfig

ALL: Literal["all"] = "all"


def _is_size(value: Any) -> Any:
    if value != ALL and not (type(value) is int and value > 0):
        raise ValueError("must be a whole number above 0, or `all`")
    return value


Size = Annotated[int | Literal["all"], BeforeValidator(_is_size)]
"""How many labelled rows a probe is fitted on."""
ProbeName = Literal["linear", "neighbour"]


def _above_zero(margin: Any) -> Any:
    if isinstance(margin, int | float) and not (margin > 0 and math.isfinite(margin)):
        raise ValueError("must be above 0, and finite: no two encoders are equal within nothing")
    return margin


Margin = Annotated[float, BeforeValidator(_above_zero)]


class EvaluateConfig(Options):
    """Significance of each variant against the reference."""

    bootstrap_samples: Annotated[int, Field(ge=100)] = Field(default=2000, description="resamples of the test rows")
    margin: Margin = Field(default=0.01, description="a smaller difference does not matter")
    allow_unchecked_corpus: bool = Field(default=False, description="score although nobody looked for dev and test texts in the corpus")
    confidence: OpenShare = 0.95
    calibration_bins: Count = 10


class DeclaredConfig(Options):
    """What is judged, stated before the run: the last layer, by the task's metric."""

    rows: Annotated[list[Size], Field(min_length=1)] = Field(default=[100, 500], description="of those of `rows`")
    probe: ProbeName = "linear"


class ProbeConfig(Options):
    """The ledger: probes on frozen features of every layer, over many draws of labelled rows."""

    tasks: list[str] = Field(default=[], description="with one label for each example; empty: those of `runs`")
    general_tasks: list[str] = Field(default=[], description="of general text: what is lost there is forgetting. Never fine-tuned")
    controls: list[str] = Field(default=[], description="encoders to compare with, beside the reference; not fine-tuned")
    rows: Annotated[list[Size], Field(min_length=1)] = Field(
        default=[100, 500, 2000, ALL], description="labelled rows of a draw, without replacement; `all`: as many as there are, with it"
    )
    draws: Annotated[int, Field(ge=2)] = Field(default=20, description="samples of labelled rows at each of `rows`")
    declared: DeclaredConfig = DeclaredConfig()
    max_pool_rows: Count | None = Field(default=4000, description="labelled rows that are drawn from; null: all training rows")
    max_judged_rows: Count | None = Field(default=None, description="test rows that the probes are judged on; null: all")
    bootstrap_samples: Annotated[int, Field(ge=2)] = Field(default=10_000, description="resamples of the judged rows")
    margin: Margin = Field(default=0.01, description="differences below it do not matter: `equivalent` is within it")
    regularization: Positive = Field(default=1.0, description="strength of the L2 penalty on standardised features")

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        for name in ("tasks", "general_tasks", "controls", "rows"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise located(f"names a value twice: {values}", name, value={})
        if len(set(self.declared.rows)) < len(self.declared.rows):
            raise located(f"names a value twice: {self.declared.rows}", "declared", "rows", value={})
        if absent := [size for size in self.declared.rows if size not in self.rows]:
            raise located(f"{absent[0]} is not among probe.rows: {', '.join(map(str, self.rows))}", "declared", "rows", value={})
        if both := set(self.tasks) & set(self.general_tasks):
            raise located(f"{sorted(both)} stand both in `tasks` and in `general_tasks`; keep one", "general_tasks", value={})
        return self

    def encoders(self, of_runs: Sequence[str]) -> list[str]:
        """Encoders that are judged: those of `runs`, then the controls; each once."""
        return list(dict.fromkeys([*of_runs, *self.controls]))

    def judged_tasks(self, of_runs: Sequence[str], tasks: Mapping[str, TaskConfig]) -> list[str]:
        """Tasks that encoders are judged on, those of general text last."""
        return [*(self.tasks or [task for task in of_runs if kinds.is_sentence_level(tasks[task].kind)]), *self.general_tasks]
