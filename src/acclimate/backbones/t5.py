"""T5 (Raffel et al. 2020, https://arxiv.org/abs/1910.10683)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from acclimate.backbones.base import Backbone, EncoderDecoder, TaskHead, together
from acclimate.backbones.fast.rows import block_mask

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class T5(EncoderDecoder):
    """Encoder and decoder with relative positions.

    Shape suffixes: B rows, T tokens of the input, U tokens of the output, D width, V vocabulary.
    """

    model_types: ClassVar[tuple[str, ...]] = ("t5",)
    kernels: ClassVar[tuple[str, ...]] = ("eager",)
    """torch.onnx.export refuses a dynamic batch in what sdpa becomes here."""
    positions: ClassVar[tuple[str, int] | None] = None
    """Relative."""
    task_heads: ClassVar[dict[str, TaskHead]] = {
        "SequenceClassification": TaskHead("classification_head.out_proj", "nothing of ours"),
        "TokenClassification": TaskHead("classifier", "nothing of ours"),
        "QuestionAnswering": TaskHead("qa_outputs", "nothing of ours"),
    }
    dropout_fields: ClassVar[tuple[str, ...]] = ("dropout_rate",)
    attention_dropout_fields: ClassVar[tuple[str, ...]] = ()
    """Attention has no rate of its own."""

    @classmethod
    def new_model(cls, directory: Path, attention: str, settings: dict[str, Any]) -> PreTrainedModel:
        """With the head, which in T5 1.1 has weights of its own."""
        from transformers import T5Config, T5ForConditionalGeneration

        config = T5Config.from_pretrained(str(directory), **settings)
        config._attn_implementation = attention
        return T5ForConditionalGeneration(config)

    @property
    def start_id(self) -> int:
        """First token of every output."""
        return int(self.config.decoder_start_token_id)

    def named_for_heads(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """As they are: the whole model is held."""
        return dict(weights)

    def below(self) -> list[nn.Module]:
        """The word embeddings that encoder and decoder share."""
        return [self.model.shared]

    def blocks(self) -> list[nn.Module]:
        """The encoder's blocks, first to last."""
        return list(self.model.encoder.block)

    def above(self) -> list[nn.Module]:
        """The norm behind the encoder."""
        return [self.model.encoder.final_layer_norm]

    def layers(self) -> list[nn.Module]:
        """[embeddings, layers of the encoder, layers of the decoder]; the head belongs to the last."""
        *blocks, last = self.model.decoder.block
        has_own_head = self.model.lm_head.weight is not self.model.shared.weight
        head = [self.model.lm_head] if has_own_head else []
        return [*super().layers(), *blocks, together([last, self.model.decoder.final_layer_norm, *head])]

    def decode(self, ids_BU: Tensor, encoder_hidden_BTD: Tensor, mask_BT: Tensor) -> Tensor:
        """Hidden states of outputs that begin with `start_id`, each seeing those before it and the input, (B, U, D)."""
        hidden_BUD: Tensor = self.model.decoder(
            input_ids=ids_BU, encoder_hidden_states=encoder_hidden_BTD, encoder_attention_mask=mask_BT, use_cache=False
        ).last_hidden_state
        return hidden_BUD

    def lm_logits(self, hidden_BUD: Tensor) -> Tensor:
        """Of the next token, (B, U, V)."""
        if self.config.scale_decoder_outputs:
            hidden_BUD = hidden_BUD * self.width**-0.5
        logits_BUV: Tensor = self.model.lm_head(hidden_BUD)
        return logits_BUV

    def _run(self, **inputs: Any) -> Tensor:
        hidden_BTD: Tensor = self.model.encoder(**inputs).last_hidden_state
        return hidden_BTD

    def _packed_rows(self, ids_BT: Tensor, segments_BT: Tensor) -> Tensor:
        """Relative positions are the same wherever a document begins."""
        hidden_BTD: Tensor = self.model.encoder(
            input_ids=ids_BT, attention_mask=block_mask(segments_BT, additive=self.kernel == "eager")
        ).last_hidden_state
        return hidden_BTD


COMPONENT: type[Backbone] = T5
