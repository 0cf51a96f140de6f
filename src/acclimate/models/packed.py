"""Rows as encoders read them: packed, with attention inside a document and positions counted from its start, or without padding."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from acclimate.models import post_norm
from acclimate.models.attention import (
    Attention,
    Pieces,
    Positions,
    RealTokens,
    RowAttention,
    UnpaddedAttention,
    VarlenAttention,
    as_bias,
    first_positions,
    pad,
)
from acclimate.models.backbone import POST_NORM

_ROBERTA_LIKE = ("roberta", "xlm-roberta", "camembert")
"""Count positions from the padding id on."""


_WORTH_UNPADDING = 16.0
"""Padding's share times the width from which on leaving it out pays on a CPU: at 9 % of padding BERT-mini gains 7 %, BERT-tiny loses
4 %."""


def block_mask(segments_BT: Tensor, *, additive: bool) -> Tensor:
    """Which token may see which: those of the same document.

    Args:
        segments_BT: document number inside the row.
        additive: give 0 and a large negative number (eager attention) rather than True and False (sdpa).
    Returns:
        (B, 1, T, T).
    """
    same_B1TT = segments_BT[:, None, :, None] == segments_BT[:, None, None, :]
    return as_bias(same_B1TT) if additive else same_B1TT


def positions(segments_BT: Tensor) -> Tensor:
    """Position of each token inside its document's piece: (B, T), counted from 0."""
    index_BT = torch.arange(segments_BT.shape[1], device=segments_BT.device).expand_as(segments_BT)
    starts_BT = torch.ones_like(segments_BT, dtype=torch.bool)
    starts_BT[:, 1:] = segments_BT[:, 1:] != segments_BT[:, :-1]
    return index_BT - torch.cummax(torch.where(starts_BT, index_BT, 0), dim=1).values


def encode_packed(
    encoder: Any, ids_BT: Tensor, segments_BT: Tensor, *, at: Positions | None = None, pieces: Pieces | None = None
) -> Tensor:
    """Last hidden states of packed rows, equal to those of each document by itself: (B, T, D), or (M, D) at the asked positions.

    Architectures that post_norm.py knows run through it; for any other, transformers' forward gets the mask of who sees whom.

    Args:
        pieces: the documents' pieces, told by the batch; variable-length attention needs them.
    """
    kernel = encoder.config._attn_implementation
    model_type = encoder.config.model_type
    if model_type not in POST_NORM:
        hidden_BTD: Tensor = _GENERIC[model_type](encoder, ids_BT, segments_BT, kernel)
        return hidden_BTD if at is None else hidden_BTD.flatten(0, 1)[at.flat_M]
    shape = (ids_BT.shape[0], ids_BT.shape[1])
    if pieces is not None and takes_varlen(encoder):
        attention: Attention = VarlenAttention(pieces)
    else:
        attention = RowAttention(shape, block_mask(segments_BT, additive=kernel == "eager"), kernel, at)
    position_N = positions(segments_BT).flatten() + _first_position(encoder)
    asked_M = None if at is None else at.flat_M
    hidden_ND = post_norm.encode(encoder, ids_BT.flatten(), attention, position_N=position_N, asked_M=asked_M)
    return hidden_ND.view(*shape, -1) if at is None else hidden_ND


def encode_unpadded(
    encoder: Any, ids_BT: Tensor, mask_BT: Tensor, type_ids_BT: Tensor | None, real: RealTokens, *, first_only: bool = False
) -> Tensor:
    """Last hidden states of padded rows by post_norm.py, where padding costs next to nothing: (B, T, D), or (B, D) of first tokens.

    Args:
        mask_BT: true at real tokens, which come first in each row; behind them the result means nothing.
        real: the same, as the batch tells it.
    """
    kernel, shape = encoder.config._attn_implementation, (ids_BT.shape[0], ids_BT.shape[1])
    flat_N, first_B = real.flat_N, real.first_B
    if takes_varlen(encoder):
        flat_N, first_B = real.exact_N, real.pieces.start_S[:-1].long()
        attention: Attention = VarlenAttention(real.pieces)
    else:
        allowed_B11T = mask_BT.bool()[:, None, None, :]
        allowed_B11T = as_bias(allowed_B11T) if kernel == "eager" else allowed_B11T
        rows = RowAttention(shape, allowed_B11T, kernel, first_positions(ids_BT) if first_only else None)
        padding_share = 1.0 - len(flat_N) / ids_BT.numel()
        if padding_share * encoder.config.hidden_size < _WORTH_UNPADDING:
            flat_N, attention = torch.arange(ids_BT.numel(), device=ids_BT.device), rows
            first_B = flat_N[:: shape[1]]
        else:
            attention = UnpaddedAttention(rows, flat_N)
    has_types = type_ids_BT is not None and int(getattr(encoder.config, "type_vocab_size", 0)) > 1
    hidden = post_norm.encode(
        encoder,
        ids_BT.flatten()[flat_N],
        attention,
        position_N=flat_N % shape[1] + _first_position(encoder),
        type_ids_N=type_ids_BT.flatten()[flat_N] if has_types and type_ids_BT is not None else None,
        asked_M=first_B if first_only else None,
    )
    if first_only:
        return hidden
    return hidden.view(*shape, -1) if len(hidden) == ids_BT.numel() else pad(hidden, flat_N, shape)


def takes_varlen(encoder: Any) -> bool:
    """Whether variable-length attention was asked for (models/backbone.py) and products run in 16 bits, which its kernel needs."""
    return getattr(encoder, "wants_varlen", False) and torch.is_autocast_enabled("cuda")


def _first_position(encoder: Any) -> int:
    return int(encoder.config.pad_token_id) + 1 if encoder.config.model_type in _ROBERTA_LIKE else 0


def _modernbert(encoder: Any, ids_BT: Tensor, segments_BT: Tensor, kernel: str) -> Tensor:
    """Rotary positions inside each document; the sliding window counts columns, which inside a document is the same distance."""
    same_B1TT = segments_BT[:, None, :, None] == segments_BT[:, None, None, :]
    column_T = torch.arange(segments_BT.shape[1], device=segments_BT.device)
    near_TT = (column_T[:, None] - column_T[None, :]).abs() <= encoder.config.sliding_window
    masks = {"full_attention": same_B1TT, "sliding_attention": same_B1TT & near_TT}
    if kernel == "eager":
        masks = {name: as_bias(mask_B1TT) for name, mask_B1TT in masks.items()}
    hidden_BTD: Tensor = encoder(input_ids=ids_BT, attention_mask=masks, position_ids=positions(segments_BT)).last_hidden_state
    return hidden_BTD


def _deberta(encoder: Any, ids_BT: Tensor, segments_BT: Tensor, _kernel: str) -> Tensor:
    """Embeddings and layers called one after the other: the model's own forward takes no mask of pairs."""
    hidden_BTD = encoder.embeddings(input_ids=ids_BT, token_type_ids=torch.zeros_like(ids_BT), position_ids=positions(segments_BT))
    same_BTT = segments_BT[:, :, None] == segments_BT[:, None, :]
    encoded_BTD: Tensor = encoder.encoder(hidden_BTD, same_BTT).last_hidden_state
    return encoded_BTD


_GENERIC = {"modernbert": _modernbert, "deberta-v2": _deberta}
