"""Frozen features of every layer of an encoder, in one forward pass.

Shapes: L layers (0 is the embeddings), R rows, W kept words of all rows, B rows of a batch, T tokens, D width.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from acclimate.data.tokens.encoding import Encoded

if TYPE_CHECKING:
    from torch import Tensor

    from acclimate.backbones.base import Backbone
    from acclimate.training.precision import Precision

TOKENS_PER_BATCH = 2048


def layer_features(
    encoder: Backbone,
    encoded: Encoded,
    *,
    pooling: Literal["mean", "first"] = "mean",
    pair: bool = False,
    precision: Precision | None = None,
    layers: Sequence[int] | None = None,
) -> NDArray[np.float32]:
    """Features of the given layers, all when None.

    A row's feature is the mean over its real tokens, or its first token. A pair is encoded together, and its feature is
    [u, v, |u - v|, u * v] of the means over the tokens of either text (Conneau et al. 2017, https://arxiv.org/abs/1705.02364).
    Where words were encoded (tagging), each kept word has the vector of its first sub-token.

    Args:
        encoder: put in eval mode, left on its device.
        pair: whether rows hold two texts, told apart by type ids.
        precision: autocast of the forward pass; fp32 when None.
        layers: indices into (embeddings, layer 1, ..., last), negative from the end.

    Returns:
        Shape (L, R, D); for pairs (L, R, 4 D); for words (L, W, D), in the order of rows and words.
    """
    import torch

    from acclimate.training.batches import by_length

    encoder.eval()
    features: list[NDArray[np.float32]] = [np.empty(0, dtype=np.float32)] * (len(encoded.offsets) - 1)
    with torch.inference_mode():
        for rows in by_length(encoded, tokens_per_batch=TOKENS_PER_BATCH):
            hidden_LBTD, mask_BT, type_ids_BT = _hidden_states(encoder, encoded, rows, precision, layers)
            for row, values in zip(rows, _reduce(hidden_LBTD, mask_BT, type_ids_BT, encoded, rows, pooling, pair), strict=True):
                features[row] = values
    return np.concatenate(features, axis=1)


def _hidden_states(
    encoder: Backbone, encoded: Encoded, rows: NDArray[np.int64], precision: Precision | None, layers: Sequence[int] | None
) -> tuple[Tensor, Tensor, Tensor]:
    import torch

    from acclimate.training.batches import pad_rows

    device = next(encoder.parameters()).device
    padded = pad_rows(encoded, rows, encoder.pad_id, longest=encoder.max_length)
    ids_BT, mask_BT, type_ids_BT = (tensor.to(device) for tensor in padded)
    with precision.autocast() if precision else contextlib.nullcontext():
        states = encoder.hidden_states(ids_BT, mask_BT, type_ids_BT)
    chosen = states if layers is None else [states[layer] for layer in layers]
    return torch.stack([state.float() for state in chosen]), mask_BT, type_ids_BT


def _reduce(
    hidden_LBTD: Tensor, mask_BT: Tensor, type_ids_BT: Tensor, encoded: Encoded, rows: NDArray[np.int64], pooling: str, pair: bool
) -> list[NDArray[np.float32]]:
    """One array per row, (L, 1, D) or (L, words, D)."""
    import torch

    if encoded.word_positions is not None:
        hidden = hidden_LBTD.cpu().numpy()
        return [hidden[:, index, encoded.word_positions[row]] for index, row in enumerate(rows)]
    if pair:
        left_LBD = _mean(hidden_LBTD, mask_BT * (type_ids_BT == 0))
        right_LBD = _mean(hidden_LBTD, mask_BT * (type_ids_BT == 1))
        pooled_LBD = torch.cat([left_LBD, right_LBD, (left_LBD - right_LBD).abs(), left_LBD * right_LBD], dim=-1)
    else:
        pooled_LBD = hidden_LBTD[:, :, 0] if pooling == "first" else _mean(hidden_LBTD, mask_BT)
    pooled = pooled_LBD.cpu().numpy()
    return [pooled[:, index : index + 1] for index in range(len(rows))]


def _mean(hidden_LBTD: Tensor, weights_BT: Tensor) -> Tensor:
    weights_BT1 = weights_BT.unsqueeze(-1).to(hidden_LBTD.dtype)
    return (hidden_LBTD * weights_BT1).sum(2) / weights_BT1.sum(1).clamp_min(1.0)
