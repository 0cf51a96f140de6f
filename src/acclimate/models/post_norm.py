"""The forward pass of post-norm encoders (BERT, RoBERTa, ELECTRA, DistilBERT), written out for training.

It gives what transformers' own forward gives, and saves what that cannot: the last layer is computed at the asked positions
alone (keys and values still at all). Of a masked-language-modelling step that is 85 % of the last layer's other work: a third
of a two-layer encoder, a twelfth of a twelve-layer one.

Shape suffixes: B rows, T tokens, P asked positions of the fullest row, M asked positions in all, D width, H heads,
E width of a head.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

Kernel = Literal["eager", "sdpa"]

MODEL_TYPES = ("bert", "roberta", "xlm-roberta", "camembert", "electra", "distilbert")
"""Architectures whose layers this module knows."""


@dataclass(frozen=True)
class Positions:
    """Positions of a batch at which hidden states are wanted, ascending."""

    flat_M: Tensor
    """Indices into the flattened (B * T)."""
    column_BP: Tensor
    """Their columns, row by row, padded with 0 to the count of the fullest row."""
    slot_M: Tensor
    """Where each stands in the flattened (B * P)."""


def positions_at(flat_M: np.ndarray, shape: tuple[int, int]) -> Positions:
    """Describe positions of a (B, T) batch.

    Args:
        flat_M: ascending indices into the flattened batch.
    """
    num_rows, num_tokens = shape
    row_M, column_M = np.divmod(flat_M, num_tokens)
    count_B = np.bincount(row_M, minlength=num_rows)
    width = max(1, int(count_B.max(initial=0)))
    slot_M = row_M * width + np.arange(len(flat_M)) - (np.cumsum(count_B) - count_B)[row_M]
    column_BP = np.zeros(num_rows * width, dtype=np.int64)
    column_BP[slot_M] = column_M
    return Positions(torch.from_numpy(flat_M), torch.from_numpy(column_BP).view(num_rows, width), torch.from_numpy(slot_M))


def first_positions(ids_BT: Tensor) -> Positions:
    """The first token of each row."""
    rows_B = torch.arange(ids_BT.shape[0], device=ids_BT.device)
    return Positions(rows_B * ids_BT.shape[1], torch.zeros_like(rows_B)[:, None], rows_B)


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


def _bert_layer(layer: Any) -> Layer:
    attention, mixed, output = layer.attention.self, layer.attention.output, layer.output
    return Layer(
        attention.query,
        attention.key,
        attention.value,
        lambda hidden: mixed.dropout(mixed.dense(hidden)),
        mixed.LayerNorm,
        lambda hidden: output.dropout(output.dense(layer.intermediate(hidden))),
        output.LayerNorm,
        attention.num_attention_heads,
    )


def _distilbert_layer(layer: Any) -> Layer:
    attention = layer.attention
    parts = (attention.q_lin, attention.k_lin, attention.v_lin, attention.out_lin)
    return Layer(*parts, layer.sa_layer_norm, layer.ffn, layer.output_layer_norm, attention.n_heads)


def layers_of(encoder: Any) -> list[Layer]:
    """The layers of an encoder of `MODEL_TYPES`, first to last."""
    if encoder.config.model_type == "distilbert":
        return [_distilbert_layer(layer) for layer in encoder.transformer.layer]
    return [_bert_layer(layer) for layer in encoder.encoder.layer]


def embed(encoder: Any, ids_BT: Tensor, position_BT: Tensor, type_ids_BT: Tensor | None) -> Tensor:
    """Sum of the embeddings, normalised, (B, T, D)."""
    given = (
        {}
        if encoder.config.model_type == "distilbert"
        else {"token_type_ids": torch.zeros_like(ids_BT) if type_ids_BT is None else type_ids_BT}
    )
    hidden_BTD: Tensor = encoder.embeddings(input_ids=ids_BT, position_ids=position_BT, **given)
    return encoder.embeddings_project(hidden_BTD) if hasattr(encoder, "embeddings_project") else hidden_BTD


def attend(query_BQD: Tensor, key_BTD: Tensor, value_BTD: Tensor, allowed: Tensor, num_heads: int, kernel: Kernel) -> Tensor:
    """Attention of Q queries a row over its T keys, (B, Q, D).

    Args:
        allowed: broadcasts to (B, 1, Q, T): for `eager` 0 or a large negative number, for `sdpa` True or False.
    """
    query_BHQE, key_BHTE, value_BHTE = (
        part.view(*part.shape[:2], num_heads, -1).transpose(1, 2) for part in (query_BQD, key_BTD, value_BTD)
    )
    if kernel == "sdpa":
        mixed_BHQE = functional.scaled_dot_product_attention(query_BHQE, key_BHTE, value_BHTE, attn_mask=allowed)
    else:
        scores_BHQT = query_BHQE @ key_BHTE.transpose(-1, -2) * query_BHQE.shape[-1] ** -0.5 + allowed
        mixed_BHQE = scores_BHQT.softmax(-1, dtype=torch.float32).to(value_BHTE.dtype) @ value_BHTE
    return mixed_BHQE.transpose(1, 2).flatten(2)


def encode(
    encoder: Any,
    ids_BT: Tensor,
    *,
    allowed: Tensor,
    position_BT: Tensor,
    type_ids_BT: Tensor | None = None,
    at: Positions | None = None,
    kernel: Kernel = "eager",
) -> Tensor:
    """Last hidden states: (B, T, D), or (M, D) at the asked positions."""
    layers = layers_of(encoder)
    hidden_BTD = embed(encoder, ids_BT, position_BT, type_ids_BT)
    recomputes = encoder.training and encoder.is_activation_checkpointing
    for layer in layers[: None if at is None else -1]:
        if recomputes:
            hidden_BTD = checkpoint(_whole_layer, layer, hidden_BTD, allowed, kernel, use_reentrant=False)
        else:
            hidden_BTD = _whole_layer(layer, hidden_BTD, allowed, kernel)
    return hidden_BTD if at is None else _last_layer(layers[-1], hidden_BTD, allowed, at, kernel)


def _whole_layer(layer: Layer, hidden_BTD: Tensor, allowed: Tensor, kernel: Kernel) -> Tensor:
    mixed_BTD = attend(layer.query(hidden_BTD), layer.key(hidden_BTD), layer.value(hidden_BTD), allowed, layer.num_heads, kernel)
    return _finish(layer, mixed_BTD, hidden_BTD)


def _last_layer(layer: Layer, hidden_BTD: Tensor, allowed: Tensor, at: Positions, kernel: Kernel) -> Tensor:
    residual_MD = hidden_BTD.flatten(0, 1)[at.flat_M]
    num_rows, width = at.column_BP.shape
    query_MD = layer.query(residual_MD)
    query_BPD = query_MD.new_zeros(num_rows * width, query_MD.shape[-1]).index_copy(0, at.slot_M, query_MD).view(num_rows, width, -1)
    if allowed.shape[2] > 1:
        allowed = allowed.gather(2, at.column_BP[:, None, :, None].expand(-1, -1, -1, allowed.shape[3]))
    mixed_BPD = attend(query_BPD, layer.key(hidden_BTD), layer.value(hidden_BTD), allowed, layer.num_heads, kernel)
    return _finish(layer, mixed_BPD.flatten(0, 1)[at.slot_M], residual_MD)


def _finish(layer: Layer, mixed: Tensor, residual: Tensor) -> Tensor:
    attended = layer.attention_norm(layer.mix(mixed) + residual)
    return layer.output_norm(layer.feed_forward(attended) + attended)
