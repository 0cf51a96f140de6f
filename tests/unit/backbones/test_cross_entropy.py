"""The chunked cross-entropy against torch's own."""

from __future__ import annotations

import pytest
import torch

from acclimate.backbones.fast import cross_entropy
from acclimate.backbones.fast.cross_entropy import linear_cross_entropy


def parts(dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(37, 16, generator=generator).to(dtype).requires_grad_()
    weight = torch.randn(101, 16, generator=generator).to(dtype).requires_grad_()
    bias = torch.randn(101, generator=generator).to(dtype).requires_grad_()
    return hidden, weight, bias, torch.randint(101, (37,), generator=generator)


@pytest.mark.parametrize("chunk", [1, 101 * 5, 1 << 20])
def test_loss_and_gradients_equal_those_of_torch(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(cross_entropy, "_CHUNK_ELEMENTS", chunk)
    ours, theirs = parts(), parts()
    (linear_cross_entropy(*ours) * 0.5).backward()
    (torch.nn.functional.cross_entropy(torch.nn.functional.linear(*theirs[:3]), theirs[3], reduction="sum") * 0.5).backward()
    for own, other in zip(ours[:3], theirs[:3], strict=True):
        torch.testing.assert_close(own.grad, other.grad, rtol=1e-5, atol=1e-6)


def test_under_autocast_the_loss_stays_float32_and_near() -> None:
    hidden, weight, bias, labels = parts()
    exact = torch.nn.functional.cross_entropy(torch.nn.functional.linear(hidden, weight, bias), labels, reduction="sum")
    with torch.autocast("cpu", torch.bfloat16):
        loss = linear_cross_entropy(hidden, weight, bias, labels)
    loss.backward()
    assert loss.dtype == torch.float32 and hidden.grad is not None and hidden.grad.dtype == torch.float32
    torch.testing.assert_close(loss, exact, rtol=0.01, atol=0)  # bf16 keeps 8 bits


def test_without_gradients_only_the_loss_is_computed() -> None:
    with torch.no_grad():
        alone = linear_cross_entropy(*parts())
    assert not alone.requires_grad
    torch.testing.assert_close(alone, linear_cross_entropy(*parts()).detach())


def test_logits_far_apart_neither_overflow_nor_lose_the_loss() -> None:
    hidden, bias, labels = torch.ones(2, 1), torch.zeros(3), torch.tensor([0, 1])
    weight = torch.tensor([[1e4], [-1e4], [0.0]]).requires_grad_()
    loss = linear_cross_entropy(hidden, weight, bias, labels)
    loss.backward()
    assert loss.item() == 2e4  # the first is certain and right, the second certain and wrong
    assert weight.grad is not None and weight.grad.flatten().tolist() == [1.0, -1.0, 0.0]


def test_a_second_backward_gives_the_same() -> None:
    inputs = parts()
    loss = linear_cross_entropy(*inputs)
    loss.backward(retain_graph=True)
    assert inputs[0].grad is not None
    once = inputs[0].grad.clone()
    loss.backward()
    torch.testing.assert_close(inputs[0].grad, 2 * once)


def test_predictions_behind_the_last_label_add_nothing_and_get_no_gradient() -> None:
    hidden, weight, bias, labels = parts()
    few = len(labels) - 3
    loss = linear_cross_entropy(hidden, weight, bias, labels[:few])
    loss.backward()
    assert hidden.grad is not None and weight.grad is not None and bias.grad is not None
    assert not hidden.grad[few:].any()
    alone = [part.detach().clone().requires_grad_() for part in (hidden[:few], weight, bias)]
    expected = linear_cross_entropy(*alone, labels[:few])
    expected.backward()
    torch.testing.assert_close(loss, expected)
    for own, other in zip((hidden.grad[:few], weight.grad, bias.grad), alone, strict=True):
        torch.testing.assert_close(own, other.grad, rtol=1e-5, atol=1e-6)
