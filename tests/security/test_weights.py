"""Model files that change between the check of their digest and their use, and checkpoints that do."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from acclimate.artifacts import file_sha256, read_json
from acclimate.backbones.options import ModelConfig
from acclimate.backbones.source import copy_backbone
from acclimate.errors import ModelError

SWAPS, MAX_TRIES = 3, 30
_SWAPS = """
import os, sys, time
from pathlib import Path
victim, path, other = int(sys.argv[1]), os.path.realpath(sys.argv[2]), sys.argv[3]
print("ready", flush=True)
deadline = time.monotonic() + 60
while time.monotonic() < deadline:
    for entry in os.scandir(f"/proc/{victim}/fd"):
        try:
            opened = os.readlink(entry.path)
        except OSError:
            continue
        if opened == path:
            os.replace(other, path)
            sys.exit()
"""
"""Replaces a file by another as soon as the victim has it open: who reads it once gets the old bytes, who opens it again the new ones."""


@contextmanager
def swapping(path: Path, other: Path) -> Iterator[None]:
    """Let another process replace a file while this one reads it. On a busy machine it may come too late; then `other` is still there."""
    command = [sys.executable, "-c", _SWAPS, str(os.getpid()), str(path), str(other)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as swapper:
        assert swapper.stdout is not None
        assert swapper.stdout.readline() == "ready\n"
        yield
        swapper.kill()


@pytest.fixture
def model(tmp_path: Path, tiny_encoder_dir: Path) -> Path:
    """An encoder whose every file takes some time to read."""
    directory = tmp_path / "model"
    directory.mkdir()
    (directory / "model.safetensors").write_bytes(os.urandom(16 << 20))
    (directory / "config.json").write_text((tiny_encoder_dir / "config.json").read_text() + " " * (8 << 20))
    (directory / "tokenizer.json").write_bytes((tiny_encoder_dir / "tokenizer.json").read_bytes() + b" " * (8 << 20))
    return directory


def digests(directory: Path) -> dict[str, str]:
    names = {"weights": "model.safetensors", "config": "config.json", "tokenizer": "tokenizer.json"}
    return {name: file_sha256(directory / file) for name, file in names.items()}


def config(directory: Path, sha256: object) -> ModelConfig:
    return ModelConfig(source="path", name=str(directory), sha256=sha256)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="sees a file being opened through /proc (Linux)")
@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_file_swapped_while_it_is_checked_is_never_used_unchecked(name: str, model: Path, tmp_path: Path) -> None:
    pinned, original, wrong, swaps = digests(model), (model / name).read_bytes(), 0, 0
    for attempt in range(MAX_TRIES):
        out, evil = tmp_path / f"out-{attempt}", tmp_path / "evil"
        out.mkdir()
        (model / name).write_bytes(original)
        evil.write_bytes(original.replace(b"BertModel", b"EvilModel") if name == "config.json" else original[:-1] + b"\n")
        with swapping(model / name, evil):
            copy_backbone(config(model, pinned), out, code_of=str)
        if evil.exists():
            continue
        swaps += 1
        used = (out / name).read_bytes()
        wrong += "EvilModel" in used.decode() if name == "config.json" else used != original
        if swaps == SWAPS:
            break
    assert swaps == SWAPS
    assert wrong == 0, f"{wrong} of {SWAPS} copies hold what was not checked"


@pytest.mark.parametrize("name", ["weights", "config", "tokenizer"])
def test_each_pinned_file_that_differs_is_refused_by_name(name: str, tiny_encoder_dir: Path, tmp_path: Path) -> None:
    pinned = {**digests(tiny_encoder_dir), name: "0" * 64}
    with pytest.raises(ModelError, match=rf"sha256 is .*model\.sha256\.{name}\) says {'0' * 64}; the file has changed"):
        copy_backbone(config(tiny_encoder_dir, pinned), tmp_path, code_of=str)


def test_a_single_digest_is_that_of_the_weights_and_all_are_noted(tiny_encoder_dir: Path, tmp_path: Path) -> None:
    pinned = digests(tiny_encoder_dir)
    copy_backbone(config(tiny_encoder_dir, pinned["weights"]), tmp_path, code_of=str)
    assert read_json(tmp_path / "source.json")["sha256"] == pinned
    with pytest.raises(ModelError, match="the file has changed"):
        copy_backbone(config(tiny_encoder_dir, "0" * 64), tmp_path, code_of=str)


def test_the_default_model_is_pinned_whole(minilm_dir: Path) -> None:
    from acclimate.params_file import read_yaml

    assert read_yaml(Path(__file__).parents[2] / "params.yaml")["model"]["sha256"] == digests(minilm_dir)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="sees a file being opened through /proc (Linux)")
def test_a_checkpoint_swapped_while_it_is_checked_is_not_loaded(tmp_path: Path) -> None:
    import torch

    from acclimate.training.checkpoints import CheckpointStore

    wrong = swaps = 0
    for attempt in range(MAX_TRIES):
        store, evil = CheckpointStore(tmp_path / str(attempt)), tmp_path / "evil"
        store.save(1, {"step": 1, "weights": torch.zeros(4 << 20)})
        torch.save({"step": 666}, evil)
        with swapping(tmp_path / str(attempt) / "step-000000001.pt", evil):
            loaded = store.load_newest()
        if evil.exists():
            continue
        swaps += 1
        wrong += loaded is None or loaded["step"] != 1
        if swaps == SWAPS:
            break
    assert swaps == SWAPS
    assert wrong == 0, f"{wrong} of {SWAPS} checkpoints loaded are not those checked"


def test_a_checkpoint_that_runs_code_is_refused(tmp_path: Path) -> None:
    import torch

    from acclimate.training.checkpoints import CheckpointStore

    class Planted:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "ran",))

    path = tmp_path / "step-000000001.pt"
    torch.save({"step": 1, "planted": Planted()}, path)
    path.with_suffix(".sha256").write_text(file_sha256(path))
    with pytest.raises(Exception, match="Weights only load failed"):
        CheckpointStore(tmp_path).load_newest()
    assert not (tmp_path / "ran").exists()
