"""ModernBERT (Warner et al. 2024, https://arxiv.org/abs/2412.13663)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from acclimate.backbones.base import Backbone, HeadNames, TaskHead
from acclimate.backbones.fast.attention import as_bias
from acclimate.backbones.fast.rows import block_mask, piece_positions


class ModernBert(Backbone):
    """Pre-norm layers, rotary positions, and in most layers a sliding window."""

    model_types: ClassVar[tuple[str, ...]] = ("modernbert",)
    heads: ClassVar[tuple[HeadNames, ...]] = (
        HeadNames("head.dense", "head.norm", ("decoder.bias",), ("decoder.weight",), activation="classifier_activation"),
    )
    head_weights: ClassVar[tuple[str, ...]] = ("head.", "decoder.")
    positions: ClassVar[tuple[str, int] | None] = None
    """Rotary."""
    task_heads: ClassVar[dict[str, TaskHead]] = dict.fromkeys(Backbone.task_heads, TaskHead("classifier", "nothing of ours"))
    """A layer with a norm stands before each."""
    dropout_fields: ClassVar[tuple[str, ...]] = ("mlp_dropout",)
    attention_dropout_fields: ClassVar[tuple[str, ...]] = ("attention_dropout",)

    def blocks(self) -> list[nn.Module]:
        """The transformer blocks, first to last."""
        return list(self.model.layers)

    def above(self) -> list[nn.Module]:
        """The norm behind the last block."""
        return [self.model.final_norm]

    def _packed_rows(self, ids_BT: Tensor, segments_BT: Tensor) -> Tensor:
        """Rotary positions inside each document; the sliding window counts columns, which inside a document is the same distance."""
        same_B1TT = block_mask(segments_BT, additive=False)
        column_T = torch.arange(segments_BT.shape[1], device=segments_BT.device)
        near_TT = (column_T[:, None] - column_T[None, :]).abs() <= self.config.sliding_window
        masks = {"full_attention": same_B1TT, "sliding_attention": same_B1TT & near_TT}
        if self.kernel == "eager":
            masks = {name: as_bias(mask_B1TT) for name, mask_B1TT in masks.items()}
        hidden_BTD: Tensor = self.model(input_ids=ids_BT, attention_mask=masks, position_ids=piece_positions(segments_BT)).last_hidden_state
        return hidden_BTD


COMPONENT: type[Backbone] = ModernBert
