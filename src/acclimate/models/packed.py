"""What packed rows need: attention inside a document, positions counted from its start."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from acclimate.models import post_norm
from acclimate.models.post_norm import Positions

_ROBERTA_LIKE = ("roberta", "xlm-roberta", "camembert")
"""Count positions from the padding id on."""


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


def as_bias(allowed: Tensor) -> Tensor:
    """0 where attention is allowed, else a large negative number, float32."""
    return torch.zeros(allowed.shape, dtype=torch.float32, device=allowed.device).masked_fill_(~allowed, torch.finfo(torch.bfloat16).min)


def positions(segments_BT: Tensor) -> Tensor:
    """Position of each token inside its document's piece: (B, T), counted from 0."""
    index_BT = torch.arange(segments_BT.shape[1], device=segments_BT.device).expand_as(segments_BT)
    starts_BT = torch.ones_like(segments_BT, dtype=torch.bool)
    starts_BT[:, 1:] = segments_BT[:, 1:] != segments_BT[:, :-1]
    return index_BT - torch.cummax(torch.where(starts_BT, index_BT, 0), dim=1).values


def encode_packed(encoder: Any, ids_BT: Tensor, segments_BT: Tensor, *, at: Positions | None = None) -> Tensor:
    """Last hidden states of packed rows, equal to those of each document by itself: (B, T, D), or (M, D) at the asked positions.

    Architectures that post_norm.py knows run through it; for any other, transformers' forward gets the mask of who sees whom.
    """
    kernel = encoder.config._attn_implementation
    model_type = encoder.config.model_type
    if model_type in post_norm.MODEL_TYPES:
        return post_norm.encode(
            encoder,
            ids_BT,
            allowed=block_mask(segments_BT, additive=kernel == "eager"),
            position_BT=positions(segments_BT) + _first_position(encoder),
            at=at,
            kernel=kernel,
        )
    hidden_BTD: Tensor = _GENERIC[model_type](encoder, ids_BT, segments_BT, kernel)
    return hidden_BTD if at is None else hidden_BTD.flatten(0, 1)[at.flat_M]


def encode_padded(encoder: Any, ids_BT: Tensor, mask_BT: Tensor, type_ids_BT: Tensor | None, *, at: Positions | None = None) -> Tensor:
    """Last hidden states of padded rows of an encoder that post_norm.py knows: (B, T, D), or (M, D) at the asked positions.

    Args:
        mask_BT: true at real tokens, which come first in each row.
    """
    kernel = encoder.config._attn_implementation
    allowed_B11T = mask_BT.bool()[:, None, None, :]
    position_BT = torch.arange(ids_BT.shape[1], device=ids_BT.device).expand_as(ids_BT) + _first_position(encoder)
    return post_norm.encode(
        encoder,
        ids_BT,
        allowed=as_bias(allowed_B11T) if kernel == "eager" else allowed_B11T,
        position_BT=position_BT,
        type_ids_BT=type_ids_BT if int(getattr(encoder.config, "type_vocab_size", 0)) > 1 else None,
        at=at,
        kernel=kernel,
    )


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
