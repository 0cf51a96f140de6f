"""What packed rows need: attention inside a document, positions counted from its start."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def block_mask(segments_BT: Tensor, *, additive: bool) -> Tensor:
    """Which token may see which: those of the same document.

    Args:
        segments_BT: document number inside the row.
        additive: give 0 and a large negative number (eager attention) rather than True and False (sdpa).
    Returns:
        (B, 1, T, T).
    """
    same_B1TT = segments_BT[:, None, :, None] == segments_BT[:, None, None, :]
    if not additive:
        return same_B1TT
    return torch.zeros(same_B1TT.shape, dtype=torch.float32, device=segments_BT.device).masked_fill_(
        ~same_B1TT, torch.finfo(torch.bfloat16).min
    )


def positions(segments_BT: Tensor) -> Tensor:
    """Position of each token inside its document's piece: (B, T), counted from 0."""
    index_BT = torch.arange(segments_BT.shape[1], device=segments_BT.device).expand_as(segments_BT)
    starts_BT = torch.ones_like(segments_BT, dtype=torch.bool)
    starts_BT[:, 1:] = segments_BT[:, 1:] != segments_BT[:, :-1]
    return index_BT - torch.cummax(torch.where(starts_BT, index_BT, 0), dim=1).values


def encode_packed(encoder: Any, ids_BT: Tensor, segments_BT: Tensor) -> Tensor:
    """Last hidden states of packed rows, (B, T, D), equal to those of each document by itself."""
    offset = encoder.config.pad_token_id + 1 if encoder.config.model_type in ("roberta", "xlm-roberta", "camembert") else 0
    mask = block_mask(segments_BT, additive=encoder.config._attn_implementation == "eager")
    hidden_BTD: Tensor = encoder(input_ids=ids_BT, attention_mask=mask, position_ids=positions(segments_BT) + offset).last_hidden_state
    return hidden_BTD
