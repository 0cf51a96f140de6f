"""Spikes, going back before them, and stopping early."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from acclimate.errors import TrainingError
from acclimate.protocols import Group
from acclimate.training.averaging import WeightAverage
from acclimate.training.health import HealthConfig
from acclimate.training.optimizers import adamw, optimizer_groups
from acclimate.training.precision import Precision
from acclimate.training.schedules import learning_rate_factor
from acclimate.training.step import gradient_norm
from tests.unit.training.toy_run import Killed, PointBatches, dies_at, network, summed_error, train, weights

STEPS, OUTLIERS = 80, (30, 52)
SPIKY = PointBatches(STEPS, outliers=OUTLIERS)
REWIND = HealthConfig(on_spike="rewind", rewind_steps=8)


@pytest.mark.parametrize("log_every", [1, 7])
def test_a_spike_is_marked_and_noise_is_not(log_every: int, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    marked = train(tmp_path / "spiky", batches=SPIKY, log_every=log_every)
    assert marked.result.spikes == [*OUTLIERS]
    assert marked.rows[-1]["spikes"] == 2.0
    assert [message.split(": loss")[0] for message in caplog.messages if "is a spike" in message] == ["train: step 30", "train: step 52"]
    quiet = train(tmp_path / "quiet", batches=PointBatches(400), log_every=log_every)
    assert quiet.result.spikes == [] and "spikes" not in quiet.rows[-1]


def test_the_first_steps_are_no_spikes_however_they_fall(tmp_path: Path) -> None:
    assert train(tmp_path, batches=PointBatches(19, outliers=(3, 11))).result.spikes == []


def test_marks_survive_a_kill_between_two_log_lines(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", batches=SPIKY, log_every=7)
    with pytest.raises(Killed):
        train(tmp_path / "cut", batches=SPIKY, log_every=7, loss=dies_at(32), every_s=0.0)
    again = train(tmp_path / "cut", batches=SPIKY, log_every=7)
    assert again.result.resumed_from == 32
    assert again.result.spikes == [*OUTLIERS] and again.rows == whole.rows


def learned_without(skipped: list[int], average: WeightAverage | None, model: nn.Module) -> nn.Module:
    """The plain loop over the same steps at the same rates, in which the skipped steps do not happen."""
    groups = [options for options, _ in optimizer_groups([Group(list(model.parameters()), 0.01)])]
    optimizer = adamw(groups, betas=(0.9, 0.99), epsilon=1e-8)
    parameters = [parameter for group in groups for parameter in group["params"]]
    for step in range(STEPS):
        if step in skipped:
            continue
        for group in optimizer.param_groups:
            group["lr"] = 0.01 * learning_rate_factor(step, steps=STEPS, warmup_steps=8, schedule="linear")
        (work,) = SPIKY.window(step)
        optimizer.zero_grad()
        (summed_error(model, work.batch) / work.batch.num_rows).backward()
        norm = gradient_norm(parameters)
        for parameter in parameters:
            assert parameter.grad is not None
            parameter.grad /= norm.clamp_min(1.0)
        optimizer.step()
        if average:
            average.update(model, step)
    return model


@pytest.mark.parametrize("average", ["none", "ema", "tail"])
def test_rewinding_ends_where_a_run_without_the_skipped_steps_ends(average: Any, tmp_path: Path) -> None:
    rewound = train(tmp_path, batches=SPIKY, model=network(dropout=0.0), health=REWIND, average=average, ema_decay=0.9, tail_share=0.7)
    # snapshots are taken before steps 0, 8, 16, ...: what is skipped begins at the last of them and ends with the spike
    skipped = [*range(24, 31), *range(48, 53)]
    assert rewound.result.skipped == skipped and rewound.result.spikes == [*OUTLIERS]
    plain = network(dropout=0.0)
    kept = None if average == "none" else WeightAverage(plain, plain.parameters(), kind=average, steps=STEPS, ema_decay=0.9, tail_share=0.7)
    learned_without(skipped, kept, plain)
    if kept:
        kept.copy_to(plain)
    assert torch.equal(rewound.weights, weights(plain))


@pytest.mark.parametrize("calls", [(29, 3, 20), (31,), (53, 1, 1)], ids=str)
def test_a_rewinding_run_killed_and_resumed_ends_in_the_same_bits(calls: tuple[int, ...], tmp_path: Path) -> None:
    settings: dict[str, Any] = {"batches": SPIKY, "health": REWIND, "average": "ema", "log_every": 7}
    whole = train(tmp_path / "whole", **settings)
    for number in calls:
        with pytest.raises(Killed):
            train(tmp_path / "cut", loss=dies_at(number), every_s=0.0, **settings)
    again = train(tmp_path / "cut", every_s=0.0, **settings)
    assert again.result.resumed_from == sum(calls)
    assert torch.equal(whole.weights, again.weights)
    assert again.rows == whole.rows
    assert (again.result.spikes, again.result.skipped) == (whole.result.spikes, whole.result.skipped)
    assert whole.result.skipped


def test_rewinding_goes_with_loss_scaling(tmp_path: Path) -> None:
    rewound = train(tmp_path, batches=SPIKY, health=REWIND, precision=Precision("fp16", "cpu"))
    assert rewound.result.spikes == [*OUTLIERS]


def test_a_loss_that_jumps_too_often_ends_the_run(tmp_path: Path) -> None:
    batches = PointBatches(STEPS, outliers=(30, 40, 50))
    with pytest.raises(TrainingError, match="step 50: the loss jumped 3 times; lower the learning rate"):
        train(tmp_path, batches=batches, health=HealthConfig(on_spike="rewind", rewind_steps=8, max_rewinds=2))


PATIENT = {"health": HealthConfig(patience=3), "evaluate_every": 2, "batches": PointBatches(STEPS)}


def heldout_loss(model: nn.Module) -> dict[str, float]:
    """How far the outputs' size, which training on noise lowers, is from one that it passes on its way."""
    (work,) = PointBatches(1).window(10_000)
    return {"heldout_loss": abs(float((model(work.batch.inputs) ** 2).sum()) - 0.3)}  # type: ignore[attr-defined]


@pytest.mark.parametrize("average", ["none", "ema"])
def test_early_stopping_brings_the_best_weights_back(average: str, tmp_path: Path) -> None:
    seen: list[tuple[float, torch.Tensor]] = []

    def evaluate(model: nn.Module) -> dict[str, float]:
        scores = heldout_loss(model)
        seen.append((scores["heldout_loss"], weights(model).clone()))
        return scores

    stopped = train(tmp_path, evaluate=evaluate, average=average, **PATIENT)
    losses = [loss for loss, _ in seen]
    best = losses.index(min(losses))
    assert best > 0 and stopped.result.stopped_early_at == 2 * len(seen) < STEPS
    assert len(seen) == best + 1 + 3
    assert stopped.result.best_step == 2 * (best + 1)
    assert torch.equal(stopped.weights, seen[best][1])


def test_a_score_that_may_only_rise_is_told_from_a_loss(tmp_path: Path) -> None:
    rising = iter(range(1, 99))
    health = HealthConfig(patience=3, watch="accuracy", maximize=True)
    whole = train(tmp_path, evaluate=lambda _: {"accuracy": float(next(rising))}, **{**PATIENT, "health": health})
    assert whole.result.stopped_early_at is None and whole.result.best_step == STEPS


@pytest.mark.parametrize("before_the_stop", [0, 3])
def test_a_run_killed_around_its_early_stop_ends_as_the_undisturbed_one(before_the_stop: int, tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", evaluate=heldout_loss, average="ema", **PATIENT)
    stop = whole.result.stopped_early_at
    assert stop is not None
    if before_the_stop:
        with pytest.raises(Killed):
            train(tmp_path / "cut", evaluate=heldout_loss, average="ema", loss=dies_at(stop - before_the_stop), every_s=0.0, **PATIENT)
    else:  # killed between the loop's last checkpoint and the end of the stage
        train(tmp_path / "cut", evaluate=heldout_loss, average="ema", **PATIENT)
    again = train(tmp_path / "cut", evaluate=heldout_loss, average="ema", **PATIENT)
    assert again.result.resumed_from == stop - before_the_stop
    assert (again.result.stopped_early_at, again.result.best_step) == (stop, whole.result.best_step)
    assert torch.equal(again.weights, whole.weights) and again.rows == whole.rows


def test_patience_with_a_score_that_nobody_measures_names_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="nothing called 'heldout_loss' is measured; it measures accuracy"):
        train(tmp_path, evaluate=lambda _: {"accuracy": 0.5}, **PATIENT)


def test_a_score_that_is_not_a_number_is_never_the_best(tmp_path: Path) -> None:
    scores = iter([float("nan"), 0.5, float("nan"), 0.4, *[0.6] * 99])
    stopped = train(tmp_path, evaluate=lambda _: {"heldout_loss": next(scores)}, **PATIENT)
    assert (stopped.result.best_step, stopped.result.stopped_early_at) == (8, 14)
