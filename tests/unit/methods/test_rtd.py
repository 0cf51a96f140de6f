"""The generator fills masks, the backbone judges every token."""

from __future__ import annotations

from pathlib import Path

import torch

from acclimate.training.streams import Work
from tests.contract.made import objective


def test_embeddings_are_shared_and_the_generator_is_left_behind(encoders: Path) -> None:
    made = objective("rtd", encoders)
    (member,) = made.trained.members.values()
    assert member.generator.embeddings is member.backbone.embeddings
    assert member.kept() is made.trained.kept()


def test_what_was_sampled_right_counts_as_original(encoders: Path) -> None:
    made = objective("rtd", encoders)
    (work,) = made.streams.window(0)
    assert isinstance(work, Work)
    batch = work.batch
    assert torch.equal(batch.masked.labels_M, batch.ids_BT.flatten()[batch.masked.masked])
    assert batch.counts() == {"rtd_generator": len(batch.masked.labels_M), "rtd": int(batch.judged_BT.sum())}
    # a generator that is sure of the original token replaces nothing: the loss is that of "original" everywhere
    (member,) = made.trained.members.values()
    member.eval()
    with torch.no_grad():
        member.head.weight.zero_()
        member.head.bias.fill_(-20.0)
        member.lm_head.logits = lambda _, __: torch.nn.functional.one_hot(batch.masked.labels_M, 30522).float() * 100  # type: ignore[method-assign]
        losses = member(batch, "rtd")
    assert float(losses["rtd"]) < 1e-4
