"""Batches of two texts a row, their vectors and InfoNCE, for the objectives that contrast texts.

Shape suffixes: B rows, T tokens, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from acclimate.backbones.base import Backbone
from acclimate.protocols import Batch

_LENGTH_MULTIPLE = 8


@dataclass(frozen=True)
class PairBatch(Batch):
    """Left and right texts, padded; row i of both belong together."""

    left_BT: Tensor
    left_mask_BT: Tensor
    right_BT: Tensor
    right_mask_BT: Tensor
    loss: str

    def counts(self) -> dict[str, int]:
        """Rows."""
        return {self.loss: len(self.left_BT)}

    @property
    def num_tokens(self) -> int:
        """Real tokens of both sides."""
        return int(self.left_mask_BT.sum() + self.right_mask_BT.sum())


def pair_batch(left: Sequence[Tensor], right: Sequence[Tensor], pad_id: int, loss: str) -> PairBatch:
    """Pad both sides.

    Args:
        left: token ids of each text, (tokens,) int64.
        loss: its name.
    """
    return PairBatch(*_padded(left, pad_id), *_padded(right, pad_id), loss)


def _padded(texts: Sequence[Tensor], pad_id: int) -> tuple[Tensor, Tensor]:
    width = -(-max(map(len, texts)) // _LENGTH_MULTIPLE) * _LENGTH_MULTIPLE
    ids_BT = torch.full((len(texts), width), pad_id)
    mask_BT = torch.zeros_like(ids_BT)
    for row, text in enumerate(texts):
        ids_BT[row, : len(text)] = text
        mask_BT[row, : len(text)] = 1
    return ids_BT, mask_BT


def framed(document_T: Tensor, start: int, stop: int) -> Tensor:
    """A part of a document between its first and last token, which are the special ones that every text has."""
    return torch.cat([document_T[:1], document_T[1:-1][start:stop], document_T[-1:]])


def sentence_vectors(backbone: Backbone, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """The mean over real tokens, of length 1, float32, (B, D)."""
    ids_BT, mask_BT = ids_BT[:, : backbone.max_length], mask_BT[:, : backbone.max_length]  # behind that there is padding alone
    hidden_BTD = backbone.padded(ids_BT, mask_BT).float()
    weights_BT1 = mask_BT.unsqueeze(-1).to(hidden_BTD.dtype)
    mean_BD = (hidden_BTD * weights_BT1).sum(1) / weights_BT1.sum(1).clamp_min(1.0)
    return nn.functional.normalize(mean_BD, dim=-1)


def halves(document_T: Tensor, place: float) -> tuple[Tensor, Tensor]:
    """Both parts of a document that is cut in its middle third.

    Args:
        place: in the middle third, from 0 to 1.
    """
    return parted(document_T, round((len(document_T) - 2) * (1 + place) / 3))


def parted(document_T: Tensor, cut: int) -> tuple[Tensor, Tensor]:
    """A document before and behind a token, at least one on each side; both parts keep the special tokens at the ends."""
    inner = len(document_T) - 2
    cut = max(1, min(inner - 1, cut))
    return framed(document_T, 0, cut), framed(document_T, cut, inner)


def info_nce(left_BD: Tensor, right_BD: Tensor, temperature: float) -> Tensor:
    """Each left vector finds its right one among those of the batch, and the reverse; summed over the rows.

    The vectors are of length 1 (van den Oord et al. 2018, https://arxiv.org/abs/1807.03748).
    """
    scores_BB = left_BD @ right_BD.T / temperature
    own_B = torch.arange(len(left_BD), device=left_BD.device)
    both = [nn.functional.cross_entropy(scores, own_B, reduction="sum") for scores in (scores_BB, scores_BB.T)]
    return (both[0] + both[1]) / 2
