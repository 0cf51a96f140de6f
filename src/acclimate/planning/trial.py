"""A few real steps of one training stage, in a process of its own: `python -m acclimate.planning.trial REQUEST`.

Its own process, since highest memory and start-up time are a process's. It builds what the stage builds from the same params.yaml.
"""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from acclimate import artifacts, lifeline
from acclimate.config import Config
from acclimate.errors import AcclimateError
from acclimate.params_file import read_yaml
from acclimate.runtime import configure_logging, prepare_environment, seed_everything, set_threads


@dataclass(frozen=True)
class TrialRequest:
    """What is tried; travels as JSON."""

    task: str | None
    """The task that is fine-tuned; None is pretraining."""
    encoder: str
    tokens: str
    table: str
    """Of the task; for pretraining, the one that the share of adapted weights is chosen on."""
    scratch: str
    out: str
    limit_mb: float
    """Resident memory that all processes of the stage may have together, in MiB."""
    gpu_limit_mb: float | None = None
    """Memory of each GPU, in MB; None is what is free there."""
    memory_only: bool = False
    changes: dict[str, Any] = field(default_factory=dict)
    """Values that take the place of those of params.yaml, by dotted path."""

    def config(self) -> Config:
        """Params.yaml with the changes."""
        raw = read_yaml(Path("params.yaml"))
        for path, value in self.changes.items():
            section = raw
            *parents, last = path.split(".")
            for parent in parents:
                section = section.setdefault(parent, {})
            section[last] = value
        return Config(**raw)


def main(argv: list[str]) -> int:
    """Try the requested stage and write its StageEstimate as JSON."""
    prepare_environment()
    configure_logging(logging.ERROR)
    lifeline.end_with_starters()
    try:
        _try(TrialRequest(**json.loads(argv[0])))
    except AcclimateError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _try(request: TrialRequest) -> None:
    import torch

    from acclimate.planning.finetune import try_finetuning
    from acclimate.planning.place import Place
    from acclimate.planning.pretrain import try_pretraining
    from acclimate.training.distributed import join_world, leave_world
    from acclimate.training.precision import resolve_device

    config, device, threads = request.config(), resolve_device(), set_threads()
    pretrains = request.task is None
    seed_everything(config.seed if pretrains else config.runs.seeds[0])
    place = Place(device, threads, join_world(device, sharding=config.train.launch.sharding if pretrains else "ddp"))
    if not pretrains:
        torch.set_float32_matmul_precision("high")  # as stages/finetune.py
    estimate = (try_pretraining if pretrains else try_finetuning)(request, config, place)
    leave_world()
    if place.world.is_main:
        artifacts.write_json(Path(request.out), asdict(estimate))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
