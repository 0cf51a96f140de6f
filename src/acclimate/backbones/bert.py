"""BERT (Devlin et al. 2019, https://arxiv.org/abs/1810.04805)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from acclimate.backbones.base import Backbone, HeadNames, TaskHead
from acclimate.backbones.fast.post_norm import Layer
from acclimate.backbones.post_norm import PostNorm

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Bert(PostNorm):
    """BERT, and the layout of layers that its descendants share."""

    model_types: ClassVar[tuple[str, ...]] = ("bert",)
    heads: ClassVar[tuple[HeadNames, ...]] = (
        HeadNames(
            "cls.predictions.transform.dense",
            "cls.predictions.transform.LayerNorm",
            ("cls.predictions.bias", "cls.predictions.decoder.bias"),
            ("cls.predictions.decoder.weight",),
            "hidden_act",
        ),
    )
    head_weights: ClassVar[tuple[str, ...]] = ("pooler.", "cls.")
    task_heads: ClassVar[dict[str, TaskHead]] = {
        **Backbone.task_heads,
        "SequenceClassification": TaskHead("classifier", "first token", "bert.pooler.dense", "tanh"),
    }
    model_options: ClassVar[dict[str, Any]] = {"add_pooling_layer": False}

    @classmethod
    def new_model(cls, directory: Path, attention: str, settings: dict[str, Any]) -> PreTrainedModel:
        """By the class itself, since the Auto classes take 3 s longer to import."""
        if cls is not Bert:
            return super().new_model(directory, attention, settings)
        from transformers.models.bert.configuration_bert import BertConfig
        from transformers.models.bert.modeling_bert import BertModel

        config = BertConfig.from_pretrained(str(directory), **settings)
        config._attn_implementation = attention
        return BertModel(config, **cls.model_options)

    def containers(self) -> Iterator[nn.Module]:
        """Model, encoder, layers, attention and outputs."""
        yield from (self.model, self.model.encoder)
        for layer in self.model.encoder.layer:
            yield from (layer, layer.attention, layer.attention.self, layer.attention.output, layer.output)

    def written_out(self) -> list[Layer]:
        """The layers, first to last."""
        return [_layer(layer) for layer in self.model.encoder.layer]

    def embed_flat(self, ids_N: Tensor, position_N: Tensor, type_ids_N: Tensor | None) -> Tensor:
        """Sum of the embeddings, normalised, (N, D)."""
        type_ids_N = torch.zeros_like(ids_N) if type_ids_N is None else type_ids_N
        hidden_1ND: Tensor = self.model.embeddings(input_ids=ids_N[None], position_ids=position_N[None], token_type_ids=type_ids_N[None])
        return hidden_1ND.squeeze(0)


def _layer(layer: Any) -> Layer:
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


COMPONENT: type[Backbone] = Bert
