"""A second checkout for a run with other params: the main one stays as it is, DVC's cache is shared."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from uuid import UUID

from acclimate.errors import EnvironmentUnfitError
from acclimate.runtime import SITE_VARIABLE, STATE_DIRECTORY
from flows import dvc_process

FOLDER = "worktrees"


def place(root: Path, folder: str, run: UUID) -> Path:
    """`.acclimate/<folder>/<run>`, which may be deleted or written to.

    By the run's id: its name is anyone's to choose, and `/home` or `../..` as a name would lead elsewhere.

    Raises:
        EnvironmentUnfitError: a link leads elsewhere.
    """
    path = root / STATE_DIRECTORY / folder / str(UUID(str(run)))
    expected = root.resolve() / path.relative_to(root)
    if path.resolve() != expected:
        raise EnvironmentUnfitError(f"{path}: a link leads to {path.resolve()}, where nothing may be deleted; remove the link")
    return path


def add(root: Path, run: UUID) -> Path:
    """Make the work tree of a flow run: the last commit with the changes and new files of the checkout laid over it.

    The outs that dvc.lock names are linked from DVC's cache.

    Raises:
        EnvironmentUnfitError: not a git repository, or one without a commit.
    """
    path = place(root, FOLDER, run)
    remove(root, run)  # what a try of this run before left; its checkpoints lie in the main checkout
    _git(root, "worktree", "add", "--detach", "--quiet", str(path), "HEAD")
    _copy_changes(root, path)
    cache = subprocess.run(dvc_process.command("cache", "dir"), cwd=root, capture_output=True, text=True, check=True)
    # The second line is for `dvc` typed by hand in a work tree that is kept.
    settings = f'[cache]\n    dir = "{cache.stdout.strip()}"\n[core]\n    site_cache_dir = "{os.environ[SITE_VARIABLE]}"\n'
    (path / ".dvc" / "config.local").write_text(settings, encoding="utf-8")
    if (path / "dvc.lock").exists():
        _dvc(path, "checkout", "--allow-missing", "--quiet")
    return path


def remove(root: Path, run: UUID) -> None:
    """Take the work tree of a flow run away, with all that is in it."""
    path = place(root, FOLDER, run)
    if path.exists():
        shutil.rmtree(path)
    _git(root, "worktree", "prune")


def _copy_changes(root: Path, path: Path) -> None:
    """What git does not hold yet: changed and new files, and dvc.lock even where it is ignored."""
    changed = _git(root, "diff", "--name-only", "-z", "HEAD").split("\0")
    new = _git(root, "ls-files", "--others", "--exclude-standard", "-z").split("\0")
    for name in {*changed, *new, "dvc.lock"} - {""}:
        if (root / name).is_file():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, path / name)
        else:
            (path / name).unlink(missing_ok=True)


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        message = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise EnvironmentUnfitError(f"git {arguments[0]}: {message[0]}; a run with overrides needs a git repository with a commit")
    return done.stdout


def _dvc(path: Path, *arguments: str) -> None:
    done = subprocess.run(dvc_process.command(*arguments), cwd=path, capture_output=True, text=True, check=False)
    if done.returncode:
        raise EnvironmentUnfitError(f"dvc {arguments[0]} in {path}: {done.stderr.strip()[-300:]}")
