"""ELECTRA (Clark et al. 2020, https://arxiv.org/abs/2003.10555): BERT whose word embeddings may be narrower than its layers."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from acclimate.backbones.base import Backbone, HeadNames, TaskHead
from acclimate.backbones.bert import Bert


class Electra(Bert):
    """Generator or discriminator, whichever the checkpoint holds."""

    model_types: ClassVar[tuple[str, ...]] = ("electra",)
    heads: ClassVar[tuple[HeadNames, ...]] = (
        HeadNames(
            "generator_predictions.dense", "generator_predictions.LayerNorm", ("generator_lm_head.bias",), ("generator_lm_head.weight",)
        ),
    )
    head_weights: ClassVar[tuple[str, ...]] = ("generator_predictions.", "generator_lm_head.", "discriminator_predictions.")
    task_heads: ClassVar[dict[str, TaskHead]] = {
        **Backbone.task_heads,
        "SequenceClassification": TaskHead("classifier.out_proj", "first token", "classifier.dense", "gelu"),
    }
    model_options: ClassVar[dict[str, Any]] = {}

    def below(self) -> list[nn.Module]:
        """Embeddings, and their projection where they are narrower."""
        projection = getattr(self.model, "embeddings_project", None)
        return [self.model.embeddings] if projection is None else [self.model.embeddings, projection]

    def embed_flat(self, ids_N: Tensor, position_N: Tensor, type_ids_N: Tensor | None) -> Tensor:
        """Sum of the embeddings, normalised and projected, (N, D)."""
        hidden_ND = super().embed_flat(ids_N, position_N, type_ids_N)
        for project in self.below()[1:]:
            hidden_ND = project(hidden_ND)
        return hidden_ND


COMPONENT: type[Backbone] = Electra
