"""DeBERTa v2 and v3 (He et al. 2021, https://arxiv.org/abs/2006.03654 and https://arxiv.org/abs/2111.09543)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from acclimate.backbones.base import Backbone, HeadNames, TaskHead, together
from acclimate.backbones.bert import Bert
from acclimate.backbones.fast.rows import piece_positions


class Deberta(Backbone):
    """Attention by content and relative position, which transformers computes eagerly alone."""

    model_types: ClassVar[tuple[str, ...]] = ("deberta-v2",)
    kernels: ClassVar[tuple[str, ...]] = ("eager",)
    heads: ClassVar[tuple[HeadNames, ...]] = (
        HeadNames("lm_predictions.lm_head.dense", "lm_predictions.lm_head.LayerNorm", ("lm_predictions.lm_head.bias",), (), "hidden_act"),
        *Bert.heads,
    )
    head_weights: ClassVar[tuple[str, ...]] = (
        *("lm_predictions.", "mask_predictions.", "cls.", "pooler."),
        # older code wrote position embeddings also where `position_biased_input` is false, and each embedding twice
        *("embeddings.position_embeddings.", "embeddings.word_embeddings._weight"),
    )

    task_heads: ClassVar[dict[str, TaskHead]] = {
        **Backbone.task_heads,
        "SequenceClassification": TaskHead("classifier", "first token", "pooler.dense", "gelu"),
    }

    @classmethod
    def most_tokens(cls, settings: Mapping[str, Any]) -> int | None:
        """Relative positions know no end; older models add absolute ones."""
        return super().most_tokens(settings) if settings.get("position_biased_input", True) else None

    def below(self) -> list[nn.Module]:
        """Embeddings of words and of relative positions, with the norm of these."""
        encoder = self.model.encoder
        names = ("rel_embeddings", "LayerNorm")
        return [self.model.embeddings, *(getattr(encoder, name) for name in names if hasattr(encoder, name))]

    def layers(self) -> list[nn.Module]:
        """[embeddings, layer 1, ..., top]; the convolution, where there is one, adds to layer 1."""
        below, first, *others = super().layers()
        convolution = self.model.encoder.conv
        return [below, first if convolution is None else together([first, convolution]), *others]

    def _packed_rows(self, ids_BT: Tensor, segments_BT: Tensor) -> Tensor:
        """Embeddings and encoder called one after the other: the model's own forward takes no mask of pairs."""
        hidden_BTD = self.model.embeddings(
            input_ids=ids_BT, token_type_ids=torch.zeros_like(ids_BT), position_ids=piece_positions(segments_BT)
        )
        same_BTT = segments_BT[:, :, None] == segments_BT[:, None, :]
        encoded_BTD: Tensor = self.model.encoder(hidden_BTD, same_BTT).last_hidden_state
        return encoded_BTD


COMPONENT: type[Backbone] = Deberta
