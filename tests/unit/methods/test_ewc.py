"""Importances are the squared gradients of rows of general text; the penalty is that of the formula."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from acclimate.backbones.loading import load_backbone
from acclimate.errors import ConfigError
from acclimate.retention.ewc import Ewc
from tests.unit.methods.small_pretraining import job, text, train


def test_penalty_and_gradient_are_those_of_the_formula(tiny_encoder_dir: Path) -> None:
    backbone = load_backbone(tiny_encoder_dir)
    component = Ewc(strength=0.2, rows=3)
    penalty = component.penalty(backbone)
    parameters = list(backbone.parameters())
    starts = [parameter.detach().clone() for parameter in parameters]
    # three losses whose gradients are known: row * (number of the parameter + 1)
    losses = (
        torch.stack([row * (number + 1) * each.sum() for number, each in enumerate(parameters)]).sum() for row in (1.0, 2.0, 3.0, 9.0)
    )
    component.prepare(penalty, losses)
    squares = [torch.full_like(each, 14.0 * (number + 1) ** 2) for number, each in enumerate(parameters)]
    mean = sum(square.double().sum() for square in squares) / sum(each.numel() for each in parameters)
    with torch.no_grad():
        for parameter in parameters:
            parameter.add_(torch.randn_like(parameter))
    penalty().backward()
    for parameter, start, square in zip(parameters, starts, squares, strict=True):
        expected = 0.2 * (square / mean).float() * (parameter.detach() - start)
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-4, atol=1e-6)
    assert not penalty.state_dict()


def test_importances_are_squared_gradients_of_single_general_rows(tiny_encoder_dir: Path) -> None:
    made = job(tiny_encoder_dir, {"ewc": {"rows": 5}})
    trained = made.build(load_backbone(tiny_encoder_dir))
    made.prepare(trained)
    parameters = dict(trained.backbone.named_parameters())
    squares = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    batch = made._in_order(made.config.objectives[0], made.general, 4).batch(0)
    for row in range(5):
        part = batch.part(row, row + 1)
        loss = trained(part, "mlm")["mlm"] / part.counts()["mlm"]
        for name, gradient in zip(squares, torch.autograd.grad(loss, list(parameters.values()), allow_unused=True), strict=True):
            squares[name] += 0 if gradient is None else gradient.square()
    mean = sum(float(square.double().sum()) for square in squares.values()) / sum(map(torch.numel, squares.values()))
    found = dict(trained.penalties["ewc"].named_buffers())
    for number, square in enumerate(squares.values()):
        torch.testing.assert_close(found[f"importance_{number}"], square / mean, rtol=1e-3, atol=1e-6)


def test_a_run_that_was_stopped_measures_the_same_importances(tiny_encoder_dir: Path, tmp_path: Path) -> None:
    states = []
    for _ in range(2):  # the second run finds the checkpoint of the last step
        made = job(tiny_encoder_dir, {"ewc": {"strength": 10.0}})
        torch.manual_seed(3)
        trained = made.build(load_backbone(tiny_encoder_dir))
        made.prepare(trained)
        importances = [buffer.clone() for buffer in trained.penalties["ewc"].buffers()]
        train(made, trained, tmp_path)
        states.append([*importances, *trained.state_dict().values()])
    assert all(torch.equal(left, right) for left, right in zip(*states, strict=True))


def test_no_general_text_is_refused(tiny_encoder_dir: Path) -> None:
    made = job(tiny_encoder_dir, {"ewc": {}}, general=text(4, 96))
    trained = made.build(load_backbone(tiny_encoder_dir))
    with pytest.raises(ConfigError, match=r"retention.ewc: no general text to measure importances on"):
        made.prepare(trained)
