"""The divergence is symmetric, and nothing where two passes agree."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.nn import functional

from acclimate.terms.r_drop import RDrop, _divergence
from tests.contract.made import fine_tuning


def test_the_divergence_is_the_mean_of_both_ways() -> None:
    first, second = torch.randn(5, 3), torch.randn(5, 3)
    p, q = first.softmax(-1), second.softmax(-1)
    by_hand = ((p * (p / q).log()).sum(-1) + (q * (q / p).log()).sum(-1)) / 2
    torch.testing.assert_close(_divergence(first, second), by_hand, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(_divergence(first[:, :1], second[:, :1]), (first - second)[:, 0] ** 2)


def test_without_dropout_only_the_second_loss_is_left(encoders: Path) -> None:
    made = fine_tuning(encoders, term="r_drop", dropout=0.0)
    (work,) = made.streams.window(0)
    losses = made.trained.train()(work.batch, work.stream)
    torch.testing.assert_close(losses["r_drop"], losses["task"])


def test_with_dropout_it_adds_the_divergence(encoders: Path) -> None:
    made = fine_tuning(encoders, term="r_drop", dropout=0.3)
    (work,) = made.streams.window(0)
    outputs = [torch.randn(4, 3), torch.randn(4, 3)]
    second = functional.cross_entropy(outputs[1], work.batch.targets, reduction="none")
    found = RDrop(alpha=2.0).losses(lambda: (outputs[1], second), work.batch, outputs[0])["r_drop"]
    torch.testing.assert_close(found, second.sum() + 2.0 * _divergence(*outputs).sum())
