"""A second checkout for a run with other params: the main one stays as it is, DVC's cache is shared."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from acclimate.errors import EnvironmentUnfitError
from acclimate.runtime import STATE_DIRECTORY


def add(root: Path, name: str) -> Path:
    """Make `.acclimate/worktrees/<name>`: the last commit with the changes and new files of the checkout laid over it.

    The outs that dvc.lock names are linked from DVC's cache.

    Raises:
        EnvironmentUnfitError: not a git repository, or one without a commit.
    """
    path = root / STATE_DIRECTORY / "worktrees" / name
    if path.exists():
        remove(root, path)
    _git(root, "worktree", "prune")
    _git(root, "worktree", "add", "--detach", "--quiet", str(path), "HEAD")
    _copy_changes(root, path)
    cache = subprocess.run([sys.executable, "-m", "dvc", "cache", "dir"], cwd=root, capture_output=True, text=True, check=True)
    _dvc(path, "cache", "dir", "--local", cache.stdout.strip())
    if (path / "dvc.lock").exists():
        _dvc(path, "checkout", "--allow-missing", "--quiet")
    return path


def remove(root: Path, path: Path) -> None:
    """Take a work tree away, with all that is in it."""
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
    done = subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=path, capture_output=True, text=True, check=False)
    if done.returncode:
        raise EnvironmentUnfitError(f"dvc {arguments[0]} in {path}: {done.stderr.strip()[-300:]}")
