"""From a directory to a backbone; which family reads what."""

from __future__ import annotations

import ast
import functools
import importlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acclimate import artifacts
from acclimate.data.tokens.encoding import load_tokenizer
from acclimate.errors import ModelError

if TYPE_CHECKING:
    from acclimate.backbones.base import Backbone

WEIGHTS, CONFIG, TOKENIZER = "model.safetensors", "config.json", "tokenizer.json"
WEIGHTS_INDEX = "model.safetensors.index.json"
"""Stands in for the weights where they lie in several files."""
SOURCE = "source.json"
"""Where a backbone is from, and the digest of its family's code."""
_TASK_HEADS = ("classifier.", "qa_outputs.", "score.", "dropout.", "classification_head.", "pooler.")
"""Heads of checkpoints that were fine-tuned before."""

logger = logging.getLogger(__name__)


@functools.cache
def families() -> dict[str, str]:
    """Model types, and the file beside this one whose class reads each.

    The files are read, not imported: which types there are must be known where torch is not loaded.
    """
    found: dict[str, str] = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.AnnAssign) and node.value and ast.unparse(node.target) == "model_types":
                found |= dict.fromkeys(ast.literal_eval(node.value), path.stem)
    return found


def supported() -> list[str]:
    """Model types that some family reads, sorted."""
    return sorted(families())


def family_of(model_type: str) -> type[Backbone]:
    """The class that reads a model type.

    Raises:
        ModelError: there is none.
    """
    if model_type not in families():
        raise ModelError(f"model_type is {model_type!r}; supported: {', '.join(supported())}")
    family: type[Backbone] = importlib.import_module(f"acclimate.backbones.{families()[model_type]}").COMPONENT
    return family


def resolve_attention(wanted: str, model_type: str) -> str:
    """The attention kernel that is used: the wish, or what there is instead, which a warning names.

    `auto`: on a CPU eager (4,358 against 3,288 tokens/s for sdpa's flash kernel, whose backward is slow there at 128 tokens), on a GPU
    sdpa. `varlen` needs a GPU and a family that has it.
    """
    import torch

    has_gpu, kernels = torch.cuda.is_available(), family_of(model_type).kernels
    plain = "sdpa" if has_gpu and "sdpa" in kernels else "eager"
    used = plain if wanted == "auto" else wanted
    if used not in kernels or (used == "varlen" and not has_gpu):
        used = plain
    if wanted not in ("auto", used):
        logger.warning(
            "train.attention: %s is not available for %s on this %s; using %s", wanted, model_type, "GPU" if has_gpu else "CPU", used
        )
    return used


def load_backbone(directory: Path, *, dropout: float = 0.0, attention: str = "auto") -> Backbone:
    """Load a model without pooler or head, fp32, in eval mode.

    Args:
        dropout: rate of the hidden dropout while training. Attention dropout is 0: it forces the slow attention
            path and cost 7 % of the tokens/s on a CPU.
        attention: see `resolve_attention`.
    Raises:
        ModelError: missing files, no family for the model's type, or weights that do not fit the config.
    """
    if not (directory / WEIGHTS).is_file():
        raise ModelError(f"{directory}: no {WEIGHTS}; has the stage that makes it run?")
    model_type = artifacts.read_json(directory / CONFIG).get("model_type")
    family = family_of(model_type)
    rates = {**dict.fromkeys(family.dropout_fields, dropout), **dict.fromkeys(family.attention_dropout_fields, 0.0)}
    used = resolve_attention(attention, model_type)
    model = family.new_model(directory, "sdpa" if used == "varlen" else used, rates)
    _load_weights(model, directory, family)
    backbone = family(model, varlen=used == "varlen").eval()
    require_row_per_token(directory, backbone.vocabulary_size)
    return backbone


def require_row_per_token(directory: Path, num_rows: int) -> None:
    """Refuse a tokenizer that gives ids without an embedding. More rows than tokens are well: many encoders are padded so.

    Raises:
        ModelError: the greatest id is beyond the last row.
    """
    if not (directory / TOKENIZER).is_file():
        return
    token, greatest = max(load_tokenizer(directory).get_vocab().items(), key=lambda item: item[1])
    if greatest >= num_rows:
        raise ModelError(
            f"{directory / TOKENIZER}: token {token!r} has the id {greatest}, but the encoder has {num_rows} embeddings (ids 0 to"
            f" {num_rows - 1}); the tokenizer is another model's, or tokens were added without resizing the embeddings"
        )


def length_problems(settings: Mapping[str, Any], lengths: Mapping[str, int]) -> list[str]:
    """A line for each length that is greater than an encoder's positions.

    Args:
        settings: its config.json.
        lengths: tokens of a text or a row, by the key of params.yaml that says so.
    """
    model_type = settings.get("model_type")
    most = family_of(str(model_type)).most_tokens(settings)
    return [
        f"{key}: {length} tokens, but the positions of the encoder (model_type {model_type}) end at {most}; set it to {most} or less"
        for key, length in lengths.items()
        if most is not None and length > most
    ]


def require_lengths(directory: Path, lengths: Mapping[str, int]) -> None:
    """Refuse lengths that are greater than an encoder's positions, before anything is computed.

    Raises:
        ModelError: every one, one a line.
    """
    if found := length_problems(artifacts.read_json(directory / CONFIG), lengths):
        raise ModelError("\n  ".join(found))


def _load_weights(model: Any, directory: Path, family: type[Backbone]) -> None:
    """Fill in the model's weights; each of the file's must be the model's or a known head's.

    Checkpoints with a head name their encoder's weights `bert.…`; ours have no prefix.
    """
    from safetensors.torch import load_file

    weights = {_renamed(name): tensor for name, tensor in load_file(directory / WEIGHTS).items()}
    prefix = f"{model.base_model_prefix}."
    own = {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)} or weights
    own_shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    unlike = [name for name, tensor in own.items() if name in own_shapes and tuple(tensor.shape) != own_shapes[name]]
    if unlike:
        raise ModelError(
            f"{directory / WEIGHTS}: {len(unlike)} weights have another shape than {CONFIG} says, first {unlike[0]}:"
            f" {tuple(own[unlike[0]].shape)} here, {own_shapes[unlike[0]]} there"
        )
    absent, unexpected = model.load_state_dict(own, strict=False)
    named = model.state_dict(keep_vars=True)
    filled = {id(named[name]) for name in own if name in named}
    missing = [name for name in absent if id(named[name]) not in filled]  # a tied weight stands there under one of its names
    if missing:
        raise ModelError(f"{directory / WEIGHTS}: {len(missing)} weights are missing, first {missing[0]}; it does not fit {CONFIG}")
    beside = [name for name in weights if not name.startswith(prefix)] if own is not weights else []
    known, buffers = (*family.head_weights, *_TASK_HEADS), tuple(f".{name}" for name in family.old_buffers)
    strange = [name for name in (*unexpected, *beside) if not name.startswith(known) and not f".{name}".endswith(buffers)]
    if strange:
        raise ModelError(
            f"{directory / WEIGHTS}: {len(strange)} weights are neither the model's nor a known head's, first {strange[0]};"
            f" it does not fit {CONFIG}"
        )


def _renamed(name: str) -> str:
    """Old checkpoints call a norm's weight and bias gamma and beta."""
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


def save_weights(state: dict[str, Any], path: Path) -> None:
    """Write a state dict as safetensors, byte-identical for equal weights."""
    from safetensors.torch import save_file

    save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in sorted(state.items())}, path, {"format": "pt"})
