"""Biases and the head learn, nothing else."""

from __future__ import annotations

from pathlib import Path

from tests.contract.made import RATES, fine_tuning


def test_only_biases_and_the_head_are_trained(encoders: Path) -> None:
    trained = fine_tuning(encoders, strategy="bitfit").trained
    listed = {id(parameter) for group in trained.groups(RATES) for parameter in group.parameters}
    names = {name for name, parameter in trained.named_parameters() if id(parameter) in listed}
    assert names == {name for name, _ in trained.named_parameters() if name.endswith("bias") or ".head." in name}
