"""The penalty is the squared distance from the start, and its gradient that of the paper."""

from __future__ import annotations

from pathlib import Path

import torch

from acclimate.backbones.loading import load_backbone
from acclimate.retention.l2_sp import L2Sp


def test_penalty_and_gradient_are_those_of_the_formula(tiny_encoder_dir: Path) -> None:
    backbone = load_backbone(tiny_encoder_dir)
    penalty = L2Sp(strength=0.2).penalty(backbone)
    assert penalty().item() == 0.0 and not penalty.state_dict()
    starts = [parameter.detach().clone() for parameter in backbone.parameters()]
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.add_(torch.randn_like(parameter))
    penalty().backward()
    distance = sum((now - start).double().square().sum().item() for now, start in zip(backbone.parameters(), starts, strict=True))
    torch.testing.assert_close(penalty().item(), 0.1 * distance, rtol=1e-4, atol=0)
    for parameter, start in zip(backbone.parameters(), starts, strict=True):
        torch.testing.assert_close(parameter.grad, 0.2 * (parameter.detach() - start), rtol=1e-4, atol=1e-6)
