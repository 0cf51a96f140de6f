"""DistilBERT (Sanh et al. 2019, https://arxiv.org/abs/1910.01108)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from torch import Tensor, nn

from acclimate.backbones.base import Backbone, HeadNames
from acclimate.backbones.fast.post_norm import Layer
from acclimate.backbones.post_norm import PostNorm


class DistilBert(PostNorm):
    """BERT's layers under other names, without type ids."""

    model_types: ClassVar[tuple[str, ...]] = ("distilbert",)
    heads: ClassVar[tuple[HeadNames, ...]] = (
        HeadNames("vocab_transform", "vocab_layer_norm", ("vocab_projector.bias",), ("vocab_projector.weight",), activation="activation"),
    )
    head_weights: ClassVar[tuple[str, ...]] = ("vocab_transform.", "vocab_layer_norm.", "vocab_projector.", "pre_classifier.")
    dropout_fields: ClassVar[tuple[str, ...]] = ("dropout",)
    attention_dropout_fields: ClassVar[tuple[str, ...]] = ("attention_dropout",)

    def blocks(self) -> list[nn.Module]:
        """The transformer blocks, first to last."""
        return list(self.model.transformer.layer)

    def containers(self) -> Iterator[nn.Module]:
        """Model, transformer, layers and attention."""
        yield from (self.model, self.model.transformer)
        for layer in self.model.transformer.layer:
            yield from (layer, layer.attention)

    def written_out(self) -> list[Layer]:
        """The layers, first to last."""
        return [_layer(layer) for layer in self.model.transformer.layer]

    def embed_flat(self, ids_N: Tensor, position_N: Tensor, type_ids_N: Tensor | None) -> Tensor:
        """Sum of the embeddings, normalised, (N, D)."""
        del type_ids_N
        hidden_1ND: Tensor = self.model.embeddings(input_ids=ids_N[None], position_ids=position_N[None])
        return hidden_1ND.squeeze(0)


def _layer(layer: Any) -> Layer:
    attention = layer.attention
    parts = (attention.q_lin, attention.k_lin, attention.v_lin, attention.out_lin)
    return Layer(*parts, layer.sa_layer_norm, layer.ffn, layer.output_layer_norm, attention.n_heads)


COMPONENT: type[Backbone] = DistilBert
