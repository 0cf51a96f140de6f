"""The sections `register` and `tracking` of params.yaml."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from acclimate.settings import Options, Positive, Share


class GatesConfig(Options):
    """When a new version becomes champion."""

    min_metric: float | None = None
    min_over_baseline: float | None = Field(default=None, description="metric minus the TF-IDF baseline's")
    min_over_champion: float | None = Field(default=None, description="metric minus the present champion's, when there is one")
    max_latency_ms: Positive | None = None
    max_calibration_error: Share | None = None


class RegisterConfig(Options):
    """The MLflow registry."""

    model_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")] = "acclimate"
    gates: GatesConfig = GatesConfig()


class TrackingConfig(Options):
    """Where runs are recorded. MLFLOW_TRACKING_URI overrides `uri`."""

    uri: str = "sqlite:///mlflow.db"
    experiment: str = "acclimate"
    system_metrics_every_s: Positive = 5.0
