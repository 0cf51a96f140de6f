"""The passes of a batch are the paper's: climb the loss, stay in the ball, train on the mean."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from acclimate.protocols import Losses
from acclimate.terms.free_lb import FreeLb
from tests.contract.made import fine_tuning


def test_each_pass_climbs_the_loss_and_gradients_are_the_mean_of_all(encoders: Path) -> None:
    made = fine_tuning(encoders, term="free_lb")
    made.trained.eval()
    (work,) = made.streams.window(0)
    model, batch, term = made.trained.kept(), work.batch, FreeLb(passes_per_batch=3, step_size=0.5, max_norm=0.6)
    found = []
    for losses in term.passes(model, batch, lambda: made.trained(batch, work.stream)):
        losses["task"].backward()
        found.append(3 * losses["task"].item())
    assert found[0] < found[1] < found[2]
    gradients = {name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None}
    model.zero_grad()
    deltas = by_hand(made, work, step_size=0.5, max_norm=0.6)
    assert deltas[-1].norm(dim=(1, 2)).max() <= 0.6 + 1e-6
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients.get(name), rtol=1e-4, atol=1e-6)
    assert model.backbone.edits == []


def by_hand(made: object, work: object, *, step_size: float, max_norm: float) -> list[torch.Tensor]:
    """Three passes over transformers' own model, gradients accumulated."""
    model, batch = made.trained.kept(), work.batch  # type: ignore[attr-defined]
    embeddings, deltas = model.backbone.model.get_input_embeddings(), []
    delta = torch.zeros(*batch.ids_BT.shape, embeddings.weight.shape[1])
    for _ in range(3):
        delta = delta.detach().requires_grad_()
        deltas.append(delta)
        inputs = {"attention_mask": batch.mask_BT, "token_type_ids": batch.type_ids_BT}
        hidden = model.backbone.model(inputs_embeds=embeddings(batch.ids_BT) + delta, **inputs).last_hidden_state
        mask = batch.mask_BT.unsqueeze(-1).float()
        logits = model.head((hidden * mask).sum(1) / mask.sum(1))
        (torch.nn.functional.cross_entropy(logits, batch.targets, reduction="sum") / 3).backward()
        moved = delta.detach() + step_size * delta.grad / delta.grad.norm(dim=(1, 2), keepdim=True)
        delta = moved * (max_norm / moved.norm(dim=(1, 2), keepdim=True)).clamp(max=1.0)
    return deltas


def test_an_error_in_a_pass_leaves_no_edit_behind(encoders: Path) -> None:
    made = fine_tuning(encoders, term="free_lb")

    def run() -> Losses:
        raise MemoryError

    with pytest.raises(MemoryError):
        next(FreeLb().passes(made.trained.kept(), made.streams.window(0)[0].batch, run))
    assert made.trained.kept().backbone.edits == []
