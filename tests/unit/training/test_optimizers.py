"""The optimizers against their papers' formulas, and what they leave alone."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

from acclimate.backbones.loading import load_backbone
from acclimate.errors import TrainingError
from acclimate.protocols import Group
from acclimate.training.optimizers import StableAdamW, adamw, make_optimizer, optimizer_groups
from acclimate.training.options import OptimizerName

NAMES: tuple[OptimizerName, ...] = get_args(OptimizerName)
RATE, DECAY, BETAS, EPSILON = 0.05, 0.1, (0.9, 0.98), 1e-6
SHAPES = ((6, 4), (4,), (3, 2, 5), (7, 1))


def parameters(dtype: torch.dtype = torch.float32) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(1)
    return [nn.Parameter(torch.randn(shape, generator=generator).to(dtype)) for shape in SHAPES]


def gradients(step: int) -> list[Tensor]:
    """They grow, so that the second moment lags behind and StableAdamW clips."""
    generator = torch.Generator().manual_seed(100 + step)
    return [torch.randn(shape, generator=generator) * (1.0 + step**2) for shape in SHAPES]


def optimizer_of(name: OptimizerName, members: list[nn.Parameter], *, rate: float = RATE) -> torch.optim.Optimizer:
    return make_optimizer(name, groups_of(members, rate), betas=BETAS, epsilon=EPSILON)


def groups_of(members: Sequence[nn.Parameter], rate: float = RATE) -> list[dict[str, Any]]:
    return [options for options, _ in optimizer_groups([Group(members, rate, DECAY)])]


def advance(optimizer: torch.optim.Optimizer, members: list[nn.Parameter], steps: range) -> None:
    for step in steps:
        for member, gradient in zip(members, gradients(step), strict=True):
            member.grad = gradient.to(member.dtype)
        optimizer.step()


def moments(step: int, m: Tensor, v: Tensor, g: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    m, v = BETAS[0] * m + (1 - BETAS[0]) * g, BETAS[1] * v + (1 - BETAS[1]) * g**2
    return m, v, m / (1 - BETAS[0] ** (step + 1)), v / (1 - BETAS[1] ** (step + 1))


def stable_adamw_reference(theta: Tensor, step: int, g: Tensor, m: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor, float]:
    """Wortsman et al. 2023, algorithm 2."""
    m, v, m_hat, v_hat = moments(step, m, v, g)
    rms = math.sqrt(torch.mean(g**2 / torch.clamp(v_hat, min=EPSILON**2)).item())
    eta = RATE / max(1.0, rms)
    decay = DECAY if theta.ndim >= 2 else 0.0
    return theta - eta * decay * theta - eta * m_hat / (v_hat.sqrt() + EPSILON), m, v, rms


def test_ten_steps_equal_the_formulas_of_the_paper() -> None:
    members = parameters()
    expected = [member.detach().double() for member in members]
    states = [(torch.zeros_like(theta), torch.zeros_like(theta)) for theta in expected]
    factors = []
    for step in range(10):
        for index, gradient in enumerate(gradients(step)):
            expected[index], *state, factor = stable_adamw_reference(expected[index], step, gradient.double(), *states[index])
            states[index] = tuple(state)
            factors.append(factor)
    advance(optimizer_of("stable_adamw", members), members, range(10))
    for ours, theirs in zip(members, expected, strict=True):
        # float32 against float64, ten steps
        torch.testing.assert_close(ours.detach().double(), theirs, rtol=2e-6, atol=2e-6)
    assert max(factors) > 1.2, "the factor was never at work"


def test_stable_adamw_is_adamw_where_no_rms_exceeds_one() -> None:
    members, others = parameters(), parameters()
    stable, plain = optimizer_of("stable_adamw", members), optimizer_of("adamw", others)
    for step in range(10):
        for member, other, gradient in zip(members, others, gradients(0), strict=True):
            member.grad, other.grad = gradient / (1 + step), gradient / (1 + step)  # shrinks: g**2 never exceeds its mean
        stable.step()
        plain.step()
    for member, other in zip(members, others, strict=True):
        torch.testing.assert_close(member, other, rtol=1e-5, atol=1e-6)  # the same formula in another order


def test_stable_adamw_moves_less_than_adamw_after_a_spike() -> None:
    members, others = parameters(), parameters()
    advance(optimizer_of("stable_adamw", members), members, range(10))
    advance(optimizer_of("adamw", others), others, range(10))
    start = parameters()
    moved, moved_plain = (sum((a - b).norm() for a, b in zip(group, start, strict=True)) for group in (members, others))
    assert moved < 0.8 * moved_plain


@pytest.mark.parametrize("done", [0, 3])
def test_a_bad_step_leaves_parameters_and_state_to_the_bit(done: int) -> None:
    members, undisturbed = parameters(), parameters()
    optimizer, other = optimizer_of("stable_adamw", members), optimizer_of("stable_adamw", undisturbed)
    advance(optimizer, members, range(done))
    before = [tensor.clone() for tensor in all_tensors(optimizer, members)]
    optimizer.found_inf = torch.tensor(1.0)
    for value in (math.nan, math.inf, -math.inf):
        for member in members:
            member.grad = torch.full_like(member, value)
        optimizer.step()
    after = list(all_tensors(optimizer, members))
    assert after[: len(SHAPES)] and all(torch.equal(a, b) for a, b in zip(before[: len(SHAPES)], after, strict=False))
    if done:
        assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    else:
        assert not any(tensor.any() for tensor in after[len(SHAPES) :]), "the state of no step is zero"
    optimizer.found_inf = torch.tensor(0.0)
    advance(optimizer, members, range(done, 6))
    del optimizer.found_inf
    advance(optimizer, members, range(6, 9))
    advance(other, undisturbed, range(9))
    assert all(torch.equal(a, b) for a, b in zip(all_tensors(optimizer, members), all_tensors(other, undisturbed), strict=True))


def all_tensors(optimizer: torch.optim.Optimizer, members: list[nn.Parameter]) -> Iterator[Tensor]:
    yield from (member.detach() for member in members)
    for member in members:
        yield from optimizer.state[member].values()


@pytest.mark.parametrize("name", NAMES)
def test_a_gradient_scaler_skips_what_overflows_and_unscales_the_rest(name: OptimizerName) -> None:
    members, plain = parameters(), parameters()
    optimizer, reference = optimizer_of(name, members), optimizer_of(name, plain)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for step, spoiled in enumerate([False, True, False]):
        loss = sum((member * gradient).sum() for member, gradient in zip(members, gradients(step), strict=True))
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        if spoiled:
            members[1].grad[0] = math.inf
        scaler.step(optimizer)
        scaler.update()
        if not spoiled:
            advance(reference, plain, range(step, step + 1))
    assert scaler.get_scale() == 512.0
    # torch's AdamW divides by the scale, ours multiplies by its inverse; a power of two is exact both ways
    assert all(torch.equal(a, b) for a, b in zip(members, plain, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_a_resumed_optimizer_ends_in_the_same_bits(name: OptimizerName) -> None:
    whole = parameters()
    advance(optimizer_of(name, whole), whole, range(8))
    members = parameters()
    first = optimizer_of(name, members)
    advance(first, members, range(3))
    file = io.BytesIO()
    torch.save([first.state_dict(), [member.detach() for member in members]], file)
    file.seek(0)
    state, weights = torch.load(file, weights_only=True)
    resumed = [nn.Parameter(weight) for weight in weights]
    second = optimizer_of(name, resumed, rate=1.0)
    second.load_state_dict(state)
    assert {group["peak_lr"] for group in second.param_groups} == {RATE}
    advance(second, resumed, range(3, 8))
    assert all(torch.equal(a, b) for a, b in zip(resumed, whole, strict=True))


def test_the_loaded_state_keeps_its_type_and_place() -> None:
    members = parameters(torch.bfloat16)
    optimizer = optimizer_of("stable_adamw", members)
    advance(optimizer, members, range(3))
    other = optimizer_of("stable_adamw", parameters(torch.bfloat16))
    other.load_state_dict(optimizer.state_dict())
    for state in other.state.values():
        assert state["step"].dtype == torch.float32 and state["exp_avg"].dtype == torch.bfloat16


@pytest.mark.parametrize("found_inf", [None, torch.zeros((), device="meta"), torch.zeros(1, device="meta")], ids=["none", "0d", "1d"])
def test_a_step_never_waits_for_the_device(found_inf: Tensor | None) -> None:
    members = [nn.Parameter(member.detach().to("meta")) for member in parameters()]  # reading the value of a meta tensor raises
    optimizer = optimizer_of("stable_adamw", members)
    if found_inf is not None:
        optimizer.found_inf, optimizer.grad_scale = found_inf, torch.ones((), device="meta")
    for member in members:
        member.grad = torch.zeros_like(member)
    optimizer.step()


@pytest.mark.parametrize("found_inf", [None, torch.tensor(0.0)])
def test_all_tensors_at_once_as_on_a_gpu_give_the_bits_of_one_by_one(found_inf: Tensor | None, monkeypatch: pytest.MonkeyPatch) -> None:
    members, others = parameters(), parameters()
    advance(optimizer_of("stable_adamw", members), members, range(5))
    monkeypatch.setattr("acclimate.training.optimizers._chunks", lambda chunk: [chunk])
    at_once = optimizer_of("stable_adamw", others)
    if found_inf is not None:
        at_once.found_inf = found_inf
    advance(at_once, others, range(5))
    assert all(torch.equal(a, b) for a, b in zip(members, others, strict=True))


def test_a_parameter_without_a_gradient_is_left_alone() -> None:
    members, others = parameters(), parameters()[:2]
    optimizer = optimizer_of("stable_adamw", members)
    for step in range(4):
        for member, gradient in zip(members[:2], gradients(step), strict=False):
            member.grad = gradient
        optimizer.step()
    reference = optimizer_of("stable_adamw", others)
    for step in range(4):
        for other, gradient in zip(others, gradients(step), strict=False):
            other.grad = gradient
        reference.step()
    assert all(torch.equal(a, b) for a, b in zip(members, [*others, *parameters()[2:]], strict=True))
    assert members[3] not in optimizer.state


@pytest.mark.parametrize(("name", "kind"), [("adamw", torch.optim.AdamW), ("stable_adamw", StableAdamW)])
def test_every_name_gives_its_optimizer_with_the_peak_rates(name: OptimizerName, kind: type[torch.optim.Optimizer]) -> None:
    matrix, bias = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2))
    groups = [{"params": [matrix], "lr": 0.1, "weight_decay": 0.2}, {"params": [bias], "lr": 0.3, "weight_decay": 0.0}]
    optimizer = make_optimizer(name, groups, betas=(0.8, 0.95), epsilon=1e-7)
    assert type(optimizer) is kind
    wanted = [(0.1, 0.1, 0.2), (0.3, 0.3, 0.0)]
    assert [(group["lr"], group["peak_lr"], group["weight_decay"]) for group in optimizer.param_groups] == wanted
    assert all(group["betas"] == (0.8, 0.95) and group["eps"] == 1e-7 for group in optimizer.param_groups)


def test_adamw_steps_as_the_fused_adamw_of_torch_does() -> None:
    members, others = parameters(), parameters()
    advance(optimizer_of("adamw", members), members, range(3))
    advance(adamw(groups_of(others), betas=BETAS, epsilon=EPSILON), others, range(3))
    assert all(torch.equal(a, b) for a, b in zip(members, others, strict=True))


def test_no_norm_and_no_bias_of_an_encoder_decays_and_every_matrix_does(tiny_encoder_dir: Path) -> None:
    encoder = load_backbone(tiny_encoder_dir).model
    groups = groups_of(list(encoder.parameters()))
    decay = {id(member): group["weight_decay"] for group in groups for member in group["params"]}
    norms = {id(member) for module in encoder.modules() if isinstance(module, nn.LayerNorm) for member in module.parameters()}
    assert len(norms) == 2 * 5
    for name, member in encoder.named_parameters():
        exempt = id(member) in norms or name.endswith("bias")
        assert decay.pop(id(member)) == (0.0 if exempt else DECAY), name
    assert not decay
    assert any("word_embeddings" in name for name, _ in encoder.named_parameters())


def test_each_group_keeps_its_rates_and_its_gate() -> None:
    def gate(step: int, steps: int) -> float:
        return 1.0

    matrix, bias, head = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2, 2))
    found = optimizer_groups([Group([matrix, bias], 0.1, 0.2, gate), Group([head], 0.3)])
    assert [(options["lr"], options["weight_decay"], kept) for options, kept in found] == [
        (0.1, 0.2, gate),
        (0.1, 0.0, gate),
        (0.3, 0.0, None),
    ]
    assert [[id(each) for each in options["params"]] for options, _ in found] == [[id(matrix)], [id(bias)], [id(head)]]


@pytest.mark.parametrize(
    ("counts", "said"), [((), "no parameter is trained"), ((0,), "no parameter is trained"), ((1, 1), "a parameter is in two groups")]
)
def test_a_parameter_belongs_to_one_group_and_one_at_least_is_trained(counts: tuple[int, ...], said: str) -> None:
    shared = nn.Parameter(torch.ones(2))
    with pytest.raises(TrainingError, match=said):
        optimizer_groups([Group([shared] * count, 0.1) for count in counts])
