"""The best of what retention offers stays in the model."""

from __future__ import annotations

import torch

from acclimate.choices import Chosen
from acclimate.retention.l2_sp import L2Sp
from acclimate.retention.weight_average import WeightAverage
from acclimate.training.retaining import keep_best

START, END = torch.tensor([0.0, 0.0]), torch.tensor([1.0, 2.0])


def test_the_best_share_stays_whichever_way_is_better() -> None:
    retention = [Chosen("weight_average", WeightAverage(shares=[0.25, 0.5, 1.0]))]
    for higher_is_better, kept, weights in ((True, "1", [1.0, 2.0]), (False, "0.25", [0.25, 0.5])):
        tensors = {"weight": END.clone(), "ids": torch.tensor([7])}
        start = {"weight": START, "ids": torch.tensor([7])}
        found = keep_best(
            tensors, start, retention, lambda tensors=tensors: float(tensors["weight"].sum()), higher_is_better=higher_is_better
        )  # type: ignore[misc]
        assert found == {"0.25": 0.75, "0.5": 1.5, "1": 3.0} and next(iter(found)) == kept
        assert tensors["weight"].tolist() == weights and tensors["ids"].tolist() == [7]


def test_of_equals_the_first_stays() -> None:
    tensors = {"weight": END.clone()}
    keep_best(tensors, {"weight": START}, [Chosen("weight_average", WeightAverage(shares=[0.5, 1.0]))], lambda: 1.0, higher_is_better=True)
    assert tensors["weight"].tolist() == [0.5, 1.0]


def test_without_an_offer_the_weights_stay_as_trained() -> None:
    tensors = {"weight": END.clone()}
    assert keep_best(tensors, {"weight": START}, [Chosen("l2_sp", L2Sp())], lambda: 1.0, higher_is_better=True) == {}
    assert torch.equal(tensors["weight"], END)
