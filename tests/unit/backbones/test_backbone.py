"""What every family promises: the fast path stands back from what it would skip, layers hold every weight once, edits act."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models
from torch import Tensor, nn

from acclimate.backbones.base import Backbone, Embedded
from acclimate.backbones.loading import families, family_of, load_backbone, supported
from acclimate.backbones.post_norm import PostNorm
from acclimate.backbones.saving import save_backbone
from acclimate.errors import ModelError
from acclimate.export.predictor import _pad_id
from acclimate.protocols import keyed_generator
from acclimate.strategies.lora import LowRankLinear
from tests.tiny_models import SETTINGS, write_tiny_model

POST_NORM = [name for name in sorted(SETTINGS) if issubclass(family_of(name), PostNorm)]
SAME = {"rtol": 1e-4, "atol": 1e-5}  # float32 sums in another order


@pytest.fixture(scope="module")
def directories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    found = {}
    for model_type in SETTINGS:
        found[model_type] = tmp_path_factory.mktemp(model_type)
        write_tiny_model(model_type, found[model_type])
    return found


@pytest.fixture(params=sorted(SETTINGS))
def any_backbone(request: pytest.FixtureRequest, directories: dict[str, Path]) -> Backbone:
    return load_backbone(directories[request.param])


@pytest.fixture(params=POST_NORM)
def post_norm(request: pytest.FixtureRequest, directories: dict[str, Path]) -> Backbone:
    return load_backbone(directories[request.param])


def rows(backbone: Backbone) -> tuple[Tensor, Tensor, Tensor]:
    """Ids, mask and types of three rows, two of them padded."""
    ids = torch.randint(5, 120, (3, 24), generator=keyed_generator(1))
    mask = torch.ones_like(ids)
    mask[0, 9:], mask[2, 17:] = 0, 0
    types = torch.zeros_like(ids)
    types[:, 6:] = 1
    return torch.where(mask.bool(), ids, backbone.pad_id), mask, types


SEGMENTS = torch.tensor([[1] * 24, [1] * 11 + [2] * 13, [1] * 5 + [2] * 11 + [3] * 8])


class Adapter(nn.Module):
    """A layer's output, and something on top; it hands on whatever else it is asked for, as peft's wrappers do."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return super().__getattr__(name) if name == "inner" else getattr(super().__getattr__("inner"), name)

    def forward(self, *given: Any, **named: Any) -> Any:
        return changed(self.inner(*given, **named))


def changed(output: Any) -> Any:
    return (changed(output[0]), *output[1:]) if isinstance(output, tuple) else output + output.tanh()


def with_own_forward(module: nn.Module) -> None:
    plain = module.forward
    module.forward = lambda *given, **named: changed(plain(*given, **named))  # type: ignore[method-assign]


ALTERATIONS: dict[str, Callable[[Any], None]] = {
    "a hook": lambda module: module.register_forward_hook(lambda _module, _given, output: changed(output)),
    "its own forward": with_own_forward,
}


def containers_by_name(backbone: Backbone) -> list[str]:
    assert isinstance(backbone, PostNorm)
    held = {id(module) for module in backbone.containers()}
    return [name for name, module in backbone.named_modules() if id(module) in held and name != "model" and not name.endswith("encoder")]


@pytest.mark.parametrize("how", [*ALTERATIONS, "a wrapper"])
def test_training_takes_what_is_put_around_any_module_as_evaluation_does(post_norm: Backbone, how: str) -> None:
    """A wrapped `BertOutput` was skipped in training: the written-out forward read its parts instead of calling it."""
    ids, mask, _ = rows(post_norm)
    plain = post_norm.eval().padded(ids, mask)
    names = [name for name in containers_by_name(post_norm) if ".1" in name]
    assert names
    for name in names:
        altered = copy.deepcopy(post_norm)
        module = altered.get_submodule(name)
        if how == "a wrapper":
            parent, _, leaf = name.rpartition(".")
            setattr(altered.get_submodule(parent), leaf, Adapter(module))
        else:
            ALTERATIONS[how](module)
        evaluated = altered.eval().padded(ids, mask)
        assert not torch.allclose(evaluated[mask.bool()], plain[mask.bool()], atol=1e-2), name
        assert not altered.is_unaltered, name
        torch.testing.assert_close(altered.train().padded(ids, mask)[mask.bool()], evaluated[mask.bool()], **SAME)
        torch.testing.assert_close(altered.padded(ids, mask, first_only=True), evaluated[:, 0], **SAME)


def test_packed_rows_take_a_wrapped_module_too(post_norm: Backbone) -> None:
    ids, _, _ = rows(post_norm)
    name = next(name for name in reversed(containers_by_name(post_norm)))
    ALTERATIONS["a hook"](post_norm.get_submodule(name))
    together = post_norm.train().packed(ids, SEGMENTS)
    alone = post_norm.eval().padded(ids[1:2, 11:], torch.ones(1, 13, dtype=torch.int64))
    torch.testing.assert_close(together[1:2, 11:], alone, **SAME)


def test_the_fast_path_is_kept_where_a_product_or_norm_is_wrapped(post_norm: Backbone) -> None:
    ids, mask, types = rows(post_norm)
    for name, module in list(post_norm.named_modules()):
        parent, _, leaf = name.rpartition(".")
        if isinstance(module, nn.Linear) and ".1." in name:
            wrapped = LowRankLinear(module, rank=2, alpha=4.0, dropout=0.0)
            nn.init.normal_(wrapped.up)
            setattr(post_norm.get_submodule(parent), leaf, wrapped)
        elif isinstance(module, nn.LayerNorm) and ".2." in name:
            setattr(post_norm.get_submodule(parent), leaf, Adapter(module))
    assert post_norm.is_unaltered
    evaluated = post_norm.eval().padded(ids, mask, types)
    torch.testing.assert_close(post_norm.train().padded(ids, mask, types)[mask.bool()], evaluated[mask.bool()], **SAME)


def test_looking_at_hidden_states_leaves_no_hook_behind(post_norm: Backbone) -> None:
    ids, mask, _ = rows(post_norm)
    post_norm.hidden_states(ids, mask)
    assert post_norm.is_unaltered


def test_hidden_states_are_those_of_transformers(any_backbone: Backbone) -> None:
    ids, mask, types = rows(any_backbone)
    ours = any_backbone.hidden_states(ids, mask, types)
    given = {"token_type_ids": types} if any_backbone.takes_type_ids else {}
    model = any_backbone.model.encoder if any_backbone.shape == "encoder_decoder" else any_backbone.model
    theirs = model(input_ids=ids, attention_mask=mask, output_hidden_states=True, **given).hidden_states
    assert len(ours) == len(theirs) == 4
    assert len(any_backbone.layers()) == (7 if any_backbone.shape == "encoder_decoder" else 4)
    for left, right in zip(ours, theirs, strict=True):
        torch.testing.assert_close(left[mask.bool()], right[mask.bool()], rtol=1e-5, atol=1e-5)


def test_hidden_states_of_a_model_with_a_wrapped_layer_are_one_for_each_layer(post_norm: Backbone) -> None:
    ids, mask, _ = rows(post_norm)
    blocks = post_norm.model.transformer.layer if hasattr(post_norm.model, "transformer") else post_norm.model.encoder.layer
    blocks[1] = Adapter(blocks[1])
    found = post_norm.hidden_states(ids, mask)
    assert len(found) == 4
    torch.testing.assert_close(found[-1], post_norm.padded(ids, mask))


def test_layers_hold_every_weight_once(any_backbone: Backbone) -> None:
    held = [parameter for layer in any_backbone.layers() for parameter in layer.parameters()]
    assert len(held) == len({id(parameter) for parameter in held})
    assert {id(parameter) for parameter in held} == {id(parameter) for parameter in any_backbone.model.parameters()}


def test_encoding_what_was_embedded_equals_the_models_forward(any_backbone: Backbone) -> None:
    ids, mask, types = rows(any_backbone)
    expected = any_backbone.padded(ids, mask, types)[mask.bool()]
    torch.testing.assert_close(any_backbone.encode(any_backbone.embed(ids, mask, types))[mask.bool()], expected, **SAME)


def prompt(embedded: Embedded) -> Embedded:
    """Two positions at the front."""
    front = torch.full((len(embedded.hidden_BTD), 2, embedded.hidden_BTD.shape[2]), 0.5)
    mask = torch.cat([torch.ones_like(embedded.mask_BT[:, :2]), embedded.mask_BT], dim=1)
    types = None if embedded.type_ids_BT is None else nn.functional.pad(embedded.type_ids_BT, (2, 0))
    return Embedded(torch.cat([front, embedded.hidden_BTD], dim=1), mask, types, extra=embedded.extra + 2)


def test_edits_act_alike_in_training_and_evaluation_and_extra_positions_are_taken_off(any_backbone: Backbone) -> None:
    ids, mask, types = rows(any_backbone)
    plain = any_backbone.padded(ids, mask, types)
    any_backbone.edits += [prompt, lambda embedded: replace(embedded, hidden_BTD=embedded.hidden_BTD * 1.5)]
    evaluated = any_backbone.eval().padded(ids, mask, types)
    assert evaluated.shape == plain.shape
    assert not torch.allclose(evaluated, plain, atol=1e-2)
    torch.testing.assert_close(any_backbone.train().padded(ids, mask, types), evaluated, **SAME)
    states = any_backbone.hidden_states(ids, mask, types)
    torch.testing.assert_close(states[-1], evaluated, **SAME)
    assert {state.shape for state in states} == {plain.shape}


def test_what_a_family_says_of_its_sizes_is_true(any_backbone: Backbone) -> None:
    ids, mask, types = rows(any_backbone)
    assert any_backbone.padded(ids, mask, types).shape[-1] == any_backbone.width == 32
    assert any_backbone.embeddings.shape == (any_backbone.vocabulary_size, any_backbone.embedding_width)
    most, model_type = any_backbone.max_length, any_backbone.config.model_type
    has_no_end = model_type in ("t5", "modernbert", "deberta-v2")
    assert most == (None if has_no_end else 62 if any_backbone.first_position else 64)
    for length in (most or 100, (most or 100) + 1):
        longest = torch.full((1, length), 7)
        if most is None or length <= most:
            assert any_backbone.padded(longest, torch.ones_like(longest)).shape[1] == length
        else:
            with pytest.raises((IndexError, RuntimeError)):
                any_backbone.padded(longest, torch.ones_like(longest))


def test_the_literals_that_are_read_from_the_files_are_those_of_the_classes() -> None:
    assert sorted(families()) == supported() == sorted(SETTINGS)
    for model_type in supported():
        assert model_type in family_of(model_type).model_types


def test_packed_documents_equal_each_by_itself(any_backbone: Backbone) -> None:
    ids = torch.randint(5, 120, (3, 24), generator=keyed_generator(2))
    together = any_backbone.packed(ids, SEGMENTS)
    for row, start, end in ((0, 0, 24), (1, 0, 11), (1, 11, 24), (2, 5, 16), (2, 16, 24)):
        alone = any_backbone.padded(ids[row : row + 1, start:end], torch.ones(1, end - start, dtype=torch.int64))
        torch.testing.assert_close(together[row : row + 1, start:end], alone, **SAME)


@pytest.mark.parametrize("tied", [True, False])
def test_t5_decodes_to_the_logits_of_transformers(tied: bool, tmp_path: Path) -> None:
    from acclimate.backbones.t5 import T5

    theirs = write_tiny_model("t5", tmp_path, tie_word_embeddings=tied)
    ours = load_backbone(tmp_path)
    assert isinstance(ours, T5)
    ids, mask, _ = rows(ours)
    outputs = nn.functional.pad(ids[:, :5], (1, 0), value=ours.start_id)
    hidden = ours.decode(outputs, ours.padded(ids, mask), mask)
    expected = theirs(input_ids=ids, attention_mask=mask, decoder_input_ids=outputs).logits
    torch.testing.assert_close(ours.lm_logits(hidden), expected, **SAME)


def test_a_decoder_gives_the_logits_of_transformers(tmp_path: Path) -> None:
    from acclimate.backbones.gpt2 import Gpt2

    theirs = write_tiny_model("gpt2", tmp_path)
    ours = load_backbone(tmp_path)
    assert isinstance(ours, Gpt2)
    ids, mask, _ = rows(ours)
    expected = theirs(input_ids=ids, attention_mask=mask).logits
    torch.testing.assert_close(ours.lm_logits(ours.padded(ids, mask))[mask.bool()], expected[mask.bool()], **SAME)


def test_a_new_file_is_a_new_family_and_an_unknown_type_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="model_type is 'squeezebert'; supported: bert, "):
        family_of("squeezebert")
    (tmp_path / "model.safetensors").touch()
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "squeezebert"}), encoding="utf-8")
    with pytest.raises(ModelError, match="squeezebert"):
        load_backbone(tmp_path)


def test_saving_keeps_the_names_of_transformers(any_backbone: Backbone, directories: dict[str, Path], tmp_path: Path) -> None:
    template = tmp_path / "template"
    template.mkdir()
    (template / "config.json").write_bytes((directories[any_backbone.config.model_type] / "config.json").read_bytes())
    save_backbone(any_backbone, template, tmp_path)
    written = set(load_file(tmp_path / "model.safetensors"))
    tied = {"encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"}
    has_decoder = any_backbone.shape == "encoder_decoder"
    assert written == set(any_backbone.model.state_dict()) - (tied if has_decoder else set())
    ids, mask, types = rows(any_backbone)
    torch.testing.assert_close(load_backbone(tmp_path).padded(ids, mask, types), any_backbone.padded(ids, mask, types), rtol=0, atol=0)


@pytest.mark.parametrize("model_type", sorted(SETTINGS))
def test_a_weight_that_is_nobodys_is_refused_by_name(model_type: str, directories: dict[str, Path], tmp_path: Path) -> None:
    weights = load_file(directories[model_type] / "model.safetensors")
    (tmp_path / "config.json").write_bytes((directories[model_type] / "config.json").read_bytes())
    prefix = f"{load_backbone(directories[model_type]).model.base_model_prefix}."
    prefix = prefix if any(name.startswith(prefix) for name in weights) else ""
    for harmless in (f"{prefix}embeddings.position_ids", "classifier.weight"):
        save_file({**weights, harmless: torch.zeros(1)}, tmp_path / "model.safetensors")
        load_backbone(tmp_path)
    for strange in (f"{prefix}adapter.down.weight", "adapter.down.weight"):
        save_file({**weights, strange: torch.zeros(1)}, tmp_path / "model.safetensors")
        with pytest.raises(ModelError, match=r"1 weights .* first adapter\.down\.weight;"):
            load_backbone(tmp_path)


@pytest.mark.parametrize(
    ("model_type", "tokens"),
    [("bert", ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]), ("roberta", ["<s>", "<pad>", "</s>", "<unk>", "<mask>"])],
)
def test_the_predictor_pads_as_the_backbone_says(model_type: str, tokens: list[str], directories: dict[str, Path]) -> None:
    """The predictor travels without the backbone, so it asks the tokenizer; both must name one id."""
    tokenizer = Tokenizer(models.WordLevel({token: number for number, token in enumerate([*tokens, "word"])}, unk_token=tokens[-2]))
    backbone = load_backbone(directories[model_type])
    assert _pad_id(tokenizer) == backbone.pad_id == (1 if model_type == "roberta" else 0)
    tokenizer.enable_padding(pad_id=backbone.pad_id, pad_token=tokens[backbone.pad_id])
    assert _pad_id(tokenizer) == backbone.pad_id


def test_no_other_file_looks_the_padding_id_up() -> None:
    root = Path(__file__).parents[3]
    # roberta.py counts positions by it, saving.py names it to transformers' tokenizers
    allowed = {"backbones/base.py", "backbones/roberta.py", "backbones/saving.py", "export/predictor.py"}
    looks = ('token_to_id("[PAD]")', "pad_token_id", '"<pad>"')
    files = [*(root / "src" / "acclimate").rglob("*.py"), *(root / "stages").glob("*.py")]
    found = {path.as_posix() for path in files if any(look in path.read_text(encoding="utf-8") for look in looks)}
    assert all(path.endswith(tuple(allowed)) for path in found), found
