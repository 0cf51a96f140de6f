"""Several objectives on one backbone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from acclimate.protocols import Group, Losses, Rates, Trained
from acclimate.training.mixture import Mixture
from tests.unit.training.toy_run import run
from tests.unit.training.two_streams import Pairs, TwoStreams


class Member(Trained[Pairs]):
    """A head of its own on what the members share."""

    def __init__(self, backbone: nn.Module, name: str, *, warmup: bool = False) -> None:
        super().__init__()
        self.backbone, self.head = backbone, nn.Linear(6, 1)
        self.weights, self.needs_warmup = {name: 3.0}, warmup
        self.told: list[tuple[str, int]] = []
        self.name = name

    def forward(self, batch: Pairs, stream: str) -> Losses:
        assert stream == self.name
        found = {self.name: ((self.head(torch.tanh(self.backbone(batch.inputs))) - batch.targets) ** 2).sum()}
        return {**found, "far_size": torch.zeros(())} if stream == "far" else found

    def passes(self, batch: Pairs, stream: str, call: Callable[[Pairs, str], Losses]) -> Iterator[Losses | Tensor]:
        self.told.append(("passes", batch.num_rows))
        yield call(batch, stream)

    def before_step(self, step: int) -> None:
        self.told.append(("before_step", step))

    def after_update(self, step: int) -> None:
        self.told.append(("after_update", step))

    def card(self) -> dict[str, Any]:
        return {"is": self.name}

    def flops_per_token(self, batches: Any) -> float:
        return 7.0


class Held(Member):
    def penalty(self) -> Losses:
        return {f"{self.name}_held": (self.head.weight**2).sum()}


class Distance(nn.Module):
    def __init__(self, backbone: nn.Linear) -> None:
        super().__init__()
        self.backbone, self.start = backbone, nn.Parameter(backbone.weight.detach().clone(), requires_grad=False)

    def forward(self) -> Tensor:
        return ((self.backbone.weight - self.start) ** 2).sum()


def mixture(*, warmup: bool = False) -> Mixture:
    torch.manual_seed(2)
    backbone = nn.Linear(4, 6)
    members: dict[str, Trained[Any]] = {"near": Member(backbone, "near"), "far": Held(backbone, "far", warmup=warmup)}
    return Mixture(backbone, members, {"near": 1.0, "far": 0.5}, {"distance": Distance(backbone)})


def test_losses_are_weighted_by_their_own_and_their_members_weight() -> None:
    assert mixture().weights == {"near": 3.0, "far": 1.5}


def test_what_members_share_is_trained_once_and_belongs_to_the_first() -> None:
    trained = mixture()
    groups = trained.groups(Rates(0.1, 0.2, 0.3))
    shared, near, far = trained.backbone, *(trained.members[name].head for name in ("near", "far"))
    assert [[id(each) for each in group.parameters] for group in groups] == [
        [id(each) for each in (*shared.parameters(), *near.parameters())],
        [id(each) for each in far.parameters()],
    ]
    assert all(isinstance(group, Group) and group.learning_rate == 0.1 and group.weight_decay == 0.3 for group in groups)
    assert {id(each) for each in trained.own_parameters()} == {id(each) for head in (near, far) for each in head.parameters()}


def test_a_mixture_needs_what_a_member_needs_and_keeps_the_backbone() -> None:
    trained = mixture()
    assert not trained.needs_warmup and mixture(warmup=True).needs_warmup
    assert trained.kept() is trained.backbone
    assert trained.card() == {"near": {"is": "near"}, "far": {"is": "far"}}
    assert trained.flops_per_token([]) is None
    assert Mixture(trained.backbone, {"near": trained.members["near"]}, {"near": 1.0}, {}).flops_per_token([]) == 7.0


def test_each_stream_goes_to_its_member_and_every_member_is_told_of_each_step(tmp_path: Path) -> None:
    trained = mixture()
    _, rows = run(tmp_path, trained, TwoStreams(2), micro_batch_size=6)
    for name, rows_at_once in (("near", [6, 6]), ("far", [6, 6])):
        one = [("passes", rows) for rows in rows_at_once]
        told = trained.members[name].told
        assert told == [*[("before_step", 0), *one, ("after_update", 0)], *[("before_step", 1), *one, ("after_update", 1)]]
    assert rows[1].keys() >= {"train/near", "train/far", "train/distance", "train/far_held"}
    assert rows[0]["train/distance"] == 0.0 < rows[1]["train/distance"]
    assert rows[0]["train/loss"] == pytest.approx(3.0 * rows[0]["train/near"] + 1.5 * rows[0]["train/far"], rel=1e-5)
