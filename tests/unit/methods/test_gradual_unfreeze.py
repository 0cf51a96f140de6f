"""Layers open from the top, the embeddings last, and a closed one keeps its bits."""

from __future__ import annotations

from pathlib import Path

from tests.contract.made import RATES, fine_tuning


def test_layers_open_from_the_top(encoders: Path) -> None:
    *layers, head = fine_tuning(encoders, strategy="gradual_unfreeze").trained.groups(RATES)
    assert head.gate is None
    opened = [next(step for step in range(60) if group.gate(step, 60) > 0) for group in layers]  # type: ignore[misc]
    assert opened == [30, 20, 10]
    assert all(group.gate(59, 60) == 1.0 for group in layers)  # type: ignore[misc]
