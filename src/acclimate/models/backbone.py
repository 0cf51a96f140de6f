"""The pretrained encoder: found, copied as an artifact, the copy checked against its digests, loaded.

Shape suffixes used in models/: B batch, T tokens, D width, V vocabulary, C outputs.
"""

from __future__ import annotations

import importlib.util
import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acclimate import artifacts
from acclimate.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from acclimate.models.options import ModelConfig

WEIGHTS, CONFIG, TOKENIZER = "model.safetensors", "config.json", "tokenizer.json"
SUPPORTED = ("bert", "roberta", "electra", "xlm-roberta", "camembert", "distilbert", "modernbert", "deberta-v2")
"""Architectures whose packed rows and masked-language-model head are compared with transformers' own (tests/parity)."""
POST_NORM = ("bert", "roberta", "xlm-roberta", "camembert", "electra", "distilbert")
"""Of those, the ones whose layers post_norm.py writes out."""
_HAS_POOLER = ("bert", "roberta", "xlm-roberta", "camembert")
_HIDDEN_DROPOUT = {"distilbert": "dropout", "modernbert": "mlp_dropout"}
_ATTENTION_DROPOUT = {"distilbert": "attention_dropout", "modernbert": "attention_dropout"}

logger = logging.getLogger(__name__)


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


def copy_backbone(config: ModelConfig, out: Path) -> None:
    """Write the encoder, its config and a fast tokenizer to `out`, with a note of where they are from and their digests.

    What is checked is the copy, which alone is used from here on.

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
            if settings.get("model_type") not in SUPPORTED:
                raise ModelError(f"{source / file}: model_type is {settings.get('model_type')!r}; supported: {', '.join(SUPPORTED)}")
            artifacts.write_json(out / file, settings)
    artifacts.write_json(
        out / "source.json", {"source": config.source, "name": config.name, "revision": config.revision, "sha256": digests}
    )


def _convert_tokenizer(source: Path, out: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(source), trust_remote_code=False, local_files_only=True)
    if not tokenizer.is_fast:
        raise ModelError(f"{source}: no tokenizer.json and no fast tokenizer can be made from its files")
    tokenizer.backend_tokenizer.save(str(out / TOKENIZER))


def resolve_attention(wanted: str, model_type: str) -> str:
    """The attention kernel that is used: the wish, or what there is instead, which a warning names.

    `auto`: on a CPU eager (4,358 against 3,288 tokens/s for sdpa's flash kernel, whose backward is slow there at 128 tokens), on a GPU
    sdpa. DeBERTa has eager alone; `varlen` needs a GPU and an architecture of `POST_NORM`.
    """
    import torch

    has_gpu = torch.cuda.is_available()
    used = ("sdpa" if has_gpu else "eager") if wanted == "auto" else wanted
    if used == "varlen" and not (has_gpu and model_type in POST_NORM):
        used = "sdpa" if has_gpu else "eager"
    if model_type == "deberta-v2":
        used = "eager"
    if wanted not in ("auto", used):
        logger.warning(
            "train.attention: %s is not to be had for %s on this %s; %s is used", wanted, model_type, "GPU" if has_gpu else "CPU", used
        )
    return used


def load_encoder(directory: Path, *, dropout: float = 0.0, attention: str = "auto") -> PreTrainedModel:
    """Load an encoder without pooler or head, fp32, in eval mode.

    Args:
        dropout: rate of the hidden dropout while training. Attention dropout is 0: it forces the slow attention
            path and cost 7 % of the tokens/s on a CPU.
        attention: see `resolve_attention`.
    Raises:
        ModelError: missing files, or weights that do not fit the config.
    """
    from safetensors.torch import load_file

    if not (directory / WEIGHTS).is_file():
        raise ModelError(f"{directory}: no {WEIGHTS}; has the stage that makes it run?")
    model_type = artifacts.read_json(directory / CONFIG).get("model_type")
    settings: dict[str, Any] = {
        _HIDDEN_DROPOUT.get(model_type, "hidden_dropout_prob"): dropout,
        _ATTENTION_DROPOUT.get(model_type, "attention_probs_dropout_prob"): 0.0,
    }
    used = resolve_attention(attention, model_type)
    encoder = _new_encoder(directory, model_type, "sdpa" if used == "varlen" else used, settings)
    encoder.wants_varlen = used == "varlen"
    missing, unexpected = encoder.load_state_dict(_strip_prefix(load_file(directory / WEIGHTS), encoder), strict=False)
    if missing:
        raise ModelError(f"{directory / WEIGHTS}: {len(missing)} weights are missing, first {missing[0]}; it does not fit {CONFIG}")
    logger.debug("%s: %d tensors not used (pooler or head)", directory, len(unexpected))
    return encoder.eval()


def _new_encoder(directory: Path, model_type: str, attention: str, settings: dict[str, Any]) -> PreTrainedModel:
    """An encoder with random weights; BERT's class directly, since the Auto classes take 3 s longer to import."""
    if model_type == "bert":
        from transformers.models.bert.configuration_bert import BertConfig
        from transformers.models.bert.modeling_bert import BertModel

        bert_config = BertConfig.from_pretrained(str(directory), **settings)
        bert_config._attn_implementation = attention
        return BertModel(bert_config, add_pooling_layer=False)
    from transformers import AutoConfig, AutoModel

    config = AutoConfig.from_pretrained(str(directory), trust_remote_code=False, local_files_only=True, **settings)
    pooling: dict[str, Any] = {"add_pooling_layer": False} if model_type in _HAS_POOLER else {}
    model: PreTrainedModel = AutoModel.from_config(config, trust_remote_code=False, attn_implementation=attention, **pooling)
    return model


def _strip_prefix(weights: dict[str, Any], encoder: PreTrainedModel) -> dict[str, Any]:
    """Checkpoints with a head name their encoder's weights `bert.…`; ours have no prefix."""
    prefix = f"{encoder.base_model_prefix}."
    if any(name.startswith(prefix) for name in weights):
        weights = {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
    renamed = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}
    for old, new in renamed.items():
        weights = {name.replace(old, new): tensor for name, tensor in weights.items()}
    return weights


def save_encoder(encoder: PreTrainedModel, template: Path, out: Path) -> None:
    """Write weights (fp32 safetensors) beside the config and tokenizer of the encoder it came from."""
    save_weights(encoder.state_dict(), out / WEIGHTS)
    for name in (CONFIG, TOKENIZER):
        shutil.copyfile(template / name, out / name)


def save_weights(state: dict[str, Any], path: Path) -> None:
    """Write a state dict as safetensors, byte-identical for equal weights."""
    from safetensors.torch import save_file

    save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in sorted(state.items())}, path, {"format": "pt"})
