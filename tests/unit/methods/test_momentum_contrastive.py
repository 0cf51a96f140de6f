"""The queue holds the vectors of the last texts in their order, and the slow copy follows."""

from __future__ import annotations

from pathlib import Path

import torch

from tests.contract.made import objective


def test_queue_and_slow_copy_follow_an_update(encoders: Path) -> None:
    made = objective("momentum_contrastive", encoders)
    (member,) = made.trained.members.values()
    (work,) = made.streams.window(0)
    before = [parameter.clone() for parameter in member.slow.parameters()]
    oldest = member.queue_KD[len(work.batch.left_BT) :].clone()
    member.train()
    member.before_step(0)
    member(work.batch, "momentum_contrastive")
    member.before_step(0)  # memory ran out: what forward left behind is forgotten
    for start in (0, 2):
        member(work.batch.part(start, start + 2), "momentum_contrastive")
    keys = torch.cat(member._pending)
    with torch.no_grad():
        for parameter in member.backbone.parameters():
            parameter.add_(1.0)
    member.after_update(0)
    assert torch.equal(member.queue_KD[: len(keys)], keys) and len(keys) == 4
    assert torch.equal(member.queue_KD[4:], oldest)
    for slow, old in zip(member.slow.parameters(), before, strict=True):
        torch.testing.assert_close(slow, old + 0.001, rtol=0, atol=1e-6)


def test_evaluation_leaves_the_queue_alone(encoders: Path) -> None:
    made = objective("momentum_contrastive", encoders)
    (member,) = made.trained.members.values()
    (work,) = made.streams.window(0)
    member.eval()
    member(work.batch, "momentum_contrastive")
    assert member._pending == []
