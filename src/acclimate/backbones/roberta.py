"""RoBERTa (Liu et al. 2019, https://arxiv.org/abs/1907.11692), XLM-RoBERTa and CamemBERT: positions count from the padding id."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from acclimate.backbones.base import Backbone, HeadNames, TaskHead
from acclimate.backbones.bert import Bert


class Roberta(Bert):
    """BERT's layers; another head."""

    model_types: ClassVar[tuple[str, ...]] = ("roberta", "xlm-roberta", "camembert")
    heads: ClassVar[tuple[HeadNames, ...]] = (
        HeadNames("lm_head.dense", "lm_head.layer_norm", ("lm_head.bias", "lm_head.decoder.bias"), ("lm_head.decoder.weight",)),
    )
    task_heads: ClassVar[dict[str, TaskHead]] = {
        **Backbone.task_heads,
        "SequenceClassification": TaskHead("classifier.out_proj", "first token", "classifier.dense", "tanh"),
    }
    head_weights: ClassVar[tuple[str, ...]] = ("pooler.", "lm_head.")

    @classmethod
    def most_tokens(cls, settings: Mapping[str, Any]) -> int | None:
        """Two fewer than the position embeddings have rows, where the padding id is 1."""
        return int(settings.get("max_position_embeddings", 512)) - int(settings.get("pad_token_id", 1)) - 1

    @property
    def first_position(self) -> int:
        """The rows of the position embeddings up to the padding id's stand for padding."""
        return self.pad_id + 1


COMPONENT: type[Backbone] = Roberta
