"""Rate, scale, gradient and repeatability of dropout."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from acclimate.backbones.fast.dropout import Dropout, replace_dropout


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_the_share_of_zeros_is_the_rate_and_the_mean_stays(rate: float) -> None:
    torch.manual_seed(0)
    output = Dropout(rate)(torch.ones(1000, 1001))
    # four standard errors of a share over a million draws are 0.002; of the mean, sqrt(rate / (1 - rate)) times that
    assert (output == 0).double().mean().item() == pytest.approx(rate, abs=0.002)
    assert output.double().mean().item() == pytest.approx(1.0, abs=0.004 * (rate / (1 - rate)) ** 0.5 + 1e-4)
    assert torch.unique(output).numel() == 2


def test_the_same_seed_drops_the_same_and_two_calls_differ() -> None:
    dropout, ones = Dropout(0.5), torch.ones(64, 64)
    torch.manual_seed(3)
    first, second = dropout(ones), dropout(ones)
    torch.manual_seed(3)
    assert torch.equal(first, dropout(ones)) and not torch.equal(first, second)


def test_the_gradient_is_that_of_what_was_kept() -> None:
    torch.manual_seed(1)
    inputs = torch.randn(33, 7, requires_grad=True)
    output = Dropout(0.3)(inputs)
    output.sum().backward()
    torch.testing.assert_close(inputs.grad * inputs, output)


def test_evaluation_and_rate_zero_change_nothing() -> None:
    ones = torch.ones(5, 5)
    assert Dropout(0.5).eval()(ones) is ones
    assert Dropout(0.0)(ones) is ones


def test_every_dropout_of_a_model_is_replaced() -> None:
    model = nn.Sequential(nn.Dropout(0.2), nn.ModuleDict({"a": nn.Dropout(0.1)}))
    replace_dropout(model)
    assert [module.p for module in model.modules() if isinstance(module, Dropout)] == [0.2, 0.1]
