"""What is checked when an encoder is taken in: files, embeddings, positions; and weights in several files are joined."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models

from acclimate.backbones.loading import family_of, length_problems, load_backbone
from acclimate.backbones.options import ModelConfig
from acclimate.backbones.source import copy_backbone, find_backbone, read_config
from acclimate.data.tokens.encoding import read_vocabulary
from acclimate.errors import ModelError
from acclimate.objectives.mlm import Mlm
from acclimate.protocols import Draw, Facts, PackedRows
from tests.tiny_models import MASKED_LM, SETTINGS, write_tiny_model

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def write_tokenizer(directory: Path, size: int) -> None:
    """Ids 0 to size - 1, the special ones first."""
    names = [*SPECIAL, *(f"word{number}" for number in range(size - len(SPECIAL)))]
    tokenizer = Tokenizer(models.WordLevel({name: number for number, name in enumerate(names)}, unk_token="[UNK]"))
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.save(str(directory / "tokenizer.json"))


def taken_in(directory: Path, out: Path) -> Path:
    out.mkdir(exist_ok=True)
    copy_backbone(ModelConfig(source="path", name=str(directory)), out, code_of=str)
    return out


def split_into_shards(directory: Path, number: int) -> dict[str, str]:
    """The weights of a directory in several files with an index, as `save_pretrained(max_shard_size=...)` writes them."""
    weights = load_file(directory / "model.safetensors")
    (directory / "model.safetensors").unlink()
    names = [f"model-{part + 1:05}-of-{number:05}.safetensors" for part in range(number)]
    file_of = {name: names[place % number] for place, name in enumerate(weights)}
    for file in names:
        save_file({name: weights[name] for name in weights if file_of[name] == file}, directory / file, {"format": "pt"})
    (directory / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": file_of}))
    return file_of


@settings(max_examples=8, deadline=None)
@given(number=st.integers(1, 9), model_type=st.sampled_from(sorted(SETTINGS)))
def test_weights_in_several_files_are_joined(number: int, model_type: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    source = tmp_path_factory.mktemp("sharded")
    write_tiny_model(model_type, source)
    write_tokenizer(source, 120)
    before = load_file(source / "model.safetensors")
    split_into_shards(source, number)
    out = taken_in(source, source / "out")
    joined = load_file(out / "model.safetensors")
    assert joined.keys() == before.keys()
    assert all(torch.equal(joined[name], tensor) for name, tensor in before.items())
    load_backbone(out)


def test_an_index_that_names_what_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    write_tiny_model("bert", tmp_path)
    write_tokenizer(tmp_path, 120)
    file_of = split_into_shards(tmp_path, 3)
    index = tmp_path / "model.safetensors.index.json"
    for wrong in ("../model-00001-of-00003.safetensors", "pytorch_model-00001-of-00002.bin", "model-00009-of-00003.safetensors"):
        index.write_text(json.dumps({"weight_map": {**file_of, "cls.predictions.bias": wrong}}))
        with pytest.raises(ModelError, match=r"model\.safetensors\.index\.json: names '.*', which is no safetensors file beside it"):
            taken_in(tmp_path, tmp_path / "out")
    index.write_text(json.dumps({"weight_map": {**file_of, "a.weight": file_of["cls.predictions.bias"]}}))
    with pytest.raises(ModelError, match=r"1 weights are in none of its files, first a\.weight"):
        taken_in(tmp_path, tmp_path / "out")


def test_pickled_weights_are_refused_with_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ModelError, match=r"no model.safetensors .* it has: config.json, pytorch_model.bin; .* never pickled ones"):
        find_backbone(ModelConfig(source="path", name=str(tmp_path)))


@pytest.mark.parametrize("has_head", [True, False])
@pytest.mark.parametrize("model_type", MASKED_LM)
def test_embeddings_padded_beyond_the_vocabulary_are_pretrained(model_type: str, has_head: bool, tmp_path: Path) -> None:
    """120 embeddings, 103 tokens; the unigram counts know the tokens alone."""
    write_tiny_model(model_type, tmp_path)
    write_tokenizer(tmp_path, 103)
    backbone = load_backbone(taken_in(tmp_path, tmp_path / "out"))
    weights = load_file(tmp_path / "model.safetensors") if has_head else {}
    facts = Facts(read_vocabulary(tmp_path), backbone.pad_id, np.ones(103), lambda: weights)
    model = Mlm().build(backbone, facts, torch.Generator())
    assert model.head.is_trained is has_head
    ids = torch.randint(5, 103, (2, 24), generator=torch.Generator().manual_seed(1))
    segments = torch.ones_like(ids)
    batch = Mlm(rate=0.3).batch(PackedRows(ids, segments, lambda: segments), facts, Draw(0, "mlm", 0))
    losses = model(batch, "mlm")
    losses["mlm"].backward()
    assert torch.isfinite(losses["mlm"])
    assert model.head.logits(backbone, torch.zeros(1, backbone.width)).shape == (1, 120)


@settings(max_examples=20, deadline=None)
@given(embeddings=st.integers(10, 40), tokens=st.integers(10, 40))
def test_a_token_without_an_embedding_is_refused(embeddings: int, tokens: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    source = tmp_path_factory.mktemp("source")
    write_tiny_model("bert", source, vocab_size=embeddings)
    write_tokenizer(source, tokens)
    if tokens <= embeddings:
        assert load_backbone(taken_in(source, source / "out")).vocabulary_size == embeddings
        return
    line = rf"token 'word{tokens - 6}' has the id {tokens - 1}, but the encoder has {embeddings} embeddings"
    with pytest.raises(ModelError, match=line):
        taken_in(source, source / "out")
    with pytest.raises(ModelError, match=line):
        load_backbone(source)


def test_weights_of_another_shape_than_the_config_says_are_refused(tmp_path: Path) -> None:
    write_tiny_model("bert", tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**settings, "vocab_size": 121}))
    with pytest.raises(ModelError, match=r"1 weights .* shape .*word_embeddings\.weight: \(120, 32\) here, \(121, 32\) there"):
        load_backbone(tmp_path)


@pytest.mark.parametrize(
    ("config", "most"),
    [
        ({"model_type": "bert", "max_position_embeddings": 40}, 40),
        ({"model_type": "bert"}, 512),
        ({"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}, 512),
        ({"model_type": "xlm-roberta", "max_position_embeddings": 514}, 512),
        ({"model_type": "camembert", "max_position_embeddings": 130, "pad_token_id": 0}, 129),
        ({"model_type": "deberta-v2", "max_position_embeddings": 512, "position_biased_input": False}, None),
        ({"model_type": "deberta-v2", "max_position_embeddings": 512}, 512),
        ({"model_type": "modernbert", "max_position_embeddings": 8192}, None),
        ({"model_type": "t5", "n_positions": 512}, None),
        ({"model_type": "gpt2", "n_positions": 1024}, 1024),
    ],
)
def test_lengths_end_where_the_positions_do(config: dict[str, Any], most: int | None) -> None:
    assert family_of(config["model_type"]).most_tokens(config) == most
    asked = {"tasks.a.max_length": most or 10**6, "tokenize.sequence_length": (most or 10**6) + 1}
    problems = length_problems(config, asked)
    assert len(problems) == (most is not None)
    for line in problems:
        assert line.startswith(f"tokenize.sequence_length: {asked['tokenize.sequence_length']} tokens")
        assert line.endswith(f"end at {most}; set it to {most} or less")


class _Hub(BaseHTTPRequestHandler):
    """Answers with the config.json of one model."""

    def do_GET(self) -> None:
        is_there = self.path == f"/org/model/resolve/{'a' * 40}/config.json"
        body = json.dumps({"model_type": "roberta", "max_position_embeddings": 130, "pad_token_id": 1}).encode() if is_there else b""
        self.send_response(200 if is_there else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_the_config_of_a_model_on_the_hub_is_asked_for_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)
    with ThreadingHTTPServer(("127.0.0.1", 0), _Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        template = f"http://127.0.0.1:{server.server_port}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        found = read_config(ModelConfig(source="hub", name="org/model", revision="a" * 40))
        assert found is not None
        assert length_problems(found, {"tokenize.sequence_length": 129}) != [] == length_problems(found, {"tokenize.sequence_length": 128})
        assert read_config(ModelConfig(source="hub", name="org/model", revision="b" * 40)) is None
        assert "config.json is not read from the hub now" in caplog.text
        server.shutdown()
    start = time.monotonic()
    assert read_config(ModelConfig(source="hub", name="org/model", revision="a" * 40)) is None
    assert time.monotonic() - start < 5
