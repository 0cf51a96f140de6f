"""Each architecture's masked-language-model loss against transformers' own forward with the full head."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from acclimate.backbones.fast import rows
from acclimate.backbones.fast.attention import first_positions, positions_at
from acclimate.backbones.loading import family_of, load_backbone, supported
from acclimate.data.tokens.encoding import Vocabulary
from acclimate.objectives._masked_lm import MaskedBatch, MaskedLm
from acclimate.objectives.mlm import Mlm
from acclimate.protocols import Draw, Facts, PackedRows, keyed_generator
from tests.tiny_models import SETTINGS, write_tiny_model

VOCABULARY = Vocabulary(size=120, mask_id=4, special_ids=(0, 1, 2, 3, 4))


@pytest.fixture(scope="module", params=sorted(name for name in SETTINGS if family_of(name).shape == "encoder"))
def masked_lm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """As `reference`, of the families that masked-language modelling fits."""
    directory = tmp_path_factory.mktemp(request.param)
    return write_tiny_model(request.param, directory), directory


@pytest.fixture(scope="module", params=sorted(SETTINGS))
def reference(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """transformers' model with random weights, and the directory it was saved to."""
    directory = tmp_path_factory.mktemp(request.param)
    return write_tiny_model(request.param, directory), directory


def packed_rows() -> tuple[torch.Tensor, torch.Tensor]:
    """Three rows of 24 tokens, of one, two and three documents."""
    ids = torch.randint(5, 120, (3, 24), generator=keyed_generator(1))
    segments = torch.ones_like(ids)
    segments[1, 11:] = 2
    segments[2, 5:] += 1
    segments[2, 16:] += 1
    return ids, segments


def masked(ids: torch.Tensor, segments: torch.Tensor) -> MaskedBatch:
    return Mlm(rate=0.3).batch(PackedRows(ids, segments, lambda: segments), Facts(VOCABULARY, 0, np.ones(120), dict), Draw(0, "mlm", 0))


def mlm_model(directory: Path, attention: str = "auto") -> MaskedLm:
    facts = Facts(VOCABULARY, 0, np.ones(120), lambda: load_file(directory / "model.safetensors"))
    return Mlm().build(load_backbone(directory, attention=attention), facts, torch.Generator())


def documents(segments: torch.Tensor) -> list[tuple[int, int, int]]:
    """(row, first token, end) of each."""
    found = []
    for row, numbers in enumerate(segments.tolist()):
        bounds = [i for i in range(len(numbers)) if i == 0 or numbers[i] != numbers[i - 1]] + [len(numbers)]
        found += [(row, a, b) for a, b in pairwise(bounds)]
    return found


def test_every_supported_architecture_is_compared() -> None:
    assert sorted(SETTINGS) == supported()


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_loss_of_packed_rows_equals_that_of_each_document_by_itself_with_the_full_head(masked_lm: tuple[Any, Path], attention: str) -> None:
    full, directory = masked_lm
    if full.config.model_type == "deberta-v2" and attention == "sdpa":
        pytest.skip("transformers has no sdpa for DeBERTa")
    model = mlm_model(directory, attention)
    assert model.head.is_trained and not model.needs_warmup
    ids, segments = packed_rows()
    batch = masked(ids, segments)
    labels = torch.full_like(ids, -100).flatten()
    labels[batch.masked] = batch.labels_M
    labels = labels.view_as(ids)
    expected = torch.zeros(())
    for row, a, b in documents(segments):
        logits = full(input_ids=batch.ids_BT[row : row + 1, a:b]).logits[0]
        expected = expected + torch.nn.functional.cross_entropy(logits, labels[row, a:b], ignore_index=-100, reduction="sum")
    ours = model(batch, "mlm")["mlm"]
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)
    ours.backward()
    full.zero_grad()
    expected.backward()
    # the embedding's gradient comes from input, decoder and every document: the one that anything wrong would reach
    theirs = full.get_input_embeddings().weight.grad
    own = model.backbone.embeddings.grad
    assert own is not None
    torch.testing.assert_close(own, theirs, rtol=1e-3, atol=1e-4)


def test_hidden_states_at_asked_positions_equal_those_of_the_full_forward(reference: tuple[Any, Path]) -> None:
    _, directory = reference
    encoder = load_backbone(directory)
    ids, segments = packed_rows()
    everywhere = encoder.packed(ids, segments)
    asked = np.array([0, 3, 25, 26, 27, 40, 71])  # rows with two, four and one
    torch.testing.assert_close(
        encoder.packed(ids, segments, at=positions_at(asked, (3, 24))), everywhere.flatten(0, 1)[asked], rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(encoder.packed(ids, segments, at=first_positions(ids)), everywhere[:, 0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("worth_unpadding", [0.0, 1e9], ids=["unpadded", "padded"])
@pytest.mark.parametrize("pooling", ["mean", "first", "per token"])
def test_a_task_model_trains_on_the_logits_that_transformers_forward_gives(
    reference: tuple[Any, Path], pooling: Any, worth_unpadding: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    from acclimate.training.task_model import TaskModel, TaskSpec

    monkeypatch.setattr(rows, "_WORTH_UNPADDING", worth_unpadding)
    _, directory = reference
    kind = "tagging" if pooling == "per token" else "classification"
    model = TaskModel(load_backbone(directory), TaskSpec("t", kind, ["a", "b", "c"], False, "accuracy", pooling, 24, "base", 0, 32, 3))
    ids, _ = packed_rows()
    pad_id = model.backbone.pad_id
    mask = torch.ones_like(ids)
    mask[0, 9:], mask[2, 17:] = 0, 0
    ids = torch.where(mask.bool(), ids, pad_id)
    # no dropout is configured, so training and evaluation differ in the path alone
    asked = mask.bool() if model.per_token else slice(None)
    torch.testing.assert_close(model.train()(ids, mask)[asked], model.eval()(ids, mask)[asked], rtol=1e-4, atol=1e-5)
    weights = [parameter for parameter in model.backbone.parameters() if parameter.requires_grad]
    fast, slow = (
        torch.autograd.grad(model.train(mode)(ids, mask)[asked].square().sum(), weights, allow_unused=True) for mode in (True, False)
    )
    for ours, theirs in zip(fast, slow, strict=True):
        torch.testing.assert_close(
            torch.zeros(()) if ours is None else ours, torch.zeros(()) if theirs is None else theirs, rtol=1e-3, atol=1e-4
        )


def test_recomputed_activations_give_the_same_gradients(reference: tuple[Any, Path]) -> None:
    _, directory = reference
    ids, segments = packed_rows()
    gradients = []
    for recompute in (False, True):
        encoder = load_backbone(directory).train()
        if recompute:
            encoder.prepare(compile=False, activation_checkpointing=True)
        encoder.packed(ids, segments).square().sum().backward()
        gradients.append(encoder.embeddings.grad)
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-6)


def test_every_trained_parameter_gets_a_gradient(masked_lm: tuple[Any, Path]) -> None:
    """Else several processes wait for a gradient that never comes."""
    _, directory = masked_lm
    ids, segments = packed_rows()
    batch = masked(ids, segments)
    model = mlm_model(directory).train()
    model(batch, "mlm")["mlm"].backward()
    assert [name for name, parameter in model.named_parameters() if parameter.requires_grad and parameter.grad is None] == []
