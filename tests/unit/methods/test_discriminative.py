"""Each layer's rate is a share of that of the one above."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contract.made import RATES, fine_tuning


def test_rates_fall_from_the_top_and_cover_every_weight(encoders: Path) -> None:
    trained = fine_tuning(encoders, strategy="discriminative").trained
    *layers, head = trained.groups(RATES)
    assert [group.learning_rate for group in layers] == pytest.approx([1e-3 * 0.81, 1e-3 * 0.9, 1e-3])
    assert head.learning_rate == RATES.head_learning_rate
    assert sum(len(group.parameters) for group in [*layers, head]) == len(list(trained.parameters()))
