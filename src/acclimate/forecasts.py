"""Forecasts of time and memory on disk: `acclimate plan` writes them, and each training stage copies its own into its record."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

from acclimate import artifacts
from acclimate.config import Config
from acclimate.errors import DataError
from acclimate.runtime import STATE_DIRECTORY

PLAN = STATE_DIRECTORY / "plan.json"
"""No dep or out of any stage: a plan changes no bytes, and making one must run nothing again."""

logger = logging.getLogger(__name__)


def params_digest(config: Config, params: dict[str, Any]) -> str:
    """Digest of the values that decide a stage's time and memory.

    Args:
        params: those that the stage reads.
    """
    train = config.train.model_dump(mode="json", exclude={"price_per_hour"})
    values = [params, train, config.model.model_dump(mode="json"), config.tokenize.model_dump(mode="json")]
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def forecast(stage: str, digest: str, record: dict[str, Any], *, plan: Path = PLAN) -> dict[str, float]:
    """Fields for the record of a stage that was planned; none where the plan is for other params, another device or other threads.

    Args:
        stage: the instance as DVC names it, such as `finetune@section-base-full-0`.
        digest: of its params, see `params_digest`.
        record: what the stage itself recorded.
    """
    if not plan.is_file():
        return {}
    try:
        found = artifacts.read_json(plan)["stages"].get(stage)
    except DataError as error:
        logger.warning("%s; the forecast is left out", error)
        return {}
    if found is None:
        return {}
    own = {"params": digest, **{name: record.get(name) for name in ("device", "threads", "processes")}}
    if differing := [name for name, value in own.items() if found.get(name) != value]:
        logger.info("%s was made for other %s; the forecast is left out", plan, " and ".join(differing))
        return {}
    return {f"forecast_{name}": round(found[name], 2) for name in ("wall_s", "peak_rss_mb", "memory_mb") if name in found}
