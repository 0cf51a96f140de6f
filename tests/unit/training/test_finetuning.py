"""Fine-tuning's steps: how many, and what is said of odd settings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from acclimate.errors import ConfigError
from acclimate.training.finetuning import STREAM, LabelledSource, task_batches
from acclimate.training.options import RecipeConfig
from acclimate.training.orders import ByLength
from acclimate.training.streams import Stream, Streams


def batches_of(num_rows: int, **changes: Any) -> Streams:
    config = RecipeConfig(**{"strategy": "full", "batch_size": 4, "epochs": 2.0, **changes})
    order = ByLength(np.full(num_rows, 4), config.batch_size, 0)
    source = LabelledSource(num_rows)
    return task_batches(Stream(STREAM, source, lambda view, _: view, order, 0, config.accumulation), config)  # type: ignore[arg-type, return-value]


def test_a_batch_of_more_rows_than_there_are_holds_them_all_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    batches = batches_of(3, epochs=3.0)
    assert caplog.messages == ["finetune.batch_size is 4, but there are 3 training rows: every batch holds all of them"]
    assert batches.steps == 3
    assert all(sorted(batches.rows(step)[STREAM]) == [0, 1, 2] for step in range(3))


def test_a_step_of_more_batches_than_the_whole_run_has_is_refused() -> None:
    assert batches_of(30, epochs=1.5, accumulation=12).steps == 1
    with pytest.raises(ConfigError) as refused:
        batches_of(30, epochs=1.5, accumulation=13)
    assert str(refused.value) == (
        "finetune.accumulation is 13, but the whole run has 12 batches (8 an epoch, finetune.epochs 1.5); lower it or train for longer"
    )


@pytest.mark.parametrize(
    ("accumulation", "epochs", "warned"),
    [(1, 2.0, False), (1, 4.0, False), (2, 4.0, False), (4, 4.0, False), (3, 4.0, True), (5, 4.0, True), (7, 1.0, False)],
)
def test_a_step_of_batches_of_two_epochs_is_told(accumulation: int, epochs: float, warned: bool, caplog: pytest.LogCaptureFixture) -> None:
    batches = batches_of(30, epochs=epochs, accumulation=accumulation)
    said = f"finetune.accumulation is {accumulation}, an epoch has 8 batches: a step then takes batches of two epochs now and then"
    assert caplog.messages == [said] * warned
    epochs_of = [{(step * accumulation + part) // 8 for part in range(accumulation)} for step in range(batches.steps)]
    assert any(len(found) == 2 for found in epochs_of) == warned
