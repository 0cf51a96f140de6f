"""The sections `evaluate` and `probe` of params.yaml."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from acclimate.settings import Count, OpenShare, Options, Positive


def _above_zero(margin: Any) -> Any:
    if isinstance(margin, int | float) and not (margin > 0 and math.isfinite(margin)):
        raise ValueError("must be above 0, and finite: no two encoders are equal within nothing")
    return margin


class EvaluateConfig(Options):
    """Significance of each variant against the reference."""

    bootstrap_samples: Annotated[int, Field(ge=100)] = Field(default=2000, description="resamples of the test rows")
    margin: Annotated[float, BeforeValidator(_above_zero)] = Field(default=0.01, description="a smaller difference does not matter")
    allow_unchecked_corpus: bool = Field(default=False, description="score although nobody looked for dev and test texts in the corpus")
    confidence: OpenShare = 0.95
    calibration_bins: Count = 10


class ProbeConfig(Options):
    """Linear probing: frozen features of every layer."""

    tasks: list[str] = Field(default=[], description="empty: the first fine-tuned task")
    max_train_rows: Count | None = None
    regularization: Positive = 1.0
