"""The compiled GELU against torch's, value and slope."""

from __future__ import annotations

import shutil

import pytest
import torch
from torch.nn import functional

from acclimate.backbones.fast.gelu import Gelu, _Gelu, replace_gelu


def test_value_and_slope_are_those_of_torch() -> None:
    x = torch.linspace(-9.0, 9.0, 20_001, requires_grad=True)
    exact = x.detach().double().requires_grad_()
    ours, theirs = _Gelu.apply(x), functional.gelu(exact)
    torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=2e-6)
    (slope,) = torch.autograd.grad(ours.sum(), x)
    (expected,) = torch.autograd.grad(theirs.sum(), exact)
    torch.testing.assert_close(slope.double(), expected, rtol=0, atol=2e-6)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the compiler, about what it does itself
@pytest.mark.skipif(not shutil.which("g++"), reason="compiling needs g++")
def test_compiled_it_gives_the_same_in_16_bits() -> None:
    x = torch.randn(64, 96, generator=torch.Generator().manual_seed(0)).bfloat16().requires_grad_()
    compiled = torch.compile(Gelu())(x)
    torch.testing.assert_close(compiled, functional.gelu(x), rtol=1e-2, atol=1e-3)  # bf16 keeps 8 bits
    (ours,), (theirs,) = (torch.autograd.grad(out.sum(), x) for out in (compiled, functional.gelu(x)))
    torch.testing.assert_close(ours, theirs, rtol=1e-2, atol=1e-2)


def test_every_exact_gelu_is_replaced_and_no_other() -> None:
    from transformers.activations import ACT2FN

    model = torch.nn.ModuleDict({"exact": ACT2FN["gelu"], "tanh": ACT2FN["gelu_pytorch_tanh"], "relu": torch.nn.ReLU()})
    replace_gelu(model)
    assert [type(module).__name__ for module in model.values()] == ["Gelu", type(ACT2FN["gelu_pytorch_tanh"]).__name__, "ReLU"]
