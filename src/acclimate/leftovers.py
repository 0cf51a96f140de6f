"""Checkpoints on disk: where they lie, and which of them no run will go on from."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from pathlib import Path

from acclimate import artifacts, locks
from acclimate.errors import EnvironmentUnfitError

MAX_AGE_DAYS = 14
_FOLDER, _TRIALS = "checkpoints", "trials"


def directory_of(state: Path, trial: str | None) -> Path:
    """Where the stages of the checkout keep their checkpoints, or those of a flow run with params of its own."""
    return state / _FOLDER / _TRIALS / trial if trial else state / _FOLDER


def lock_of(checkpoints: Path) -> Path:
    """The lock of a stage's checkpoints."""
    state = next(parent.parent for parent in checkpoints.parents if parent.name == _FOLDER)
    return locks.lock_of(checkpoints, state)


def collect(directory: Path, finished: str) -> list[Path]:
    """Remove checkpoints that no run will go on from, and that no process holds.

    They are those of a stage that has finished, made with other params, inputs or code, and of any stage those that are old.

    Args:
        directory: of the checkout, or of a flow run: what one of them stopped is not for another one to remove.
        finished: the stage instance, as the checkpoints' names begin.
    """
    made_by_it = re.compile(rf"{re.escape(finished)}-[0-9a-f]{{16}}")
    root = next(each for each in (directory, *directory.parents) if each.name == _FOLDER)
    everywhere = [*root.iterdir(), *root.glob(f"{_TRIALS}/*/*")] if root.is_dir() else []
    removed = []
    for path in everywhere:
        is_of_finished = path.parent == directory and made_by_it.fullmatch(path.name)
        if path != root / _TRIALS and (is_of_finished or _age_days(path) > MAX_AGE_DAYS):
            with suppress(EnvironmentUnfitError), locks.held(lock_of(path), str(path)):
                artifacts.remove(path)
                removed.append(path)
    for trial in root.glob(f"{_TRIALS}/*"):
        with suppress(OSError):  # one that still holds some
            trial.rmdir()
    return removed


def _age_days(path: Path) -> float:
    """Since anything in it was written."""
    newest = path.stat().st_mtime
    for file in path.rglob("*"):
        with suppress(FileNotFoundError):  # its stage is just replacing it
            newest = max(newest, file.stat().st_mtime)
    return (time.time() - newest) / 86_400
