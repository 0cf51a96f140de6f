"""From a backbone to a directory that transformers and sentence-transformers read too, and that gives there what it gives here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tokenizers import Tokenizer

from acclimate import artifacts
from acclimate.backbones.loading import CONFIG, TOKENIZER, WEIGHTS, family_of, save_weights
from acclimate.data.tokens.encoding import load_tokenizer

if TYPE_CHECKING:
    from acclimate.backbones.base import Backbone

TOKENIZER_CONFIG, SPECIAL_TOKENS = "tokenizer_config.json", "special_tokens_map.json"
SENTENCE_MODULES = "modules.json"
_ROLES = {
    "pad_token": ("[PAD]", "<pad>"),
    "unk_token": ("[UNK]", "<unk>"),
    "cls_token": ("[CLS]", "<s>"),
    "sep_token": ("[SEP]", "</s>"),
    "mask_token": ("[MASK]", "<mask>"),
}
_NO_LIMIT = 10**9
"""transformers writes 1e30 where a tokenizer knows no greatest length."""


def save_backbone(backbone: Backbone, template: Path, out: Path) -> None:
    """Write weights (fp32 safetensors) with the config and tokenizer of the backbone it came from."""
    state, tied = backbone.model.state_dict(), getattr(backbone.model, "_tied_weights_keys", None) or {}
    twice = {name for name, source in dict(tied).items() if state[name].data_ptr() == state[source].data_ptr()}
    save_weights({name: tensor for name, tensor in state.items() if name not in twice}, out / WEIGHTS)
    artifacts.write_json(out / CONFIG, saved_config(template, type(backbone.model).__name__))
    copy_tokenizer(template, out)
    if backbone.shape == "encoder":
        write_sentence_modules(out, width=backbone.width, pooling="mean", max_length=backbone.max_length)


def write_tokenizer_config(source: Path, out: Path) -> None:
    """Write tokenizer_config.json and special_tokens_map.json for the tokenizer.json of `out`, from what `source` says of them.

    The class is the one that takes tokenizer.json as it is: `BertTokenizer` and its like build the tokenizer again from a few settings,
    and lower-case where none says otherwise.
    """
    said, settings = _json_or_nothing(source / TOKENIZER_CONFIG), artifacts.read_json(out / CONFIG)
    tokenizer = load_tokenizer(out)
    roles: dict[str, Any] = {
        role: next((name for name in names if tokenizer.token_to_id(name) is not None), None) for role, names in _ROLES.items()
    }
    # A role of a token that tokenizer.json does not hold would make transformers add it, with an id beyond the embeddings.
    for role, token in {**_json_or_nothing(source / SPECIAL_TOKENS), **{name: said[name] for name in said if _is_role(name)}}.items():
        roles[role] = token if _has(tokenizer, token) else roles.get(role)
    named = {role: token for role, token in roles.items() if token is not None}
    longest = family_of(settings["model_type"]).most_tokens(settings)
    lengths = [length for length in (said.get("model_max_length"), longest) if length is not None and length < _NO_LIMIT]
    inputs = ["input_ids", *(["token_type_ids"] if int(settings.get("type_vocab_size", 0)) > 1 else []), "attention_mask"]
    others = {name: value for name, value in said.items() if not _is_role(name)}
    written = {"model_input_names": inputs, **others, **named, "tokenizer_class": "PreTrainedTokenizerFast"}
    written |= {"model_max_length": min(lengths)} if lengths else {}
    artifacts.write_json(out / TOKENIZER_CONFIG, written)
    artifacts.write_json(out / SPECIAL_TOKENS, named)


def copy_tokenizer(template: Path, out: Path, *, max_length: int | None = None) -> None:
    """Copy tokenizer.json and what stands beside it.

    Args:
        max_length: where texts are cut; it becomes `model_max_length`.
    """
    for name in (TOKENIZER, SPECIAL_TOKENS):
        if (template / name).is_file():
            artifacts.copy_hashed(template / name, out / name)
    if said := _json_or_nothing(template / TOKENIZER_CONFIG):
        artifacts.write_json(out / TOKENIZER_CONFIG, said if max_length is None else {**said, "model_max_length": max_length})


def saved_config(template: Path, architecture: str, **changes: Any) -> dict[str, Any]:
    """The config of weights that are saved in float32.

    Args:
        architecture: the class of transformers whose weights they are.
    """
    settings = artifacts.read_json(template / CONFIG)
    precision = {"dtype": "float32", **({"torch_dtype": "float32"} if "torch_dtype" in settings else {})}
    return {**settings, **precision, "architectures": [architecture], **changes}


def write_sentence_modules(out: Path, *, width: int, pooling: Literal["mean", "first"], max_length: int | None) -> None:
    """What `SentenceTransformer` needs to pool as we do: one vector a text, not normalised."""
    parts = (("", "Transformer"), ("1_Pooling", "Pooling"))
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"} for i, (path, kind) in enumerate(parts)
    ]
    artifacts.write_json(out / SENTENCE_MODULES, modules)
    artifacts.write_json(out / "sentence_bert_config.json", {"max_seq_length": max_length, "do_lower_case": False})
    (out / "1_Pooling").mkdir(exist_ok=True)
    chosen = {"pooling_mode_mean_tokens": pooling == "mean", "pooling_mode_cls_token": pooling == "first"}
    artifacts.write_json(out / "1_Pooling" / CONFIG, {"word_embedding_dimension": width, **chosen})


def _is_role(name: str) -> bool:
    return name.endswith(("_token", "_special_tokens")) and not name.startswith("add_")


def _has(tokenizer: Tokenizer, token: Any) -> bool:
    """Whether what a role holds are tokens: a text, a token with its settings, or a list of these."""
    if isinstance(token, list):
        return all(_has(tokenizer, each) for each in token)
    content = token.get("content") if isinstance(token, dict) else token
    return isinstance(content, str) and tokenizer.token_to_id(content) is not None


def _json_or_nothing(path: Path) -> dict[str, Any]:
    return artifacts.read_json(path) if path.is_file() else {}
