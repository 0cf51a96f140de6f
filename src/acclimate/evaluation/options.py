"""The sections `evaluate` and `probe` of params.yaml."""

from __future__ import annotations

from pydantic import Field

from acclimate.settings import Count, OpenShare, Options, Positive


class EvaluateConfig(Options):
    """Significance of each variant against the reference."""

    bootstrap_samples: Count = 2000
    allow_unchecked_corpus: bool = Field(default=False, description="score although nobody looked for dev and test texts in the corpus")
    confidence: OpenShare = 0.95
    calibration_bins: Count = 10


class ProbeConfig(Options):
    """Linear probing: frozen features of every layer."""

    tasks: list[str] = Field(default=[], description="empty: the first fine-tuned task")
    max_train_rows: Count | None = None
    regularization: Positive = 1.0
