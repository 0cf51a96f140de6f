"""MLflow takes seconds to create a database; the tests copy one."""

from __future__ import annotations

import functools
import os
import tempfile
from pathlib import Path

import pytest

from acclimate.adapters.tracking import connect

RAM = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
"""A hundred migrations, each with its own fsync, cost up to half a minute on a busy disk."""


@functools.cache
def _content() -> bytes:
    with tempfile.TemporaryDirectory(dir=RAM) as directory, pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "")  # MLflow sets it
        database = Path(directory) / "mlflow.db"
        connect(f"sqlite:///{database}")
        return database.read_bytes()


def make_store(database: Path) -> str:
    """Write an empty store; its URI."""
    database.parent.mkdir(parents=True, exist_ok=True)
    database.write_bytes(_content())
    return f"sqlite:///{database}"
