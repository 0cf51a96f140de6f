"""What a method may do in a step: several streams and losses, gates, penalties, passes of its own, state beside the weights."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from acclimate.protocols import Losses
from acclimate.training.optimizers import adamw
from acclimate.training.precision import Precision
from acclimate.training.streams import Work
from tests.unit.training.toy_run import FP32, Killed, run
from tests.unit.training.two_streams import FAR_ROWS, NEAR_ROWS, PULL, Method, PassByPass, TwoStreams, half_frozen

FP16 = Precision("fp16", "cpu")


class Recorder(torch.optim.SGD):
    """Keeps the gradients that it was given, by parameter."""

    def __init__(self, groups: list[dict[str, Any]]) -> None:
        super().__init__(groups, fused=True)
        self.gradients: list[dict[int, Tensor]] = []
        for group in self.param_groups:
            group["peak_lr"] = group["lr"]

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        self.gradients.append(
            {id(each): each.grad.clone() for group in self.param_groups for each in group["params"] if each.grad is not None}
        )
        super().step(closure)


@dataclass(frozen=True)
class SameStep(TwoStreams):
    """The first step's batches again and again."""

    def window(self, step: int) -> list[Work]:
        return super().window(0)


def gradients_of(directory: Path, method: Method, batches: TwoStreams | None = None, **settings: Any) -> dict[str, Tensor]:
    """Those of the first step, by the parameter's name; nothing is learned."""
    made: list[Recorder] = []

    def make(groups: list[dict[str, Any]]) -> Recorder:
        made.append(Recorder([{**group, "lr": 0.0} for group in groups]))
        return made[0]

    method.after_update = lambda _: None  # type: ignore[method-assign]
    steps = 20  # with fp16 the first few overflow, until their factor has been found
    run(directory, method, batches or SameStep(steps), optimizer=make, clip_norm=1e9, **settings)
    gradients = made[0].gradients[-1]
    return {name: gradients[id(each)] for name, each in method.named_parameters() if id(each) in gradients}


def by_hand(method: Method, loss: Callable[[Method], Tensor]) -> dict[str, Tensor]:
    """Gradients of a loss, by autograd alone."""
    method = copy.deepcopy(method).train()
    loss(method).backward()
    return {name: each.grad for name, each in method.named_parameters() if each.grad is not None}


def losses_of(method: Method, batches: TwoStreams) -> Losses:
    """Each loss summed over the first step."""
    found: Losses = {}
    for work in batches.window(0):
        for name, loss in method(work.batch, work.stream).items():  # type: ignore[arg-type]
            found[name] = found.get(name, torch.zeros(())) + loss
    return found


def wanted_loss(method: Method) -> Tensor:
    batches = TwoStreams(1)
    sums, terms = losses_of(method, batches), sum(work.batch.counts().get("far_size", 0) for work in batches.window(0))
    pull = ((method.body[0].weight - method.start) ** 2).sum()
    return sums["near"] / NEAR_ROWS + 0.5 * sums["far"] / (2 * FAR_ROWS) + 0.25 * sums["far_size"] / terms + PULL * pull


@pytest.mark.parametrize("micro_batch_size", [None, 1, 5])
@pytest.mark.parametrize("precision", [FP32, FP16], ids=lambda precision: precision.name)
def test_each_loss_is_divided_by_its_own_count_and_the_penalty_comes_once(
    micro_batch_size: int | None, precision: Precision, tmp_path: Path
) -> None:
    method = Method()
    expected = by_hand(method, wanted_loss)
    found = gradients_of(tmp_path, method, micro_batch_size=micro_batch_size, precision=precision)
    assert found.keys() == expected.keys()
    # float32 sums in another order; fp16 has 11 bits
    tolerance = {"rtol": 1e-5, "atol": 1e-6} if precision is FP32 else {"rtol": 2e-2, "atol": 5e-3}
    torch.testing.assert_close(found, expected, **tolerance)
    assert method.seen.events.count(("penalty",)) == 20


def test_the_penalty_stays_the_same_however_a_step_is_taken(tmp_path: Path) -> None:
    def pull_alone(name: str, batches: TwoStreams, **settings: Any) -> Tensor:
        without = Method()
        without.weights = {**without.weights, "pull": 0.0}
        found, bare = (gradients_of(tmp_path / f"{name}-{n}", each, batches, **settings) for n, each in enumerate((Method(), without)))
        return found["body.0.weight"] - bare["body.0.weight"]

    method = Method()
    expected = 2 * PULL * (method.body[0].weight - method.start).detach()
    for number, batches in enumerate((SameStep(1), SameStep(1, far_batches=7), SameStep(1, ("near",)))):
        for micro_batch_size in (None, 4):
            found = pull_alone(f"{number}-{micro_batch_size}", batches, micro_batch_size=micro_batch_size)
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_the_loss_and_each_of_its_parts_are_logged(tmp_path: Path) -> None:
    method, batches = Method(), TwoStreams(1)
    terms = sum(work.batch.counts().get("far_size", 0) for work in batches.window(0))
    sums = {name: loss.detach() for name, loss in losses_of(method, batches).items()}
    means = {"near": sums["near"] / NEAR_ROWS, "far": sums["far"] / 12, "far_size": sums["far_size"] / terms}
    pull = float(((method.body[0].weight.detach() - method.start) ** 2).sum())
    _, (row, *_) = run(tmp_path, method, batches, micro_batch_size=5)
    assert {name: row[f"train/{name}"] for name in means} == pytest.approx({name: float(mean) for name, mean in means.items()}, rel=1e-5)
    assert row["train/pull"] == pytest.approx(pull, rel=1e-5)
    weighted = sum(method.weights[name] * float(mean) for name, mean in means.items())
    assert row["train/loss"] == pytest.approx(weighted, rel=1e-5)


@pytest.mark.parametrize("micro_batch_size", [None, 5])
@pytest.mark.parametrize("precision", [FP32, FP16], ids=lambda precision: precision.name)
def test_a_ready_number_goes_backward_as_it_is(micro_batch_size: int | None, precision: Precision, tmp_path: Path) -> None:
    method = PassByPass()
    expected = by_hand(method, lambda copied: wanted_loss(copied) + 24 * (copied.near.weight**2).sum())
    found = gradients_of(tmp_path, method, micro_batch_size=micro_batch_size, precision=precision)
    tolerance = {"rtol": 1e-5, "atol": 1e-5} if precision is FP32 else {"rtol": 2e-2, "atol": 5e-3}
    torch.testing.assert_close(found, expected, **tolerance)


def test_a_closed_gate_leaves_no_gradient_no_part_in_the_norm_no_state_and_the_same_bits(tmp_path: Path) -> None:
    made: list[torch.optim.AdamW] = []
    told: list[tuple[bool, bool, Tensor, int]] = []

    def make(groups: list[dict[str, Any]]) -> torch.optim.AdamW:
        made.append(adamw(groups, betas=(0.9, 0.99), epsilon=1e-8))
        return made[0]

    class Told(Method):
        def after_update(self, step: int) -> None:
            super().after_update(step)
            weight = self.body[0].weight
            steps = int(made[0].state[weight]["step"]) if weight in made[0].state else 0
            told.append((weight.requires_grad, weight.grad is None, weight.detach().clone(), steps))

    method = Told(gate=half_frozen)
    start = method.body[0].weight.detach().clone()
    norms = []

    def norm_of_the_rest(*_: Any) -> None:
        norms.append(float(torch.stack([each.grad.norm() for each in (*method.near.parameters(), *method.far.parameters())]).norm()))  # type: ignore[union-attr]

    make_optimizer = make

    def hooked(groups: list[dict[str, Any]]) -> torch.optim.AdamW:
        optimizer = make_optimizer(groups)
        optimizer.register_step_pre_hook(norm_of_the_rest)
        return optimizer

    _, rows = run(tmp_path, method, TwoStreams(9), optimizer=hooked, schedule="constant", warmup_share=0.0, clip_norm=1e9)
    assert [(is_open, bare) for is_open, bare, _, _ in told] == [(False, True)] * 3 + [(True, False)] * 3 + [(False, True)] * 3
    assert [steps for *_, steps in told] == [0, 0, 0, 1, 2, 3, 3, 3, 3]
    before = [start, *(weight for _, _, weight, _ in told)]
    assert [torch.equal(a, b) for a, (*_, b, _) in zip(before, told, strict=False)] == [True] * 3 + [False] * 3 + [True] * 3
    for step, (row, rest) in enumerate(zip(rows, norms, strict=True)):
        assert (row["grad_norm"] == pytest.approx(rest, rel=1e-5)) == (not 3 <= step < 6)
    assert made[0].param_groups[0]["lr"] == 0.0 and made[0].param_groups[-1]["lr"] == 0.01


def test_a_gate_scales_the_rate(tmp_path: Path) -> None:
    seen: list[list[float]] = []

    def make(groups: list[dict[str, Any]]) -> torch.optim.AdamW:
        optimizer = adamw(groups, betas=(0.9, 0.99), epsilon=1e-8)
        optimizer.register_step_pre_hook(lambda each, *_: seen.append([group["lr"] for group in each.param_groups]))
        return optimizer

    run(tmp_path, Method(gate=half_frozen), TwoStreams(8), optimizer=make, warmup_share=0.0, schedule="linear")
    heads = [rates[-1] for rates in seen]
    assert [rates[0] for rates in seen] == pytest.approx([rate * half_frozen(step, 8) for step, rate in enumerate(heads)])


def test_hooks_come_in_their_order(tmp_path: Path) -> None:
    method = Method()
    run(tmp_path, method, TwoStreams(2), micro_batch_size=5)
    one = [*[("near", rows) for rows in (5, 5, 2)], *[("far", rows) for rows in (5, 1, 5, 1)], ("penalty",)]
    assert method.seen.events == [("before_step", 0), *one, ("after_update", 0), ("before_step", 1), *one, ("after_update", 1)]


def test_a_step_tried_again_forgets_what_forward_left_behind(tmp_path: Path) -> None:
    def scarce(rows: int) -> None:
        if rows > 6 and len(tight.seen.events) > 20:  # some steps later, and after a part of it has been computed
            raise torch.OutOfMemoryError("CUDA out of memory.")

    class FarFirst(TwoStreams):
        def window(self, step: int) -> list[Any]:
            return super().window(step)[::-1]

    plenty, tight = Method(dropout=0.3), Method(dropout=0.3, before_forward=scarce)
    run(tmp_path / "plenty", plenty, FarFirst(4))
    run(tmp_path / "tight", tight, FarFirst(4))
    again = tight.seen.events.index(("before_step", 3))
    assert tight.seen.events[again:] == [
        *[("before_step", 3), ("far", 6), ("far", 6), ("near", 12)],
        *[("before_step", 3), ("far", 6), ("far", 6), ("near", 6), ("near", 6), ("penalty",), ("after_update", 3)],
    ]
    halved = Method(dropout=0.3)
    run(tmp_path / "halved", halved, FarFirst(4), micro_batch_size=6)
    assert len(tight.queue) == 24 and not torch.equal(tight.queue[:12], tight.queue[12:])
    # the steps before were taken whole, so their dropout is another one: steps 2's answers are those of the run with plenty
    assert torch.equal(tight.queue[:12], plenty.queue[:12])


def test_running_out_of_memory_ends_in_the_bits_of_the_smaller_micro_batch(tmp_path: Path) -> None:
    def scarce(rows: int) -> None:
        if rows > 6:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    tight, halved = Method(dropout=0.3, before_forward=scarce), Method(dropout=0.3)
    run(tmp_path / "tight", tight, TwoStreams(4))
    run(tmp_path / "halved", halved, TwoStreams(4), micro_batch_size=6)
    assert_same_bits(tight, halved)


def assert_same_bits(one: nn.Module, other: nn.Module) -> None:
    ours, theirs = one.state_dict(), other.state_dict()
    assert [name for name, tensor in ours.items() if not torch.equal(tensor, theirs[name])] == []


def test_a_spike_that_is_taken_back_takes_the_queue_back_too(tmp_path: Path) -> None:
    from acclimate.training.health import HealthConfig

    class Jumps(TwoStreams):
        def window(self, step: int) -> list[Any]:
            window = super().window(step)
            if step == 30:
                window[0].batch.targets.mul_(1000.0)  # type: ignore[attr-defined]
            return window

    method = Method()
    result, _ = run(tmp_path, method, Jumps(31), health=HealthConfig(on_spike="rewind", rewind_steps=8))
    assert result.skipped == [*range(24, 31)]
    plain = Method()
    run(tmp_path / "plain", plain, TwoStreams(24), schedule="linear", warmup_share=3 / 24)
    stopped = [event for event in method.seen.events if event[0] == "after_update"]
    assert stopped[-1] == ("after_update", 29)
    answers = [method.seen.outputs["near", step][0] for step in (22, 23)]
    assert torch.equal(method.queue, torch.cat(answers))


def outputs_without_learning(directory: Path, batches: TwoStreams, **settings: Any) -> dict[tuple[str, int], list[Tensor]]:
    method = Method(dropout=0.5)
    method.after_update = lambda _: None  # type: ignore[method-assign]
    run(directory, method, batches, optimizer=lambda groups: Recorder([{**group, "lr": 0.0} for group in groups]), **settings)
    return method.seen.outputs


def test_a_streams_dropout_does_not_depend_on_other_streams(tmp_path: Path) -> None:
    both = outputs_without_learning(tmp_path / "both", TwoStreams(3))
    more = outputs_without_learning(tmp_path / "more", TwoStreams(3, ("far", "near"), far_batches=5))
    alone = outputs_without_learning(tmp_path / "alone", TwoStreams(3, ("near",)))
    for step in range(3):
        for other in (more, alone):
            assert torch.equal(both["near", step][0], other["near", step][0])
    everything = torch.cat([output for step in range(3) for output in both["near", step]])
    assert len(everything.unique()) == len(everything)


def test_dropout_is_another_one_in_each_batch_and_micro_batch(tmp_path: Path) -> None:
    class Ones(TwoStreams):
        def window(self, step: int) -> list[Any]:
            window = super().window(step)
            for work in window:
                work.batch.inputs.fill_(1.0)  # type: ignore[attr-defined]
            return window

    found = outputs_without_learning(tmp_path, Ones(3), micro_batch_size=6)
    parts = [tuple(output.flatten().tolist()) for outputs in found.values() for output in outputs]
    assert len(parts) == 3 * (2 + 2) and len(set(parts)) == len(parts)


@pytest.mark.parametrize("calls", [(4,), (10, 8, 1)], ids=str)
@pytest.mark.parametrize("average", ["none", "ema"])
def test_a_killed_run_ends_in_the_same_bits(calls: tuple[int, ...], average: str, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"average": average, "micro_batch_size": 6, "log_every": 2}
    batches = TwoStreams(8)

    def dying(number: int) -> Callable[[int], None]:
        left = iter(range(number))

        def before_forward(rows: int) -> None:
            if next(left, None) is None:
                raise Killed

        return before_forward

    whole = Method(dropout=0.3, gate=half_frozen)
    _, rows = run(tmp_path / "whole", whole, batches, **settings)
    for number in calls:
        with pytest.raises(Killed):
            run(tmp_path / "cut", Method(dropout=0.3, gate=half_frozen, before_forward=dying(number)), batches, every_s=0.0, **settings)
    again = Method(dropout=0.3, gate=half_frozen)
    result, rows_again = run(tmp_path / "cut", again, batches, every_s=0.0, **settings)
    assert result.resumed_from == sum(number // 4 for number in calls) > 0
    assert_same_bits(whole, again)
    assert rows == rows_again


def test_rows_that_need_each_other_stay_together_beside_a_stream_that_is_cut(tmp_path: Path) -> None:
    method = Method()
    run(tmp_path, method, TwoStreams(1, far_divisible=False), micro_batch_size=4)
    assert [event for event in method.seen.events if event[0] in ("near", "far")] == [("near", 4)] * 3 + [("far", 6)] * 2
