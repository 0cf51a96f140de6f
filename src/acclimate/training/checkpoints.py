"""Checkpoints that are whole or not there: written by rename, hashed, the newest two kept."""

from __future__ import annotations

import hashlib
import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from acclimate import artifacts
from acclimate.errors import EnvironmentUnfitError, disk_fault

_KEPT = 2
logger = logging.getLogger(__name__)


class CheckpointStore:
    """A directory of `step-N.pt` files, each with its sha256 beside it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write one checkpoint and drop all but the newest two.

        Raises:
            EnvironmentUnfitError: it cannot be written, as on a full disk; the checkpoints before it are untouched.
        """
        path = self._directory / f"step-{step:09d}.pt"
        partial = path.with_suffix(".partial")
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            for left in self._directory.glob("*.partial"):  # of a process that was killed while saving
                left.unlink()
            with partial.open("wb") as file:  # given a path, torch writes by itself and does not tell why it could not
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())
            digest = artifacts.file_sha256(partial)
            path.with_suffix(".sha256").write_text(digest, encoding="utf-8")
            os.replace(partial, path)
            _sync_directory(self._directory)
        except (OSError, RuntimeError) as error:
            cause = disk_fault(error) or error
            if not isinstance(cause, OSError):
                raise
            with suppress(OSError):  # a read-only disk keeps it; the next save removes it
                partial.unlink()
            before = self._paths()
            left_over = f"The one before it, {before[-1].name}, is untouched" if before else "There is none before it"
            reason = cause.strerror or str(cause)
            raise EnvironmentUnfitError(f"{path}: checkpoint not written ({reason}); make room. {left_over}") from None
        for old in self._paths()[:-_KEPT]:
            old.unlink()
            old.with_suffix(".sha256").unlink(missing_ok=True)

    def load_newest(self) -> dict[str, Any] | None:
        """The newest checkpoint whose hash holds; a damaged one is named and passed over. None where none is whole."""
        paths = self._paths()
        for path in reversed(paths):
            digest = path.with_suffix(".sha256")
            with path.open("rb") as file:  # once: a file opened again may be another
                if digest.exists() and hashlib.file_digest(file, "sha256").hexdigest() == digest.read_text(encoding="utf-8"):
                    file.seek(0)
                    state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
                    return state
            logger.warning("%s is damaged; the checkpoint before it is used", path)
        if paths:
            logger.warning("%s: none of %d checkpoints is whole; training begins anew", self._directory, len(paths))
        return None

    def _paths(self) -> list[Path]:
        return sorted(self._directory.glob("step-*.pt"))


def _sync_directory(directory: Path) -> None:
    """Make a rename last through a power cut."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
