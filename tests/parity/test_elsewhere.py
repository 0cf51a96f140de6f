"""What leaves the pipeline, loaded by transformers and sentence-transformers: our numbers, or a refusal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from acclimate import kinds, plugins
from acclimate.backbones.loading import load_backbone
from acclimate.backbones.options import ModelConfig
from acclimate.backbones.saving import save_backbone
from acclimate.backbones.source import copy_backbone
from acclimate.data.tokens.encoding import encode_texts, load_tokenizer
from acclimate.training.task_model import TaskModel, TaskSpec, load_task_model, pool, save_task_model
from tests.tiny_models import SETTINGS, write_tiny_model

LABELS: dict[str, list[str] | None] = {
    "classification": ["red", "blue", "green"],
    "multi_label": ["red", "blue"],
    "regression": None,
    "tagging": ["O", "B-X", "I-X"],
    "extractive_qa": None,
}
PER_TEXT = ("classification", "multi_label", "regression")
FIRST_TOKEN = {"bert", "roberta", "xlm-roberta", "camembert", "electra", "deberta-v2"}
"""Families whose class of transformers has room for a head on the first token."""
NO_CLASS = {"modernbert", "t5"}
TEXTS = ["A Graphical Editor by GNU", "plays music; reads the Manual twice", "\u00c9t\u00e9 na\u00efve x"]
LOSSLESS = 1e-5
"""Of numbers of order 10, in standard deviations for regression: two orders of float32's sums."""


def write_tokenizer(directory: Path, style: str) -> None:
    """A tokenizer of at most 120 tokens in the style of a family: `cased`, `uncased`, `bytes` (RoBERTa) or `pieces` (DeBERTa-v3)."""
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"] if style == "bytes" else ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    first, last = (special[0], special[2]) if style == "bytes" else (special[2], special[3])
    if style == "bytes":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
        trainer: Any = trainers.BpeTrainer(vocab_size=120, special_tokens=special, show_progress=False)
    elif style == "pieces":
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(vocab_size=100, special_tokens=special, unk_token="[UNK]", show_progress=False)
    else:
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=style == "uncased")
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(vocab_size=120, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(TEXTS * 3, trainer)
    ids = [(name, tokenizer.token_to_id(name)) for name in (first, last)]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}", pair=f"{first} $A {last} $B:1 {last}:1", special_tokens=ids
    )
    tokenizer.save(str(directory / "tokenizer.json"))


def encoder(model_type: str, directory: Path, *, style: str | None = None, said: dict[str, Any] | None = None) -> Path:
    """A tiny model as somebody may have it, taken in as the stage `backbone` does."""
    write_tiny_model(model_type, directory)
    write_tokenizer(directory, style or ("bytes" if SETTINGS[model_type].get("pad_token_id") == 1 else "uncased"))
    if said is not None:
        (directory / "tokenizer_config.json").write_text(json.dumps(said))
    out = directory / "base"
    out.mkdir()
    copy_backbone(ModelConfig(source="path", name=str(directory)), out, code_of=str)
    return out


@pytest.fixture(scope="module", params=sorted(SETTINGS))
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    return request.param, encoder(request.param, tmp_path_factory.mktemp(request.param))


def fine_tuned(directory: Path, kind: str, pooling: str, out: Path, strategy: str = "full") -> TaskModel:
    """A model of a kind with a head of order 1, saved."""
    labels, model_part = LABELS[kind], kinds.model(kind)
    torch.manual_seed(3)
    backbone = load_backbone(directory)
    spec = TaskSpec(
        name="toy",
        kind=kind,
        labels=labels,
        pair=False,
        metric="m",
        pooling=pooling,
        max_length=16,
        encoder="base",
        seed=0,
        hidden_size=backbone.width,
        num_outputs=model_part.num_outputs(labels),
        recipe="full",
        strategy={strategy: {}},
    )
    model = TaskModel(backbone, spec)
    plugins.configure("strategies", strategy, {}, where=strategy).apply(model, torch.Generator().manual_seed(0))
    torch.nn.init.normal_(model.head.weight)  # type: ignore[arg-type]
    torch.nn.init.normal_(model.head.bias)  # type: ignore[arg-type]
    if kind == "regression":
        model.output_shift.fill_(500_000)
        model.output_scale.fill_(200_000)
    save_task_model(model.eval(), directory, out)
    return model


def rows(model: TaskModel) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.randint(5, 60, (3, 14), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[1, 9:] = 0
    return ids.masked_fill(mask == 0, model.backbone.pad_id), mask


@pytest.mark.parametrize(
    ("kind", "pooling"),
    [(kind, pooling) for kind in PER_TEXT for pooling in ("mean", "first")] + [("tagging", "mean"), ("extractive_qa", "mean")],
)
@torch.inference_mode()
def test_the_auto_class_of_a_kind_gives_our_logits_or_refuses(kind: str, pooling: str, base: tuple[str, Path], tmp_path: Path) -> None:
    model_type, directory = base
    model = fine_tuned(directory, kind, pooling, tmp_path)
    ids, mask = rows(model)
    expected = model(ids, mask)
    torch.testing.assert_close(load_task_model(tmp_path)(ids, mask), expected, rtol=0, atol=0)
    settings = json.loads((tmp_path / "config.json").read_text())
    names = LABELS[kind] or [f"LABEL_{place}" for place in range(settings["num_labels"])]
    assert settings["id2label"] == {str(place): name for place, name in enumerate(names)}
    assert settings["label2id"] == {name: place for place, name in enumerate(names)}
    assert settings["problem_type"] == kinds.model(kind).problem_type
    assert settings["architectures"][0].endswith(f"For{kinds.model(kind).task_class}")
    auto_class = getattr(transformers, f"AutoModelFor{kinds.model(kind).task_class}")
    loads = model_type not in NO_CLASS and (kind not in PER_TEXT or (pooling == "first" and model_type in FIRST_TOKEN))
    assert ("loads it and gives the same numbers" in (tmp_path / "README.md").read_text()) is loads
    if not loads:
        with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
            auto_class.from_pretrained(tmp_path)
        return
    theirs = auto_class.from_pretrained(tmp_path).eval()
    assert theirs.config.num_labels == len(names)
    found = theirs(input_ids=ids, attention_mask=mask)
    logits = found.logits if hasattr(found, "logits") else torch.stack([found.start_logits, found.end_logits], dim=-1)
    kept = mask.bool() if expected.ndim == 3 else slice(None)
    torch.testing.assert_close(logits[kept] / model.output_scale, expected[kept] / model.output_scale, rtol=0, atol=LOSSLESS)


@torch.inference_mode()
def test_auto_model_gives_the_hidden_states_of_every_directory(base: tuple[str, Path], tmp_path: Path) -> None:
    model_type, directory = base
    backbone = load_backbone(directory)
    (tmp_path / "encoder").mkdir()
    (tmp_path / "task").mkdir()
    save_backbone(backbone, directory, tmp_path / "encoder")
    model = fine_tuned(directory, "tagging", "mean", tmp_path / "task")
    ids, mask = rows(model)
    expected = backbone.padded(ids, mask)[mask.bool()]
    for place in (directory, tmp_path / "encoder", tmp_path / "task"):
        auto_class = transformers.T5EncoderModel if model_type == "t5" else transformers.AutoModel
        found = auto_class.from_pretrained(place).eval()(input_ids=ids, attention_mask=mask).last_hidden_state[mask.bool()]
        torch.testing.assert_close(found, expected, rtol=0, atol=LOSSLESS)


@pytest.mark.parametrize("strategy", ["adapter", "prompt"])
def test_what_a_strategy_leaves_beside_the_weights_is_refused(strategy: str, tmp_path: Path) -> None:
    directory = encoder("bert", tmp_path)
    (tmp_path / "out").mkdir()
    fine_tuned(directory, "tagging", "mean", tmp_path / "out", strategy)
    with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
        transformers.AutoModelForTokenClassification.from_pretrained(tmp_path / "out")


SAID = st.sampled_from(
    [
        None,
        {},
        {"tokenizer_class": "BertTokenizer", "do_lower_case": False, "pad_token": "[PAD]", "model_max_length": 48},
        {"tokenizer_class": "BertTokenizer"},
        {"tokenizer_class": "RobertaTokenizer", "model_max_length": 10**30},
        {"tokenizer_class": "PreTrainedTokenizerFast", "model_input_names": ["input_ids", "attention_mask"]},
        {"tokenizer_class": "DebertaV2Tokenizer", "do_lower_case": True},
    ]
)


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Encoders by family, style of tokenizer and what the source's tokenizer_config.json says, each made once."""
    made: dict[str, Path] = {}

    def take(style: str, said: dict[str, Any] | None) -> Path:
        model_type = "roberta" if style == "bytes" else "bert"
        key = json.dumps([style, said])
        if key not in made:
            made[key] = encoder(model_type, tmp_path_factory.mktemp("taken"), style=style, said=said)
        return made[key]

    return take


@settings(max_examples=60, deadline=None)
@given(
    style=st.sampled_from(["cased", "uncased", "bytes", "pieces"]),
    said=SAID,
    texts=st.lists(st.one_of(st.sampled_from(TEXTS), st.text(min_size=1, max_size=40)), min_size=1, max_size=3),
)
def test_auto_tokenizer_gives_the_ids_that_training_read(style: str, said: dict[str, Any] | None, texts: list[str], taken: Any) -> None:
    directory = taken(style, said)
    ours, theirs = load_tokenizer(directory), transformers.AutoTokenizer.from_pretrained(directory)
    for text in texts:
        assert theirs(text)["input_ids"] == ours.encode(text).ids
        assert (
            theirs(text, text, truncation=True, max_length=12)["input_ids"]
            == encode_texts(ours, [text], [text], max_length=12).ids.tolist()
        )
    pad = "<pad>" if style == "bytes" else "[PAD]"
    assert (theirs.pad_token, theirs.pad_token_id) == (pad, load_backbone(directory).pad_id)
    assert theirs.model_max_length == min((said or {}).get("model_max_length", 64), 62 if style == "bytes" else 64)
    padded = theirs(["a", "a graphical editor"], padding=True)
    assert len({len(ids) for ids in padded["input_ids"]}) == 1


def test_the_tokenizer_of_a_fine_tuned_directory_cuts_where_training_did(tmp_path: Path) -> None:
    directory = encoder("bert", tmp_path, style="cased", said={"tokenizer_class": "BertTokenizer", "do_lower_case": False})
    (tmp_path / "out").mkdir()
    fine_tuned(directory, "classification", "mean", tmp_path / "out")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    long = " ".join(TEXTS)
    assert theirs(long, truncation=True)["input_ids"] == encode_texts(load_tokenizer(directory), [long], max_length=16).ids.tolist()


@torch.inference_mode()
def our_logits(model: TaskModel, directory: Path, text: str) -> np.ndarray:
    ids = torch.from_numpy(encode_texts(load_tokenizer(directory), [text], max_length=16).ids.astype(np.int64))[None]
    logits: np.ndarray = model(ids, torch.ones_like(ids)).numpy()[0]
    return logits


def test_pipelines_give_our_answers_or_refuse(tmp_path: Path) -> None:
    directory = encoder("bert", tmp_path)
    for name in ("first", "mean", "tags"):
        (tmp_path / name).mkdir()
    model = fine_tuned(directory, "classification", "first", tmp_path / "first")
    classify = transformers.pipeline("text-classification", model=str(tmp_path / "first"), top_k=None)
    for text in TEXTS:
        logits = our_logits(model, directory, text)
        ours = dict(zip(LABELS["classification"] or [], np.exp(logits) / np.exp(logits).sum(), strict=True))
        assert {each["label"]: each["score"] for each in classify([text])[0]} == pytest.approx(ours, abs=LOSSLESS)
    tagger = fine_tuned(directory, "tagging", "mean", tmp_path / "tags")
    tag = transformers.pipeline("token-classification", model=str(tmp_path / "tags"), ignore_labels=[])
    for text in TEXTS:
        tags = [(LABELS["tagging"] or [])[best] for best in our_logits(tagger, directory, text).argmax(axis=1)[1:-1]]
        assert [each["entity"] for each in tag(text)] == tags
    fine_tuned(directory, "classification", "mean", tmp_path / "mean")
    with pytest.raises(ValueError, match="Could not load model"):
        transformers.pipeline("text-classification", model=str(tmp_path / "mean"))


@pytest.mark.parametrize("pooling", ["mean", "first"])
@torch.inference_mode()
def test_sentence_transformers_pool_as_we_do(pooling: Any, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    directory = encoder("roberta", tmp_path)
    backbone = load_backbone(directory)
    (tmp_path / "encoder").mkdir()
    (tmp_path / "task").mkdir()
    save_backbone(backbone, directory, tmp_path / "encoder")
    fine_tuned(directory, "classification", pooling, tmp_path / "task")
    for place, how, most in ((tmp_path / "encoder", "mean", 62), (tmp_path / "task", pooling, 16)):
        theirs = SentenceTransformer(str(place), device="cpu")
        assert theirs.max_seq_length == most
        found = theirs.encode(TEXTS)
        for text, vector in zip(TEXTS, found, strict=True):
            ids = torch.from_numpy(encode_texts(load_tokenizer(directory), [text], max_length=most).ids.astype(np.int64))[None]
            mask = torch.ones_like(ids)
            np.testing.assert_allclose(vector, pool(backbone.padded(ids, mask), mask, how)[0].numpy(), atol=LOSSLESS)
