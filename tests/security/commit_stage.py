"""A stage that writes two outs of many files at once, and says when it begins to: killed while it commits, it is tested without torch."""

from __future__ import annotations

from pathlib import Path

from acclimate.settings import Options
from stages.command import Out, StageContext, main

FILES = 200


class Params(Options):
    seed: int


def run(params: Params, *, source: Path, out: Out, second: Out, context: StageContext) -> None:
    text = source.read_text(encoding="utf-8")
    for directory in (out, second):
        for number in range(FILES):
            (directory / f"{number:04d}.txt").write_text(f"{number} {text}", encoding="utf-8")
    Path("committing").touch()


if __name__ == "__main__":
    main(run, Params)
