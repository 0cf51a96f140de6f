"""Vocabulary extension: new words are whole tokens, old text keeps its ids, rows start from the mean, small gains are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from acclimate.backbones.loading import load_backbone, save_weights
from acclimate.backbones.vocabulary_extension import (
    VocabularyConfig,
    choose_words,
    extend_backbone,
    extend_rows,
    extend_tokenizer,
    plan_extension,
)
from acclimate.data.tokens.encoding import load_tokenizer
from acclimate.data.tokens.fertility import BrokenWord
from acclimate.errors import ModelError

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,"
TRAIN = [["the modprobe and the qemu emulator", "modprobe loads qemu"] * 10]
HELDOUT = [["run modprobe, then qemu", "the emulator is qemu"]]
CONFIG = VocabularyConfig(new_words=2, min_count=5)


def tokenizer() -> Tokenizer:
    vocabulary = ["[PAD]", "[UNK]", *LETTERS, *(f"##{letter}" for letter in LETTERS), "the", "and", "loads", "emu", "##lator", "run"]
    made = Tokenizer(models.WordPiece({token: number for number, token in enumerate(vocabulary)}, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.add_special_tokens(["[PAD]", "[UNK]"])
    return made


@pytest.fixture
def backbone(tmp_path: Path) -> Path:
    """A BERT of one layer with a masked-language head, as a directory."""
    from transformers import BertConfig, BertForMaskedLM

    directory = tmp_path / "base"
    directory.mkdir()
    config = BertConfig(
        vocab_size=tokenizer().get_vocab_size(), hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    torch.manual_seed(0)
    save_weights(BertForMaskedLM(config).state_dict(), directory / "model.safetensors")
    (directory / "config.json").write_text(json.dumps(config.to_dict()))
    tokenizer().save(str(directory / "tokenizer.json"))
    return directory


def test_the_words_that_save_the_most_tokens_are_chosen_and_proved_on_other_text() -> None:
    plan = plan_extension(tokenizer(), TRAIN, HELDOUT, CONFIG)
    assert plan.words == ("modprobe", "qemu")
    assert plan.fertility_drop > 0.3
    assert plan.after.tokens == plan.before.tokens - 7 - 2 * 3
    assert plan.tokenizer.encode("Modprobe qemu").tokens == ["modprobe", "qemu"]


WORDS = ("modprobe", "qemu", "modulo")


@given(
    st.lists(st.sampled_from(["the", "mod", "qem", "emulator", "a.b", "Loads,", "probe", "xqemu", "☃", "[UNK]", "zzz"]), max_size=12).map(
        " ".join
    )
)
def test_text_without_the_new_words_keeps_its_ids(text: str) -> None:
    assert extend_tokenizer(tokenizer(), WORDS).encode(text).ids == tokenizer().encode(text).ids


def test_the_old_tokenizer_stays_as_it_is() -> None:
    old = tokenizer()
    extend_tokenizer(old, ["qemu"])
    assert old.get_vocab_size() == tokenizer().get_vocab_size()


def test_new_ids_follow_the_old_ones_and_are_no_added_tokens() -> None:
    new = extend_tokenizer(tokenizer(), WORDS)
    first = tokenizer().get_vocab_size()
    assert [new.token_to_id(word) for word in WORDS] == [first, first + 1, first + 2]
    assert set(new.get_added_tokens_decoder()) == set(tokenizer().get_added_tokens_decoder())


def test_new_rows_are_the_mean_of_their_pieces_and_old_rows_stay() -> None:
    weight_VD = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
    extended = extend_rows(weight_VD, [(0, 5), (2, 2, 3)])
    torch.testing.assert_close(extended[:6], weight_VD, rtol=0, atol=0)
    torch.testing.assert_close(extended[6], (weight_VD[0] + weight_VD[5]) / 2)
    torch.testing.assert_close(extended[7], (2 * weight_VD[2] + weight_VD[3]) / 3)
    torch.testing.assert_close(extend_rows(weight_VD[:, 0], [(0, 5)])[6], (weight_VD[0, 0] + weight_VD[5, 0]) / 2)


def test_an_extended_backbone_loads_with_new_rows_and_reads_old_text_as_before(backbone: Path, tmp_path: Path) -> None:
    out = tmp_path / "extended"
    out.mkdir()
    plan = plan_extension(load_tokenizer(backbone), TRAIN, HELDOUT, CONFIG)
    extend_backbone(backbone, plan, out)
    old, new = load_backbone(backbone), load_backbone(out)
    size = old.config.vocab_size
    assert new.config.vocab_size == size + 2 == load_tokenizer(out).get_vocab_size()
    rows_VD = new.embeddings
    for place, ids in enumerate(plan.pieces):
        torch.testing.assert_close(rows_VD[size + place], old.embeddings[list(ids)].mean(dim=0))
    ids_BT = torch.tensor([load_tokenizer(out).encode("the emulator loads").ids])
    torch.testing.assert_close(new.model(ids_BT).last_hidden_state, old.model(ids_BT).last_hidden_state, rtol=0, atol=0)


def test_a_head_in_the_file_grows_with_the_embeddings(backbone: Path, tmp_path: Path) -> None:
    out = tmp_path / "extended"
    out.mkdir()
    extend_backbone(backbone, plan_extension(load_tokenizer(backbone), TRAIN, HELDOUT, CONFIG), out)
    before, after = load_file(backbone / "model.safetensors"), load_file(out / "model.safetensors")
    grown = {name for name in before if before[name].shape != after[name].shape}
    assert {"bert.embeddings.word_embeddings.weight", "cls.predictions.bias"} <= grown
    assert all(after[name].shape[0] == before[name].shape[0] + 2 for name in grown)


@pytest.mark.parametrize(
    ("train", "heldout", "settings", "message"),
    [
        (
            TRAIN,
            [["the kernel reads a table and loads it"]],
            {},
            "2 new words change held-out text from .* 0.0% fewer.* asks for 2.0%",
        ),
        (TRAIN, HELDOUT, {"min_fertility_drop": 0.9}, "asks for 90.0%"),
        (TRAIN, HELDOUT, {"min_count": 1000}, "none of 3 broken words qualifies in 20 texts: letters and digits, 1000 times or more"),
    ],
)
def test_an_extension_that_gains_too_little_is_refused_in_one_line(
    train: list[list[str]], heldout: list[list[str]], settings: dict[str, float], message: str
) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        plan_extension(tokenizer(), train, heldout, VocabularyConfig(**{"new_words": 2, "min_count": 5, **settings}))
    assert "\n" not in str(caught.value)


def test_a_tokenizer_of_another_type_is_refused() -> None:
    byte_pairs = Tokenizer(models.BPE({"a": 0, "b": 1}, []))
    byte_pairs.pre_tokenizer = pre_tokenizers.Whitespace()
    with pytest.raises(ModelError, match="the tokenizer is of type BPE; only WordPiece"):
        plan_extension(byte_pairs, [["ab ab ab"]], [["ab"]], VocabularyConfig(new_words=1, min_count=1))


def test_a_word_that_is_known_already_is_refused() -> None:
    with pytest.raises(ModelError, match="emu would stand there twice"):
        extend_tokenizer(tokenizer(), ["emu"])


def test_only_words_of_known_letters_and_digits_are_chosen() -> None:
    broken = [
        BrokenWord("x86", 9, ("x", "##8", "##6")),
        BrokenWord("86x", 9, ("8", "##6", "##x")),
        BrokenWord("a☃", 9, ("a", "[UNK]")),
        BrokenWord("emu", 9, ("e", "##mu")),
        BrokenWord("rare", 4, ("r", "##a", "##r", "##e")),
        BrokenWord("a" * 31, 9, ("a", *["##a"] * 30)),
    ]
    assert choose_words(broken, tokenizer(), VocabularyConfig(new_words=10, min_count=5)) == ["x86"]
