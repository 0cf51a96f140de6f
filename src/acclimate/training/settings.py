"""From sections of params.yaml to what the loop reads."""

from __future__ import annotations

import logging
import os
import shutil
from typing import TYPE_CHECKING, Any

from acclimate.training.health import HealthConfig
from acclimate.training.loop import LoopConfig

if TYPE_CHECKING:
    from acclimate.training.options import HealthSection, OptimizationSection, TrainConfig

logger = logging.getLogger(__name__)


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
        micro_rows=None if train.micro_rows == "auto" else train.micro_rows,
        **own,
    )


def prepare_model(model: Any, train: TrainConfig, *, method: str) -> None:
    """Apply what changes how a model computes but not what: recomputation and compilation.

    Args:
        method: the model's method that holds the encoder's forward.
    """
    if train.activation_checkpointing:
        model.encoder.activation_checkpointing_enable()
    if not train.compile:
        return
    import torch

    if not torch.cuda.is_available() and not shutil.which(os.environ.get("CXX", "g++")):
        logger.warning("train.compile: no C++ compiler (g++) here; training runs without compiling")
        return
    plain = getattr(model, method)
    compiled = torch.compile(plain, dynamic=True)
    # In evaluation, which has other shapes and is short, compiling would cost more than it saves.
    setattr(model, method, lambda *arguments, **options: (compiled if model.training else plain)(*arguments, **options))
