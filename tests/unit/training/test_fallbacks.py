"""What is used where the hardware lacks what params.yaml asks for, and the line that says so."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from acclimate.backbones.loading import resolve_attention
from acclimate.training import precision
from acclimate.training.precision import resolve_precision

CPU = torch.device("cpu")
without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU has it")


@pytest.mark.parametrize(
    ("wanted", "has_bf16", "used"),
    [("bf16", False, "fp32"), ("fp16", False, "fp32"), ("fp16", True, "bf16")],
)
def test_a_format_that_the_cpu_lacks_is_told_with_what_is_used_instead(
    wanted: Any, has_bf16: bool, used: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(precision, "cpu_has_bf16", lambda: has_bf16)  # an answer that differs from machine to machine
    assert resolve_precision(wanted, CPU).name == used
    assert caplog.messages == [f"precision: {wanted} is not available on this cpu; using {used}"]


@pytest.mark.parametrize(("wanted", "has_bf16", "used"), [("auto", False, "fp32"), ("auto", True, "bf16"), ("fp32", True, "fp32")])
def test_what_there_is_needs_no_line(
    wanted: Any, has_bf16: bool, used: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(precision, "cpu_has_bf16", lambda: has_bf16)
    assert resolve_precision(wanted, CPU).name == used
    assert caplog.messages == []


@without_gpu
@pytest.mark.parametrize(
    ("wanted", "model_type", "used"),
    [("varlen", "bert", "eager"), ("varlen", "modernbert", "eager"), ("sdpa", "deberta-v2", "eager"), ("varlen", "deberta-v2", "eager")],
)
def test_a_kernel_that_is_not_to_be_had_is_told_with_what_is_used_instead(
    wanted: str, model_type: str, used: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert resolve_attention(wanted, model_type) == used
    assert caplog.messages == [f"train.attention: {wanted} is not available for {model_type} on this CPU; using {used}"]


@without_gpu
@pytest.mark.parametrize(("wanted", "model_type"), [("auto", "bert"), ("auto", "deberta-v2"), ("sdpa", "bert"), ("eager", "deberta-v2")])
def test_a_kernel_that_is_there_needs_no_line(wanted: str, model_type: str, caplog: pytest.LogCaptureFixture) -> None:
    resolve_attention(wanted, model_type)
    assert caplog.messages == []
