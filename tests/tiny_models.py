"""A model of every supported architecture, with random weights and the head that it was pretrained with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

SMALL = {"vocab_size": 120, "pad_token_id": 0, "max_position_embeddings": 64}
WIDE = {**SMALL, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 48}
SETTINGS: dict[str, dict[str, Any]] = {
    "bert": WIDE,
    "roberta": {**WIDE, "pad_token_id": 1, "type_vocab_size": 1},
    "xlm-roberta": {**WIDE, "pad_token_id": 1, "type_vocab_size": 1},
    "camembert": {**WIDE, "pad_token_id": 1, "type_vocab_size": 1},
    "electra": {**WIDE, "embedding_size": 16},
    "distilbert": {**SMALL, "dim": 32, "n_layers": 3, "n_heads": 2, "hidden_dim": 48},
    "modernbert": {**WIDE, "local_attention": 8, "global_attn_every_n_layers": 2, "cls_token_id": 2, "sep_token_id": 3},
    "deberta-v2": {
        **WIDE,
        "relative_attention": True,
        "position_biased_input": False,
        "pos_att_type": ["p2c", "c2p"],
        "norm_rel_ebd": "layer_norm",
    },
    "t5": {"vocab_size": 120, "d_model": 32, "d_kv": 16, "d_ff": 48, "num_layers": 3, "num_heads": 2, "decoder_start_token_id": 0},
    "gpt2": {"vocab_size": 120, "n_positions": 64, "n_embd": 32, "n_layer": 3, "n_head": 2, "bos_token_id": 0, "eos_token_id": 0},
}
MASKED_LM = sorted(set(SETTINGS) - {"t5", "gpt2"})


def write_tiny_model(model_type: str, directory: Path, **changes: Any) -> Any:
    """Write model.safetensors and config.json, and give transformers' own model with its head, in eval mode."""
    import torch
    import transformers
    from safetensors.torch import save_file

    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(model_type, **{**SETTINGS[model_type], **changes})
    names = {"t5": "AutoModelForSeq2SeqLM", "gpt2": "AutoModelForCausalLM"}
    model = getattr(transformers, names.get(model_type, "AutoModelForMaskedLM")).from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():  # biases and norms that start at 0 and 1 would hide a forgotten one
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.1)
    config.save_pretrained(directory)
    weights = {name: tensor.contiguous().clone() for name, tensor in model.state_dict().items()}
    save_file(weights, directory / "model.safetensors", {"format": "pt"})
    return model
