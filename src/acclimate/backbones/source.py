"""The pretrained encoder found, copied as an artifact, and the copy checked against its digests."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from acclimate import artifacts
from acclimate.backbones.loading import CONFIG, SOURCE, TOKENIZER, WEIGHTS, families, supported
from acclimate.errors import ModelError

if TYPE_CHECKING:
    from acclimate.backbones.options import ModelConfig


def find_backbone(config: ModelConfig) -> Path:
    """Locate the directory of the pretrained encoder.

    Raises:
        ModelError: missing, or not safetensors.
    """
    directory = {"package": _package_directory, "path": _path_directory, "hub": _hub_directory}[config.source](config)
    for name in (WEIGHTS, CONFIG):
        if not (directory / name).is_file():
            raise ModelError(f"model.name: {directory} has no {name}; only safetensors weights are loaded, never pickled ones")
    return directory


def _package_directory(config: ModelConfig) -> Path:
    spec = importlib.util.find_spec(config.name) if config.name.isidentifier() else None
    if spec is None or spec.origin is None:
        raise ModelError(f"model.name: no importable package called {config.name!r}; install it or set model.source to path or hub")
    return Path(spec.origin).parent / config.subfolder


def _path_directory(config: ModelConfig) -> Path:
    directory = Path(config.name) / config.subfolder
    if not directory.is_dir():
        raise ModelError(f"model.name: {directory} is no directory; give one that holds {WEIGHTS}, {CONFIG} and {TOKENIZER}")
    return directory


def _hub_directory(config: ModelConfig) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    patterns = [
        f"{config.subfolder}/{name}".lstrip("/")
        for name in (WEIGHTS, CONFIG, "tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json")
    ]
    try:
        return Path(snapshot_download(config.name, revision=config.revision, allow_patterns=patterns)) / config.subfolder
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise ModelError(f"model.name: hub model {config.name}@{config.revision} cannot be had: {error}") from None


def copy_backbone(config: ModelConfig, out: Path, *, code_of: Callable[[str], str]) -> None:
    """Write the encoder, its config and a fast tokenizer to `out`, with a note of where they are from and their digests.

    What is checked is the copy, which alone is used from here on.

    Args:
        code_of: digest of the code of a family, by its name; it goes into the note, so that a change of the code changes the artifact.

    Raises:
        ModelError: see `find_backbone`; or a digest differs from `config.sha256`; or the architecture is not supported; or there is no
            fast tokenizer.
    """
    source = find_backbone(config)
    pinned: dict[str, str | None] = dict(config.sha256 or {})
    digests: dict[str, str] = {}
    for name, file in (("config", CONFIG), ("weights", WEIGHTS), ("tokenizer", TOKENIZER)):
        artifacts.remove(out / file)
        if file == TOKENIZER and not (source / file).is_file():
            _convert_tokenizer(source, out)
            digests[name] = artifacts.file_sha256(out / file)
        else:
            digests[name] = artifacts.copy_hashed(source / file, out / file)
        if pinned.get(name) not in (None, digests[name]):
            raise ModelError(
                f"{source / file}: sha256 is {digests[name]}, params.yaml (model.sha256.{name}) says {pinned[name]}; the file has changed"
            )
        if file == CONFIG:
            settings = artifacts.read_json(out / file)
            if settings.get("model_type") not in supported():
                raise ModelError(f"{source / file}: model_type is {settings.get('model_type')!r}; supported: {', '.join(supported())}")
            artifacts.write_json(out / file, settings)
    family = families()[artifacts.read_json(out / CONFIG)["model_type"]]
    told = {"source": config.source, "name": config.name, "revision": config.revision, "sha256": digests}
    artifacts.write_json(out / SOURCE, {**told, "family": {"name": family, "code": code_of(family)}})


def _convert_tokenizer(source: Path, out: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(source), trust_remote_code=False, local_files_only=True)
    if not tokenizer.is_fast:
        raise ModelError(f"{source}: no tokenizer.json and no fast tokenizer can be made from its files")
    tokenizer.backend_tokenizer.save(str(out / TOKENIZER))
