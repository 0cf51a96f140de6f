"""What products are computed in, and that the faster path is as exact."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from acclimate.training import precision
from acclimate.training.precision import choose_matmul_precision


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


def test_products_keep_float32_accuracy_whatever_is_chosen() -> None:
    chosen = choose_matmul_precision(torch.device("cpu"))
    assert chosen == torch.get_float32_matmul_precision()
    assert precision._product_error() < 2e-6, "bf16 would err by 1e-3"


def test_a_path_that_loses_digits_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = precision._product_error

    def error_as_with_amx() -> float:
        return 2e-3 if torch.get_float32_matmul_precision() == "medium" else exact()

    monkeypatch.setattr(precision, "_product_error", error_as_with_amx)
    assert choose_matmul_precision(torch.device("cpu")) == "highest"
