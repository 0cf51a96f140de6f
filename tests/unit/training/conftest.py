"""What the tests of the loop share."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def checkpoints_as_often_as_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A toy's step is shorter than saving it: the loop would make one checkpoint after the first step and none until the end."""
    monkeypatch.setattr("acclimate.training.loop.SAVING_SHARE", 1e9)
