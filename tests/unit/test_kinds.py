"""Kinds of task: metrics carry their direction, keys of params.yaml are the kind's own, and a row's loss is its own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn import functional

from acclimate import kinds, plugins
from acclimate.data.options import TaskConfig
from acclimate.data.tokens.encoding import Encoded
from acclimate.errors import ConfigError
from acclimate.export.predictor import load_decoder
from acclimate.settings import problems_of

KINDS = plugins.names("tasks")


@pytest.mark.parametrize("kind", KINDS)
def test_the_default_metric_is_one_of_the_kinds_own(kind: str) -> None:
    assert kinds.table(kind).default_metric in kinds.metric_names(kind)


def test_an_error_is_better_where_it_is_lower() -> None:
    assert not kinds.higher_is_better("regression", "rmse")
    assert kinds.higher_is_better("regression", "spearman")


def problems(**settings: Any) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        TaskConfig.model_validate({"data": "rows.csv", **settings})
    return problems_of(caught.value, TaskConfig, "tasks.mine")


def test_a_metric_of_another_kind_is_refused_before_anything_runs() -> None:
    (found,) = problems(kind="regression", metric="rmsee")
    assert "'rmsee' is not one of the metrics of kind regression; did you mean 'rmse'?" in found
    (found,) = problems(kind="tagging", metric="macro_f1")
    assert "(allowed: entity_f1, entity_precision, entity_recall, token_accuracy)" in found


def test_a_key_that_no_kind_has_is_told_the_nearest_of_the_kinds_own_and_the_common_ones() -> None:
    found = problems(kind="classification", labl="topic", splitt="part", dev_share=3)
    assert found[1:] == ["tasks.mine.labl: unknown key; did you mean `label`?", "tasks.mine.splitt: unknown key; did you mean `split`?"]
    assert found[0].startswith("tasks.mine.dev_share: ")


def test_a_key_of_another_kind_is_refused() -> None:
    assert problems(kind="regression", label_separator=",")[0].startswith("tasks.mine.label_separator: unknown key")


def test_an_unknown_kind_is_refused_with_the_nearest() -> None:
    (found,) = problems(kind="classificatio", labl="topic")
    assert "did you mean 'classification'?" in found
    with pytest.raises(ConfigError, match="did you mean 'tagging'"):
        kinds.model("taging")


def summed_loss(kind: str, outputs: Tensor, targets: Tensor) -> Tensor:
    """The whole batch's loss, by torch."""
    if kind == "classification":
        return functional.cross_entropy(outputs, targets, reduction="sum")
    if kind == "multi_label":
        return functional.binary_cross_entropy_with_logits(outputs, targets, reduction="sum")
    if kind == "regression":
        return functional.mse_loss(outputs, targets, reduction="sum")
    return functional.cross_entropy(outputs.flatten(0, 1), targets.flatten(), ignore_index=-100, reduction="sum")


GOLD: dict[str, list[Any]] = {
    "classification": [0, 2, 1],
    "multi_label": [[1, 0, 1], [0, 0, 0], [1, 1, 1]],
    "regression": [0.5, -2.0, 3.0],
    "tagging": [[0, 1, 2], [2], [1, 1]],
}
WORDS = [np.array([1, 2, 5]), np.array([1]), np.array([3])]  # the third row lost its second word


@pytest.mark.parametrize("kind", GOLD)
def test_the_losses_of_the_rows_sum_to_the_loss_of_the_batch_and_each_is_its_rows_own(kind: str) -> None:
    model = kinds.model(kind)
    encoded = Encoded(np.ones(24, dtype=np.int32), np.zeros(24, dtype=np.int32), np.arange(0, 25, 8), WORDS, 0, 0)
    targets, terms = model.targets(GOLD[kind], encoded, np.arange(3), 8)
    width = 1 if kind == "regression" else 3
    outputs = torch.randn((3, 8, width) if model.per_token else (3, width), generator=torch.Generator().manual_seed(1))
    losses = model.row_losses(outputs, targets)
    assert losses.shape == (3,)
    assert terms.tolist() == ([3, 1, 1] if kind == "tagging" else [1, 1, 1])
    torch.testing.assert_close(losses.sum(), summed_loss(kind, outputs, targets), rtol=1e-6, atol=1e-6)
    for row in range(3):
        alone, its_terms = model.targets(GOLD[kind], encoded, np.array([row]), 8)
        torch.testing.assert_close(model.row_losses(outputs[row : row + 1], alone), losses[row : row + 1], rtol=1e-6, atol=1e-6)
        assert its_terms.tolist() == [terms[row]]


def test_decoders_of_two_kinds_live_in_one_process_and_write_nothing(tmp_path: Path) -> None:
    for kind in ("classification", "tagging"):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "decode.py").write_bytes(kinds.decode_file(kind).read_bytes())
    first, second = (load_decoder(tmp_path / kind / "decode.py") for kind in ("classification", "tagging"))
    assert set(first.outputs) == {"label", "probability", "probabilities"}
    assert set(second.outputs) == {"spans"}
    assert load_decoder(tmp_path / "classification" / "decode.py") is first
    assert first.__module__ in sys.modules
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["decode.py", "decode.py"]
