"""From sections of params.yaml to what the loop reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from acclimate.training.health import HealthConfig
from acclimate.training.loop import LoopConfig

if TYPE_CHECKING:
    from acclimate.training.options import HealthSection, OptimizationSection, TrainConfig


def loop_config(
    section: OptimizationSection, health: HealthSection, train: TrainConfig, *, watch: str, maximize: bool, **own: Any
) -> LoopConfig:
    """The loop's settings.

    Args:
        watch: the score that early stopping looks at, and `maximize`, whether more of it is better.
        own: fields of LoopConfig that the stage knows by itself.
    """
    return LoopConfig(
        clip_norm=section.clip_norm,
        schedule=section.schedule,
        schedule_options=section.schedule_options(),
        warmup_share=section.warmup_share,
        average=section.average,
        ema_decay=section.ema_decay,
        tail_share=section.tail_share,
        health=HealthConfig(**health.model_dump(), watch=watch, maximize=maximize),
        micro_batch_size=None if train.micro_batch_size == "auto" else train.micro_batch_size,
        **own,
    )
