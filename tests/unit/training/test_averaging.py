"""Weight averages: what they are the mean of, what they leave alone, resuming."""

from __future__ import annotations

import io
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from acclimate.errors import TrainingError
from acclimate.training.averaging import WeightAverage

STEPS = 40


def network() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    model[0].requires_grad_(False)
    return model


def averaging(model: nn.Module, **settings: Any) -> WeightAverage:
    """Of what is trained."""
    return WeightAverage(model, [each for each in model.parameters() if each.requires_grad], **settings)


def weights_after(step: int) -> Tensor:
    return torch.randn(2, 4, generator=torch.Generator().manual_seed(step))


def run(average: WeightAverage, model: nn.Sequential, steps: range) -> None:
    for step in steps:
        model[2].weight.data.copy_(weights_after(step))
        average.update(model, step)


def averaged(model: nn.Sequential, average: WeightAverage) -> Tensor:
    with average.applied_to(model):
        return model[2].weight.detach().clone()


def test_the_tail_is_the_mean_of_the_last_share_of_the_steps() -> None:
    model = network()
    average = averaging(model, kind="tail", steps=STEPS, tail_share=0.25)
    run(average, model, range(STEPS))
    expected = torch.stack([weights_after(step) for step in range(30, 40)]).double().mean(0)
    # a running mean of ten float32 values
    torch.testing.assert_close(averaged(model, average).double(), expected, rtol=1e-6, atol=1e-6)


def test_a_share_of_less_than_a_step_keeps_the_last_weights() -> None:
    model = network()
    average = averaging(model, kind="tail", steps=STEPS, tail_share=0.001)
    run(average, model, range(STEPS))
    assert torch.equal(averaged(model, average), weights_after(STEPS - 1))


def test_the_decay_of_the_exponential_average_warms_up() -> None:
    model = network()
    expected = model[2].weight.detach().double()
    average = averaging(model, kind="ema", steps=STEPS, ema_decay=0.7)
    run(average, model, range(STEPS))
    decays = [min(0.7, (1 + n) / (10 + n)) for n in range(STEPS)]
    assert decays[0] == 0.1 and decays[-1] == 0.7
    for step, decay in enumerate(decays):
        expected = decay * expected + (1 - decay) * weights_after(step).double()
    torch.testing.assert_close(averaged(model, average).double(), expected, rtol=1e-5, atol=1e-6)  # forty float32 updates


def test_an_average_whose_tail_has_not_begun_leaves_the_weights() -> None:
    model = network()
    average = averaging(model, kind="tail", steps=STEPS, tail_share=0.25)
    run(average, model, range(30))
    assert torch.equal(averaged(model, average), weights_after(29))


def test_weights_come_back_to_the_bit_also_after_an_error() -> None:
    model = network().to(torch.bfloat16)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    average = averaging(model, kind="ema", steps=STEPS)
    model[2].weight.data.mul_(3)
    average.update(model, 0)
    model.load_state_dict(before)

    def evaluate() -> None:
        with average.applied_to(model):
            assert not torch.equal(model[2].weight, before["2.weight"])
            raise KeyError

    with pytest.raises(KeyError):
        evaluate()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_frozen_parameters_and_buffers_are_not_touched() -> None:
    model = network()
    average = averaging(model, kind="ema", steps=STEPS)
    assert set(average.state_dict()["average"]) == {"1.weight", "1.bias", "2.weight", "2.bias"}
    run(average, model, range(3))
    model[0].weight.data.fill_(7.0)
    model[1].running_mean.fill_(5.0)
    average.copy_to(model)
    assert model[0].weight.eq(7.0).all() and model[1].running_mean.eq(5.0).all()


@pytest.mark.parametrize("kind", ["ema", "tail"])
@pytest.mark.parametrize("stop", [5, 35])
def test_a_resumed_average_ends_in_the_same_bits(kind: Literal["ema", "tail"], stop: int) -> None:
    model = network()
    whole = averaging(model, kind=kind, steps=STEPS, tail_share=0.5)
    run(whole, model, range(STEPS))
    first = averaging(network(), kind=kind, steps=STEPS, tail_share=0.5)
    run(first, network(), range(stop))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    other = network()
    other[2].weight.data.zero_()
    second = averaging(other, kind=kind, steps=STEPS, tail_share=0.5)
    second.load_state_dict(torch.load(file, weights_only=True))
    run(second, other, range(stop, STEPS))
    assert torch.equal(averaged(model, whole), averaged(other, second))


def test_loading_does_not_share_memory_with_the_checkpoint() -> None:
    model = network()
    average = averaging(model, kind="ema", steps=STEPS)
    state: dict[str, Any] = {
        "kind": "ema",
        "num_updates": 1,
        "average": {name: tensor.clone() for name, tensor in average.state_dict()["average"].items()},
    }
    before = state["average"]["2.weight"].clone()
    average.load_state_dict(state)
    run(average, model, range(3))
    assert torch.equal(state["average"]["2.weight"], before)


def test_an_average_of_another_kind_or_model_is_refused() -> None:
    state = averaging(network(), kind="ema", steps=STEPS).state_dict()
    with pytest.raises(TrainingError, match="kind 'ema'; this run wants 'tail'"):
        averaging(network(), kind="tail", steps=STEPS).load_state_dict(state)
    with pytest.raises(TrainingError, match=r"other parameters: 0\.bias, 0\.weight, 1\.bias \(6 in all\)"):
        averaging(nn.Sequential(nn.Linear(2, 2)), kind="ema", steps=STEPS).load_state_dict(state)


def test_the_average_never_waits_for_the_device() -> None:
    model = network().to("meta")  # a meta tensor has no value to wait for: reading one raises
    average = averaging(model, kind="ema", steps=STEPS)
    average.update(model, 0)
    with average.applied_to(model):
        average.copy_to(model)
