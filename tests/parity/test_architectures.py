"""Each architecture's masked-language-model loss against transformers' own forward with the full head."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from acclimate.data.encoding import Vocabulary
from acclimate.models import packed
from acclimate.models.attention import first_positions, positions_at
from acclimate.models.backbone import SUPPORTED, load_encoder
from acclimate.models.mlm_head import load_mlm_model
from acclimate.models.packed import encode_packed
from acclimate.objectives.mlm import Config, loss, make_batch
from acclimate.training.batches import step_generator

VOCABULARY = Vocabulary(size=120, mask_id=4, special_ids=(0, 1, 2, 3, 4))
SMALL = {"vocab_size": 120, "pad_token_id": 0, "max_position_embeddings": 64}
WIDE = {**SMALL, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 48}
SETTINGS: dict[str, dict[str, Any]] = {
    "bert": WIDE,
    "roberta": {**WIDE, "pad_token_id": 1, "type_vocab_size": 1},
    "xlm-roberta": {**WIDE, "pad_token_id": 1, "type_vocab_size": 1},
    "camembert": {**WIDE, "pad_token_id": 1, "type_vocab_size": 1},
    "electra": {**WIDE, "embedding_size": 16},
    "distilbert": {**SMALL, "dim": 32, "n_layers": 3, "n_heads": 2, "hidden_dim": 48},
    "modernbert": {**WIDE, "local_attention": 8, "global_attn_every_n_layers": 2, "cls_token_id": 2, "sep_token_id": 3},
    "deberta-v2": {
        **WIDE,
        "relative_attention": True,
        "position_biased_input": False,
        "pos_att_type": ["p2c", "c2p"],
        "norm_rel_ebd": "layer_norm",
    },
}


@pytest.fixture(scope="module", params=sorted(SETTINGS))
def reference(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """transformers' model with random weights, and the directory it was saved to."""
    from transformers import AutoConfig, AutoModelForMaskedLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(request.param, **SETTINGS[request.param])
    model = AutoModelForMaskedLM.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():  # biases and norms that start at 0 and 1 would hide a forgotten one
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.1)
    directory = tmp_path_factory.mktemp(request.param)
    config.save_pretrained(directory)
    save_file(
        {name: tensor.contiguous().clone() for name, tensor in model.state_dict().items()},
        directory / "model.safetensors",
        {"format": "pt"},
    )
    return model, directory


def packed_rows() -> tuple[torch.Tensor, torch.Tensor]:
    """Three rows of 24 tokens, of one, two and three documents."""
    ids = torch.randint(5, 120, (3, 24), generator=step_generator(1))
    segments = torch.ones_like(ids)
    segments[1, 11:] = 2
    segments[2, 5:] += 1
    segments[2, 16:] += 1
    return ids, segments


def documents(segments: torch.Tensor) -> list[tuple[int, int, int]]:
    """(row, first token, end) of each."""
    found = []
    for row, numbers in enumerate(segments.tolist()):
        bounds = [i for i in range(len(numbers)) if i == 0 or numbers[i] != numbers[i - 1]] + [len(numbers)]
        found += [(row, a, b) for a, b in pairwise(bounds)]
    return found


def test_every_supported_architecture_is_compared() -> None:
    assert sorted(SETTINGS) == sorted(SUPPORTED)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_loss_of_packed_rows_equals_that_of_each_document_by_itself_with_the_full_head(reference: tuple[Any, Path], attention: str) -> None:
    full, directory = reference
    if full.config.model_type == "deberta-v2" and attention == "sdpa":
        pytest.skip("transformers has no sdpa for DeBERTa")
    model = load_mlm_model(directory, load_encoder(directory, attention=attention), torch.ones(120))
    assert model.has_trained_head
    ids, segments = packed_rows()
    batch = make_batch(ids, segments, step_generator(2), config=Config(rate=0.3), vocabulary=VOCABULARY)
    labels = torch.full_like(ids, -100).flatten()
    labels[batch.masked] = batch.labels_M
    labels = labels.view_as(ids)
    expected = torch.zeros(())
    for row, a, b in documents(segments):
        logits = full(input_ids=batch.ids_BT[row : row + 1, a:b]).logits[0]
        expected = expected + torch.nn.functional.cross_entropy(logits, labels[row, a:b], ignore_index=-100, reduction="sum")
    ours = loss(model, batch)
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)
    ours.backward()
    full.zero_grad()
    expected.backward()
    # the embedding's gradient comes from input, decoder and every document: the one that anything wrong would reach
    theirs = full.get_input_embeddings().weight.grad
    own = model.encoder.get_input_embeddings().weight.grad
    assert own is not None
    torch.testing.assert_close(own, theirs, rtol=1e-3, atol=1e-4)


def test_hidden_states_at_asked_positions_equal_those_of_the_full_forward(reference: tuple[Any, Path]) -> None:
    _, directory = reference
    encoder = load_encoder(directory)
    ids, segments = packed_rows()
    everywhere = encode_packed(encoder, ids, segments)
    asked = np.array([0, 3, 25, 26, 27, 40, 71])  # rows with two, four and one
    torch.testing.assert_close(
        encode_packed(encoder, ids, segments, at=positions_at(asked, (3, 24))), everywhere.flatten(0, 1)[asked], rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(encode_packed(encoder, ids, segments, at=first_positions(ids)), everywhere[:, 0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("worth_unpadding", [0.0, 1e9], ids=["unpadded", "padded"])
@pytest.mark.parametrize("pooling", ["mean", "first", "per token"])
def test_a_task_model_trains_on_the_logits_that_transformers_forward_gives(
    reference: tuple[Any, Path], pooling: Any, worth_unpadding: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    from acclimate.models.task_model import TaskModel, TaskSpec

    monkeypatch.setattr(packed, "_WORTH_UNPADDING", worth_unpadding)
    _, directory = reference
    kind = "tagging" if pooling == "per token" else "classification"
    model = TaskModel(load_encoder(directory), TaskSpec("t", kind, ["a", "b", "c"], False, "accuracy", pooling, 24, "base", 0, 32, 3))
    ids, _ = packed_rows()
    pad_id = int(model.encoder.config.pad_token_id)
    mask = torch.ones_like(ids)
    mask[0, 9:], mask[2, 17:] = 0, 0
    ids = torch.where(mask.bool(), ids, pad_id)
    # no dropout is configured, so training and evaluation differ in the path alone
    asked = mask.bool() if model.per_token else slice(None)
    torch.testing.assert_close(model.train()(ids, mask)[asked], model.eval()(ids, mask)[asked], rtol=1e-4, atol=1e-5)
    weights = [parameter for parameter in model.encoder.parameters() if parameter.requires_grad]
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
        encoder = load_encoder(directory).train()
        if recompute:
            encoder.activation_checkpointing_enable()
        encode_packed(encoder, ids, segments).square().sum().backward()
        gradients.append(encoder.get_input_embeddings().weight.grad)
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-6)


def test_every_trained_parameter_gets_a_gradient(reference: tuple[Any, Path]) -> None:
    """Else several processes wait for a gradient that never comes."""
    _, directory = reference
    ids, segments = packed_rows()
    batch = make_batch(ids, segments, step_generator(1), config=Config(rate=0.3), vocabulary=VOCABULARY)
    model = load_mlm_model(directory, load_encoder(directory), torch.ones(120)).train()
    loss(model, batch).backward()
    assert [name for name, parameter in model.named_parameters() if parameter.requires_grad and parameter.grad is None] == []
