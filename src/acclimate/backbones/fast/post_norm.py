"""The forward pass of post-norm encoders (BERT, RoBERTa, ELECTRA, DistilBERT), written out for training.

It gives what transformers' own forward gives, and saves what that cannot: the last layer is computed at the asked positions
alone (keys and values still at all). Of a masked-language-modelling step that is 85 % of the last layer's other work: a third
of a two-layer encoder, a twelfth of a twelve-layer one. Tokens are flat, whatever rows they come from (attention.py).

Shape suffixes: N tokens, M asked positions, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from acclimate.backbones.fast.attention import Attention


@dataclass(frozen=True)
class Layer:
    """The parts of one layer, whatever its architecture calls them. Modules, not weights: a strategy may have wrapped them."""

    query: Callable[[Tensor], Tensor]
    key: Callable[[Tensor], Tensor]
    value: Callable[[Tensor], Tensor]
    mix: Callable[[Tensor], Tensor]
    """Output projection of the attention, with dropout."""
    attention_norm: Callable[[Tensor], Tensor]
    feed_forward: Callable[[Tensor], Tensor]
    """Both products, the activation between them and dropout behind."""
    output_norm: Callable[[Tensor], Tensor]
    num_heads: int


def encode(layers: Sequence[Layer], hidden_ND: Tensor, attention: Attention, *, asked_M: Tensor | None, recomputes: bool) -> Tensor:
    """Last hidden states, (N, D), or (M, D) of the asked tokens.

    Args:
        hidden_ND: what the first layer sees.
        asked_M: indices of the tokens that `attention` too was told of.
        recomputes: keep no activations inside a layer; backward computes them again.
    """
    for layer in layers[: None if asked_M is None else -1]:
        if recomputes:
            hidden_ND = checkpoint(_whole_layer, layer, hidden_ND, attention, use_reentrant=False)
        else:
            hidden_ND = _whole_layer(layer, hidden_ND, attention)
    return hidden_ND if asked_M is None else _last_layer(layers[-1], hidden_ND, asked_M, attention)


def _whole_layer(layer: Layer, hidden_ND: Tensor, attention: Attention) -> Tensor:
    input_ND = _as_computed(hidden_ND)
    mixed_ND = attention.everywhere(layer.query(input_ND), layer.key(input_ND), layer.value(input_ND), layer.num_heads)
    return _finish(layer, mixed_ND, hidden_ND)


def _as_computed(hidden_ND: Tensor) -> Tensor:
    """In the format of autocast's products, cast once for all three and not for each."""
    device = hidden_ND.device.type
    return hidden_ND.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else hidden_ND


def _last_layer(layer: Layer, hidden_ND: Tensor, asked_M: Tensor, attention: Attention) -> Tensor:
    residual_MD = hidden_ND[asked_M]
    input_ND = _as_computed(hidden_ND)
    mixed_MD = attention.at_asked(layer.query(input_ND[asked_M]), layer.key(input_ND), layer.value(input_ND), layer.num_heads)
    return _finish(layer, mixed_MD, residual_MD)


def _finish(layer: Layer, mixed: Tensor, residual: Tensor) -> Tensor:
    attended = layer.attention_norm(layer.mix(mixed) + residual)
    return layer.output_norm(layer.feed_forward(attended) + attended)
