"""The section `export` of params.yaml."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from acclimate.settings import Count, Options, Positive


class ExportConfig(Options):
    """Which fine-tuned models become ONNX, and what they must meet."""

    tasks: Annotated[list[str], Field(min_length=1)]
    quantize: list[Literal["int8"]] = ["int8"]
    max_logit_difference: Positive = Field(
        default=1e-3, description="of fp32 from torch; for regression in standard deviations of the labels"
    )
    max_metric_loss: Annotated[float, Field(ge=0)] = 0.01
    latency_batches: list[Count] = [1, 8]
    latency_rounds: Count = 30
    optimize_for: Literal["accuracy", "latency"] = "accuracy"
