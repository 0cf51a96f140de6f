"""A stage that trains a few numbers for some seconds: launching, stopping and dying are tested with it, without a model's imports."""

from __future__ import annotations

import os
from pathlib import Path

from acclimate.settings import Options
from stages.command import Out, StageContext, main


class Params(Options):
    seed: int


def run(params: Params, *, rows: int, steps: int, out: Out, context: StageContext) -> None:
    from tests.integration.small_training import train  # torch: the launcher needs none

    (Path.cwd() / f"pid-{os.environ.get('RANK', '0')}").write_text(str(os.getpid()))
    train(rows, steps, out, context)


if __name__ == "__main__":
    main(run, Params, trains=True)
