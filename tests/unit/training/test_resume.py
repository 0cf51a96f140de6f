"""Going on from a checkpoint: the same bits, or a refusal that names what differs."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from acclimate.errors import TrainingError
from acclimate.runtime import StoppedError
from tests.unit.training.toy_run import Killed, PointBatches, Run, dies_at, summed_error, train


def killed_and_resumed(directory: Path, *calls: int, **settings: Any) -> Run:
    """A run killed in the step after so many, once for each, then let through; a checkpoint follows every step."""
    done = 0
    for number in calls:
        with pytest.raises(Killed):
            train(directory, loss=dies_at(number), every_s=0.0, **settings)
        done += number
    trained = train(directory, every_s=0.0, **settings)
    assert trained.result.resumed_from == done > 0
    return trained


def test_a_run_killed_twice_ends_in_the_same_bits(tmp_path: Path) -> None:
    assert torch.equal(train(tmp_path / "whole").weights, killed_and_resumed(tmp_path / "cut", 6, 5).weights)


def test_a_run_killed_between_two_log_lines_logs_what_the_undisturbed_one_does(tmp_path: Path) -> None:
    assert killed_and_resumed(tmp_path / "cut", 7, 4, log_every=3).rows == train(tmp_path / "whole", log_every=3).rows


@pytest.mark.parametrize(
    "average", [{"average": "ema", "ema_decay": 0.9}, {"average": "tail", "tail_share": 0.6}], ids=lambda average: average["average"]
)
@pytest.mark.parametrize("calls", [(4,), (11, 6)], ids=str)
def test_an_average_of_the_weights_goes_on_to_the_same_bits(average: dict[str, Any], calls: tuple[int, ...], tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", **average)
    assert torch.equal(whole.weights, killed_and_resumed(tmp_path / "cut", *calls, **average).weights)
    assert not torch.equal(whole.weights, train(tmp_path / "plain").weights)


def test_a_run_killed_after_its_last_step_has_nothing_left_to_do(tmp_path: Path) -> None:
    whole = train(tmp_path)
    again = train(tmp_path, loss=dies_at(0))
    assert torch.equal(whole.weights, again.weights) and whole.rows == again.rows


def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    undisturbed = train(tmp_path / "whole")
    train(tmp_path / "cut", every_s=0.0)
    _, newest = sorted((tmp_path / "cut").glob("step-*.pt"))
    newest.write_bytes(newest.read_bytes()[:-10])
    again = train(tmp_path / "cut")
    assert again.result.resumed_from == 19
    assert torch.equal(undisturbed.weights, again.weights)
    assert f"{newest} is damaged; the checkpoint before it is used" in caplog.messages


def test_where_every_checkpoint_is_damaged_training_begins_anew_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    undisturbed = train(tmp_path / "whole")
    train(tmp_path / "cut", every_s=0.0)
    older, newest = sorted((tmp_path / "cut").glob("step-*.pt"))
    newest.write_bytes(b"")
    older.with_suffix(".sha256").unlink()
    again = train(tmp_path / "cut")
    assert again.result.resumed_from == 0
    assert torch.equal(undisturbed.weights, again.weights)
    assert caplog.messages[-1] == f"{tmp_path / 'cut'}: none of 2 checkpoints is whole; training begins anew"


def test_a_first_run_warns_of_no_checkpoint(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train(tmp_path)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def stops_at(call: int) -> tuple[Callable[..., Tensor], Callable[[], int]]:
    """A loss that asks its own process to stop, and how often it has been computed."""
    calls = 0

    def loss(model: nn.Module, batch: Any) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == call:
            os.kill(os.getpid(), signal.SIGTERM)
        return summed_error(model, batch)

    return loss, lambda: calls


@pytest.mark.parametrize("step", [1, 7, 20])
def test_a_stop_request_saves_and_the_next_run_goes_on(step: int, tmp_path: Path) -> None:
    loss, calls = stops_at(step)
    with pytest.raises(StoppedError, match=f"step {step} of 20 is saved"):
        train(tmp_path / "cut", loss=loss)
    assert calls() == step
    again = train(tmp_path / "cut")
    assert again.result.resumed_from == step
    assert torch.equal(train(tmp_path / "whole").weights, again.weights)


def test_a_checkpoint_made_of_other_inputs_is_refused_by_name(tmp_path: Path) -> None:
    train(tmp_path, identity={"artifacts/tokenize": "aa.dir", "artifacts/encoders/base": "bb.dir", "gone": "ee"})
    with pytest.raises(TrainingError) as refused:
        train(tmp_path, identity={"artifacts/tokenize": "cc.dir", "artifacts/encoders/base": "bb.dir", "new": "dd"})
    assert str(refused.value) == (
        "the checkpoint is of another run: artifacts/tokenize was aa.dir, is cc.dir; gone was ee, is None; new was None, is dd. "
        "Remove it to begin anew"
    )


def test_a_checkpoint_of_a_run_of_another_length_is_refused(tmp_path: Path) -> None:
    train(tmp_path)
    with pytest.raises(TrainingError, match="checkpoint of a run of 20 steps cannot go on as one of 30"):
        train(tmp_path, batches=PointBatches(30))


@pytest.mark.parametrize(
    "other",
    [
        nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 1)),
        nn.Sequential(nn.Linear(4, 9), nn.Dropout(0.3), nn.Linear(9, 1)),
        nn.Sequential(nn.Linear(4, 8, bias=False), nn.Dropout(0.3), nn.Linear(8, 1)),
    ],
    ids=["layers", "width", "bias"],
)
def test_a_checkpoint_of_another_model_is_refused_in_one_line(other: nn.Module, tmp_path: Path) -> None:
    train(tmp_path)
    with pytest.raises(TrainingError, match=r"checkpoint is of another model: .*0\.(weight|bias)") as refused:
        train(tmp_path, model=other)
    assert "\n" not in str(refused.value)


def test_a_checkpoint_without_the_wanted_average_is_refused(tmp_path: Path) -> None:
    train(tmp_path)
    with pytest.raises(TrainingError, match="checkpoint holds no average of the weights; this run wants 'ema'"):
        train(tmp_path, average="ema")
    train(tmp_path / "ema", average="ema")
    with pytest.raises(TrainingError, match="average of the kind 'ema'; this run wants 'tail'"):
        train(tmp_path / "ema", average="tail")
