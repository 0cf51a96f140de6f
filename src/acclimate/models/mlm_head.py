"""A masked-language-model head for an encoder that came without one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from acclimate.models.packed import encode_packed


class MlmModel(nn.Module):
    """Encoder and head: transform (starts as the identity), decoder tied to the embeddings, bias = log unigram frequency.

    No encoder with a trained head can be had from the package registries, so the head is made and then warmed up while
    the encoder is frozen. The control without adaptation gets the same warm-up.
    """

    def __init__(self, encoder: Any, unigram_V: Tensor) -> None:
        super().__init__()
        self.encoder = encoder
        width = encoder.config.hidden_size
        self.transform = nn.Linear(width, width)
        nn.init.eye_(self.transform.weight)
        nn.init.zeros_(self.transform.bias)
        counts_V = unigram_V.double() + 0.5
        self.bias_V = nn.Parameter((counts_V / counts_V.sum()).log().float())

    def forward(self, ids_BT: Tensor, segments_BT: Tensor, masked: Tensor) -> Tensor:
        """Logits of the masked positions only, (masked positions, V).

        Args:
            masked: indices into the flattened (B * T) positions. Sending every position through the decoder would
                cost 71-91 % of the step of a small encoder.
        """
        hidden_BTD = encode_packed(self.encoder, ids_BT, segments_BT)
        hidden_MD = self.transform(hidden_BTD.flatten(0, 1)[masked])
        embeddings_VD = self.encoder.get_input_embeddings().weight
        return torch.nn.functional.linear(hidden_MD, embeddings_VD, self.bias_V.to(hidden_MD.dtype))

    def head_parameters(self) -> list[nn.Parameter]:
        """What the warm-up trains."""
        return [*self.transform.parameters(), self.bias_V]
