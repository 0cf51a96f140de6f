"""The pretrained encoder found, copied as an artifact, and the copy checked against its digests."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acclimate import artifacts
from acclimate.backbones.loading import (
    CONFIG,
    SOURCE,
    TOKENIZER,
    WEIGHTS,
    WEIGHTS_INDEX,
    families,
    require_row_per_token,
    save_weights,
    supported,
)
from acclimate.backbones.saving import SPECIAL_TOKENS, write_tokenizer_config
from acclimate.errors import ModelError

if TYPE_CHECKING:
    from acclimate.backbones.options import ModelConfig

logger = logging.getLogger(__name__)
_HUB_TIMEOUT_S = 5.0


def find_backbone(config: ModelConfig) -> Path:
    """Locate the directory of the pretrained encoder.

    Raises:
        ModelError: missing, or not safetensors.
    """
    directory = {"package": _package_directory, "path": _path_directory, "hub": _hub_directory}[config.source](config)
    if not (directory / CONFIG).is_file():
        raise ModelError(f"model.name: {directory} has no {CONFIG}")
    if not any((directory / name).is_file() for name in (WEIGHTS, WEIGHTS_INDEX)):
        there = ", ".join(sorted(path.name for path in directory.iterdir())[:10])
        raise ModelError(
            f"model.name: {directory} has no {WEIGHTS} and no {WEIGHTS_INDEX}, it has: {there}; only safetensors weights are loaded,"
            " never pickled ones"
        )
    return directory


def read_config(config: ModelConfig) -> dict[str, Any] | None:
    """The config.json of the encoder; None where it is on the hub, and the hub does not answer at once.

    Raises:
        ModelError: see `find_backbone`; or the architecture is not supported.
    """
    if config.source == "hub":
        where, settings = f"{config.name}@{config.revision}: {CONFIG}", _config_on_hub(config)
    else:
        path = find_backbone(config) / CONFIG
        where, settings = str(path), artifacts.read_json(path)
    if settings is not None and settings.get("model_type") not in supported():
        raise ModelError(f"{where}: model_type is {settings.get('model_type')!r}; supported: {', '.join(supported())}")
    return settings


def _config_on_hub(config: ModelConfig) -> dict[str, Any] | None:
    """From the cache, else by one request: the hub's own client tries five times, which takes 40 s without a network."""
    import httpx
    from huggingface_hub import get_token, hf_hub_url, try_to_load_from_cache

    name = f"{config.subfolder}/{CONFIG}".lstrip("/")
    cached = try_to_load_from_cache(config.name, name, revision=config.revision)
    if isinstance(cached, str):
        found: dict[str, Any] = artifacts.read_json(Path(cached))
        return found
    headers = {"authorization": f"Bearer {token}"} if (token := get_token()) else {}
    url = hf_hub_url(config.name, name, revision=config.revision)
    try:
        answer = httpx.get(url, headers=headers, follow_redirects=True, timeout=_HUB_TIMEOUT_S).raise_for_status()
        found = answer.json()
    except (httpx.HTTPError, ValueError) as error:
        logger.warning("model.name: %s is not read from the hub now (%s); lengths are compared with it before training", name, error)
        return None
    return found


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
        for name in (WEIGHTS, WEIGHTS_INDEX, "model-*.safetensors", CONFIG, "tokenizer*", "vocab*", "merges.txt", SPECIAL_TOKENS)
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
        if not (source / file).is_file():
            (_convert_tokenizer if file == TOKENIZER else _join_shards)(source, out)
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
    settings = artifacts.read_json(out / CONFIG)
    if "vocab_size" in settings:
        require_row_per_token(out, int(settings["vocab_size"]))
    write_tokenizer_config(source, out)
    family = families()[settings["model_type"]]
    told = {"source": config.source, "name": config.name, "revision": config.revision, "sha256": digests}
    artifacts.write_json(out / SOURCE, {**told, "family": {"name": family, "code": code_of(family)}})


def _join_shards(source: Path, out: Path) -> None:
    """Write the weights of several safetensors files as one.

    Raises:
        ModelError: the index names a file that is not there, or a tensor that its file does not hold.
    """
    from safetensors.torch import load_file

    index = source / WEIGHTS_INDEX
    joined: dict[str, Any] = {}
    file_of: dict[str, str] = artifacts.read_json(index)["weight_map"]
    for name in sorted(set(file_of.values())):
        if Path(name).name != name or not name.endswith(".safetensors") or not (source / name).is_file():
            raise ModelError(f"{index}: names {name!r}, which is no safetensors file beside it; fetch all of the model's files")
        joined |= load_file(source / name)
    if absent := sorted(file_of.keys() - joined.keys()):
        raise ModelError(f"{index}: {len(absent)} weights are in none of its files, first {absent[0]}; fetch all of the model's files")
    save_weights({name: joined[name] for name in file_of}, out / WEIGHTS)
    logger.info("%s: %d files with %d weights are joined into %s", index, len(set(file_of.values())), len(file_of), WEIGHTS)


def _convert_tokenizer(source: Path, out: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(source), trust_remote_code=False, local_files_only=True)
    if not tokenizer.is_fast:
        raise ModelError(f"{source}: no tokenizer.json and no fast tokenizer can be made from its files")
    tokenizer.backend_tokenizer.save(str(out / TOKENIZER))
