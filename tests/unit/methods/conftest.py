"""Tiny backbones of each shape."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import write_tiny_encoder
from tests.contract.made import write_tiny_t5


@pytest.fixture(scope="session")
def encoders(tmp_path_factory: pytest.TempPathFactory, minilm_dir: Path) -> Path:
    """A directory with one backbone a shape."""
    directory = tmp_path_factory.mktemp("encoders")
    (directory / "encoder").mkdir()
    write_tiny_encoder(directory / "encoder", minilm_dir)
    write_tiny_t5(directory / "encoder_decoder")
    return directory
