"""GPT-2 (Radford et al. 2019, https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf)."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from acclimate.backbones.base import Backbone, Shape, TaskHead
from acclimate.backbones.fast.attention import as_bias
from acclimate.backbones.fast.rows import block_mask, piece_positions


class Gpt2(Backbone):
    """A decoder: each token sees those before it. It has no padding token; what stands behind a row's tokens is never seen."""

    model_types: ClassVar[tuple[str, ...]] = ("gpt2",)
    shape: ClassVar[Shape] = "decoder"
    head_weights: ClassVar[tuple[str, ...]] = ("lm_head.",)
    positions: ClassVar[tuple[str, int] | None] = ("n_positions", 1024)
    task_heads: ClassVar[dict[str, TaskHead]] = {
        **Backbone.task_heads,
        "SequenceClassification": TaskHead("score", "nothing of ours"),
    }
    """That one reads the last token."""
    old_buffers: ClassVar[tuple[str, ...]] = (*Backbone.old_buffers, "attn.bias", "attn.masked_bias")
    dropout_fields: ClassVar[tuple[str, ...]] = ("resid_pdrop", "embd_pdrop")
    attention_dropout_fields: ClassVar[tuple[str, ...]] = ("attn_pdrop",)

    def below(self) -> list[nn.Module]:
        """Embeddings of words and positions."""
        return [self.model.wte, self.model.wpe]

    def blocks(self) -> list[nn.Module]:
        """The transformer blocks, first to last."""
        return list(self.model.h)

    def above(self) -> list[nn.Module]:
        """The norm behind the last block."""
        return [self.model.ln_f]

    def lm_logits(self, hidden: Tensor) -> Tensor:
        """Of the next token, (..., V)."""
        return nn.functional.linear(hidden, self.embeddings)

    def _run(self, **inputs: Any) -> Tensor:
        return super()._run(use_cache=False, **inputs)

    def _packed_rows(self, ids_BT: Tensor, segments_BT: Tensor) -> Tensor:
        mask_B1TT = block_mask(segments_BT, additive=False).tril()
        hidden_BTD: Tensor = self.model(
            input_ids=ids_BT,
            attention_mask=as_bias(mask_B1TT) if self.kernel == "eager" else mask_B1TT,
            position_ids=piece_positions(segments_BT),
            use_cache=False,
        ).last_hidden_state
        return hidden_BTD


COMPONENT: type[Backbone] = Gpt2
