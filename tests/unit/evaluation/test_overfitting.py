from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acclimate.evaluation.overfitting import Losses, overfits, overfitting_sentences, read_losses
from acclimate.training.options import RunsConfig

LOSS = st.floats(0.01, 5.0)


@pytest.mark.parametrize(
    ("by_epoch", "error", "train", "expected"),
    [
        ([1.0, 0.8, 0.9, 1.3], 0.06, 0.1, True),
        ([1.0, 0.8, 0.82, 0.83], 0.06, 0.1, False),  # within chance
        ([1.0, 0.8, 0.7, 0.6], 0.06, 0.1, False),  # still falling, however wide the gap to train
        ([1.0, 0.8, 1.2, 1.6], 0.06, 1.7, False),  # it diverged: training rows are no better
        ([1.4], 0.06, 0.1, False),  # one epoch: nothing to compare
    ],
)
def test_a_model_overfits_where_dev_loss_rises_by_more_than_chance_while_train_loss_falls(
    by_epoch: list[float], error: float, train: float, expected: bool
) -> None:
    assert overfits([Losses(by_epoch, error, train)]) == expected


@given(losses=st.lists(LOSS, min_size=1, max_size=8), error=st.floats(0, 1), train=LOSS)
def test_a_loss_that_never_rises_is_no_overfitting(losses: list[float], error: float, train: float) -> None:
    assert not overfits([Losses(sorted(losses, reverse=True), error, train)])


def write_run(directory: Path, by_epoch: list[float], train: float) -> None:
    directory.mkdir(parents=True)
    rows = [f"{4 * epoch},{loss}" for epoch, loss in enumerate(by_epoch[:-1])]
    (directory / "history.csv").write_text("\n".join(["step,dev/loss", *rows]) + "\n")
    fit = {"train_loss": train, "dev_loss": 9.0, "dev_loss_at_end": by_epoch[-1], "dev_loss_error": 0.05}
    (directory / "metrics.json").write_text(json.dumps({"fit": fit}))


def test_one_sentence_for_each_variant_that_overfits(tmp_path: Path) -> None:
    runs = RunsConfig.model_validate(
        {
            "tasks": ["topic"],
            "encoders": ["base", "mlm"],
            "recipes": ["full"],
            "seeds": [0, 1],
            "reference": {"encoder": "base", "recipe": "full"},
        }
    )
    for seed in (0, 1):
        write_run(tmp_path / f"topic/base-full-{seed}", [1.0, 0.8, 1.0 + 0.2 * seed], 0.1)
        write_run(tmp_path / f"topic/mlm-full-{seed}", [1.0, 0.8, 0.7], 0.1)
    told = (
        "base-full overfits topic: its loss on dev rows is lowest after epoch 2 of 3 (0.800) and rises to 1.100, while that on training "
        "rows falls to 0.100; fewer epochs, more dropout or health.patience help"
    )
    assert overfitting_sentences(tmp_path, runs) == [told]


def test_a_run_of_an_older_version_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text(json.dumps({"fit": {"train_loss": 0.1, "dev_loss": 0.3}}))
    assert read_losses(tmp_path) is None
    assert read_losses(tmp_path / "nothing") is None
