"""Write which code each stage, encoder, recipe and task uses, for DVC to see what a change of the code touches."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from acclimate.artifacts import write_text
from acclimate.code import Code, as_yaml
from acclimate.data.options import TaskConfig
from acclimate.settings import Options
from acclimate.training.options import EncoderConfig, RecipeConfig, RunsConfig
from stages.command import Out, StageContext, main


class Params(Options):
    """What this stage reads."""

    uses_components: ClassVar[bool] = True

    pretrain: dict[str, Any]
    encoders: dict[str, EncoderConfig]
    finetune: dict[str, Any]
    recipes: dict[str, RecipeConfig]
    tasks: dict[str, TaskConfig]
    runs: RunsConfig


def run(params: Params, *, library: Path, stages: Path, out: Out, context: StageContext) -> None:
    """Write the lock of the code.

    Args:
        library: the package `acclimate`.
        stages: the stages' directory.
        out: code.lock.yaml.
    """
    write_text(out, as_yaml(Code(library, stages).digests(params)))


if __name__ == "__main__":
    main(run, Params)
