"""Predictions on disk: written by `acclimate plan`, put into each training stage's record, compared there with what it took."""

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


def stage_key(stage: str) -> str:
    """`finetune-once@entities-base-0` as `finetune@entities-base-0`: which template of dvc.yaml an instance came from is no matter."""
    name, at, values = stage.partition("@")
    return f"{name.removesuffix('-once')}{at}{values}"


def fingerprint(config: Config, *, task: str | None) -> str:
    """Digest of the params that a stage's time and memory follow from.

    Args:
        task: the task that is fine-tuned; None is pretraining.
    """
    train = config.train.model_dump(mode="json", exclude={"price_per_hour"})
    common = {"model": config.model.model_dump(mode="json"), "train": train}
    if task is None:
        retention = config.tasks[config.pretrain.retention.task].model_dump(mode="json")
        own = {"pretrain": config.pretrain.model_dump(mode="json"), "tokenize": config.tokenize.model_dump(mode="json"), "task": retention}
    else:
        own = {"finetune": config.finetune.model_dump(mode="json"), "task": config.tasks[task].model_dump(mode="json")}
    return hashlib.sha256(json.dumps({**common, **own}, sort_keys=True).encode()).hexdigest()


def predicted(config: Config, stage: str, record: dict[str, Any], *, task: str | None, plan: Path = PLAN) -> dict[str, float]:
    """Fields for the record of a stage that was planned; nothing where the plan is of other params, another device or other threads.

    Args:
        stage: the instance, such as `finetune@section-base-0`.
        record: what the stage itself recorded.
    """
    if not plan.is_file():
        return {}
    try:
        found = artifacts.read_json(plan)["stages"].get(stage_key(stage))
    except DataError as error:
        logger.warning("%s; the prediction is left out", error)
        return {}
    if found is None:
        return {}
    differing = [name for name in ("device", "threads", "processes") if found[name] != record.get(name)]
    if found["fingerprint"] != fingerprint(config, task=task):
        differing.append("params.yaml")
    if differing:
        logger.info("%s was made for another %s; the prediction is left out", plan, " and ".join(differing))
        return {}
    return {f"predicted_{name}": found[name] for name in ("wall_s", "peak_rss_mb", "memory_mb") if name in found}
