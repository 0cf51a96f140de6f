"""The plan: every training stage tried in a process of its own, what does not fit named together with what would."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from acclimate import artifacts
from acclimate.config import Config
from acclimate.errors import ConfigError, EnvironmentUnfitError
from acclimate.launch import run_processes
from acclimate.lifeline import child_environment
from acclimate.planning.estimate import Memory, StageEstimate
from acclimate.planning.inputs import Inputs, find_inputs, make_tokens
from acclimate.planning.limits import host_limit_mb
from acclimate.planning.predictions import PLAN, fingerprint
from acclimate.planning.trial import TrialRequest
from acclimate.runtime import STATE_DIRECTORY

_HALVINGS = 2
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PlannedStage:
    """The runs of one training stage that are alike."""

    task: str | None
    instances: list[str]
    """As records name them: `pretrain`, or `finetune@section-base-0` and its like."""
    estimate: StageEstimate
    remedies: list[str]
    """What would fit, where it does not."""

    @property
    def name(self) -> str:
        """`pretrain`, or `finetune section`."""
        return "pretrain" if self.task is None else f"finetune {self.task}"

    @property
    def fits(self) -> bool:
        """Whether it runs: as params.yaml has it, or with the fewer rows at once that the loop finds by itself."""
        return self.estimate.memory.fits or self.estimate.micro_rows is not None

    @property
    def wall_s(self) -> float:
        """Of all instances, one after the other."""
        return self.estimate.wall_s * len(self.instances)


@dataclass(frozen=True)
class Plan:
    """Every training stage of params.yaml."""

    stages: list[PlannedStage]
    notes: list[str]
    """What of the trial's input is not what the stages will read."""
    limit_from: str
    price_per_hour: float | None
    took_s: float


_IMPORTS_OF_STAGES = "import acclimate.planning.pretrain, acclimate.planning.finetune, sklearn.linear_model, transformers.modeling_utils"
"""Read once before anything is timed: from a new environment on a cold disk they take 20 s longer than they will in the stages."""


def make_plan(config: Config, *, memory_mb: float | None = None, tell: Callable[[str], None] = logger.info) -> Plan:
    """Try each training stage; one trial for each task stands for its encoders and seeds.

    Args:
        memory_mb: plan for so much memory, not for what is here; of the GPU where there is one.
        tell: called with the name of each stage before it is tried.

    Raises:
        ConfigError: several nodes, of which one cannot be tried alone.
        EnvironmentUnfitError: a trial failed.
    """
    if config.train.launch.nodes > 1:
        raise ConfigError("train.launch.nodes: a plan tries one node; set it to 1 for the plan")
    started = time.monotonic()
    here_mb, limit_from = host_limit_mb()
    STATE_DIRECTORY.mkdir(exist_ok=True)
    subprocess.run([sys.executable, "-c", _IMPORTS_OF_STAGES], capture_output=True, check=False)
    with tempfile.TemporaryDirectory(prefix="plan-", dir=STATE_DIRECTORY) as directory:
        scratch = Path(directory)
        inputs = find_inputs(config, scratch)
        trials = _Trials(config, inputs, scratch, memory_mb or here_mb, memory_mb)
        stages = []
        for task in (None, *config.runs.all_tasks):
            tell("pretrain" if task is None else f"finetune {task}")
            estimate = trials.run(task)
            planned = PlannedStage(task, _instances(config, task), estimate, [])
            stages.append(planned if planned.fits else replace(planned, remedies=trials.remedies(task, estimate.memory)))
    told = "given" if memory_mb else "free on the GPU" if stages[0].estimate.device.startswith("cuda") else limit_from
    return Plan(stages, inputs.notes, told, config.train.price_per_hour, time.monotonic() - started)


def _instances(config: Config, task: str | None) -> list[str]:
    if task is None:
        return ["pretrain"]
    return [f"finetune@{task}-{encoder}-{seed}" for encoder in config.runs.encoders for seed in config.runs.seeds_of(task)]


def write_plan(plan: Plan, config: Config, path: Path = PLAN) -> None:
    """Keep each instance's prediction, with the digest of the params that it is for."""
    stages: dict[str, Any] = {}
    for stage in plan.stages:
        estimate = stage.estimate
        found = {
            "fingerprint": fingerprint(config, task=stage.task),
            "wall_s": round(estimate.wall_s, 2),
            "peak_rss_mb": round(estimate.peak_rss_mb, 1),
            "parts_s": {name: round(seconds, 2) for name, seconds in estimate.parts.items()},
            **{name: getattr(estimate, name) for name in ("device", "threads", "processes", "steps")},
        }
        if estimate.device.startswith("cuda"):
            found["memory_mb"] = round(estimate.memory.needed_mb, 1)
        stages |= dict.fromkeys(stage.instances, found)
    artifacts.write_json(path, {"made_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "notes": plan.notes, "stages": stages})


@dataclass(frozen=True)
class _Trials:
    config: Config
    inputs: Inputs
    scratch: Path
    limit_mb: float
    gpu_limit_mb: float | None

    def run(
        self, task: str | None, *, changes: dict[str, Any] | None = None, memory_only: bool = False, tokens: Path | None = None
    ) -> StageEstimate:
        """Try one stage in a process of its own, or in as many as params.yaml says.

        Raises:
            EnvironmentUnfitError: it failed; the message is its own.
        """
        out = self.scratch / "estimate.json"
        out.unlink(missing_ok=True)
        request = TrialRequest(
            task=task,
            encoder=str(self.inputs.encoder),
            tokens=str(tokens or self.inputs.tokens),
            table=str(self.inputs.tables[task or self.config.pretrain.retention.task]),
            scratch=str(self.scratch),
            out=str(out),
            limit_mb=self.limit_mb,
            gpu_limit_mb=self.gpu_limit_mb,
            memory_only=memory_only,
            changes=changes or {},
        )
        where = "pretrain" if task is None else f"finetune {task}"
        self._run(["-m", "acclimate.planning.trial", json.dumps(asdict(request))], where)
        found = artifacts.read_json(out)
        return StageEstimate(**{**found, "memory": Memory(**found["memory"])})

    def _run(self, command: list[str], where: str) -> None:
        launch = self.config.train.launch
        # As stages/__init__.py has it for the stages themselves.
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        if launch.processes > 1:
            status, lines = run_processes(command, launch.processes)
            said = (lines or ["it said nothing"])[-1]
        else:
            done = subprocess.run(
                [sys.executable, *command], env={**os.environ, **child_environment()}, capture_output=True, text=True, check=False
            )
            status, said = done.returncode, (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        if status in (-9, 137):
            raise EnvironmentUnfitError(f"{where}: the trial was killed, most likely for want of memory; {self.limit_mb:,.0f} MB were free")
        if status:
            raise EnvironmentUnfitError(f"{where}: the trial failed: {said}")

    def remedies(self, task: str | None, memory: Memory) -> list[str]:
        """What would fit, each found by trying it: fewer rows at once, activations computed again, both, shorter rows."""
        if memory.weights_mb > memory.limit_mb:
            return []
        found = []
        if 0 < memory.fitting_rows < memory.rows:
            found.append(f"train.micro_rows: {memory.fitting_rows}")
        checkpointing = {"train.activation_checkpointing": True}
        if not self.config.train.activation_checkpointing:
            tried = self.run(task, changes=checkpointing, memory_only=True).memory
            if tried.fits:
                found.append("train.activation_checkpointing: true")
            elif tried.fitting_rows > memory.fitting_rows:
                found.append(f"train.activation_checkpointing: true with train.micro_rows: {tried.fitting_rows}")
        return found or self._shorter_rows(task)

    def _shorter_rows(self, task: str | None) -> list[str]:
        path, length = "tokenize.tokens_per_row", self.config.tokenize.tokens_per_row
        if task is not None:
            path, length = f"tasks.{task}.max_tokens", self.config.tasks[task].max_tokens
        for _ in range(_HALVINGS):
            length = max(8, length // 2)
            changes: dict[str, Any] = {path: length, "train.activation_checkpointing": True}
            tried = self.run(task, changes=changes, memory_only=True, tokens=self._tokens_of(length) if task is None else None).memory
            if tried.fitting_rows:
                rows = "" if tried.fits else f" and train.micro_rows: {tried.fitting_rows}"
                return [f"{path}: {length} with train.activation_checkpointing: true{rows}"]
        return []

    def _tokens_of(self, length: int) -> Path:
        out = self.scratch / f"tokens-{length}"
        if not out.is_dir():
            shorter = self.config.tokenize.model_copy(update={"tokens_per_row": length})
            make_tokens(self.config.model_copy(update={"tokenize": shorter}), self.inputs.encoder, out)
        return out
