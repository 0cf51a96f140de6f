"""The head that predicts masked tokens: the encoder's own where its weights hold one, else one made for it.

Shape suffixes: B rows, T tokens, M masked positions, D width, V vocabulary.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from acclimate.backbones.base import Backbone, HeadNames
from acclimate.backbones.fast.attention import Pieces, Positions
from acclimate.backbones.fast.cross_entropy import linear_cross_entropy
from acclimate.backbones.loading import WEIGHTS
from acclimate.errors import ModelError

logger = logging.getLogger(__name__)


class TrainedHead(nn.Module):
    """Dense layer, activation and norm as the encoder was pretrained with."""

    def __init__(self, dense: nn.Linear, activation: Callable[[Tensor], Tensor], norm: nn.LayerNorm) -> None:
        super().__init__()
        self.dense, self.activation, self.norm = dense, activation, norm

    def forward(self, hidden_MD: Tensor) -> Tensor:
        """Features that the embeddings are multiplied with."""
        features: Tensor = self.norm(self.activation(self.dense(hidden_MD)))
        return features


class MlmModel(nn.Module):
    """Encoder, transform and a decoder tied to the embeddings.

    Without a trained head, the transform starts as the identity and the bias as the log unigram frequency; it is then warmed up
    while the encoder is frozen, and the control without adaptation gets the same warm-up.
    """

    def __init__(self, encoder: Backbone, unigram_V: Tensor) -> None:
        super().__init__()
        self.encoder = encoder
        self.transform: nn.Module = nn.Linear(encoder.width, encoder.embedding_width)
        nn.init.eye_(self.transform.weight)
        nn.init.zeros_(self.transform.bias)
        counts_V = unigram_V.double() + 0.5
        self.bias_V = nn.Parameter((counts_V / counts_V.sum()).log().float())
        self.decoder_VD: nn.Parameter | None = None
        """None: the embeddings."""

    @property
    def has_trained_head(self) -> bool:
        """Whether the head came with the encoder's weights."""
        return isinstance(self.transform, TrainedHead)

    def take_head(self, weights: dict[str, Tensor]) -> bool:
        """Take the trained head out of an encoder's checkpoint; False where it holds none.

        Args:
            weights: every tensor of the checkpoint, by its name there.

        Raises:
            ModelError: a part of the head is missing or does not fit.
        """
        for names in self.encoder.heads:
            if f"{names.dense}.weight" in weights:
                break
        else:
            return False
        try:
            self._take(weights, names)
        except KeyError as error:
            raise ModelError(f"the checkpoint's head is not whole: {error.args[0]} is missing") from None
        return True

    def _take(self, weights: dict[str, Tensor], names: HeadNames) -> None:
        from transformers.activations import ACT2FN

        config, embeddings = self.encoder.config, self.encoder.embeddings
        dense = _filled(nn.Linear, weights, names.dense)
        norm = _filled(nn.LayerNorm, weights, names.norm)
        norm.eps = getattr(config, "layer_norm_eps", getattr(config, "norm_eps", 1e-12))
        activation = ACT2FN[getattr(config, names.activation) if names.activation else "gelu"]
        bias = next((weights[name] for name in names.bias if name in weights), torch.zeros(len(embeddings)))
        if bias.shape != self.bias_V.shape:
            raise ModelError(f"the checkpoint's head predicts {len(bias)} tokens, the encoder has {len(embeddings)}")
        self.transform = TrainedHead(dense, activation, norm)
        self.bias_V = nn.Parameter(bias.float().clone())
        decoder = next((weights[name] for name in names.decoder if name in weights), None)
        if not getattr(config, "tie_word_embeddings", True) and decoder is not None:
            self.decoder_VD = nn.Parameter(decoder.float().clone())

    def features(self, ids_BT: Tensor, segments_BT: Tensor, at: Positions, pieces: Pieces | None = None) -> Tensor:
        """What the decoder multiplies, at the asked positions only, (M, D).

        Sending every position through the decoder would cost 71-91 % of the step of a small encoder.
        """
        features_MD: Tensor = self.transform(self.encoder.packed(ids_BT, segments_BT, at=at, pieces=pieces))
        return features_MD

    @property
    def decoder(self) -> Tensor:
        """The matrix that features are multiplied with, (V, D)."""
        return self.encoder.embeddings if self.decoder_VD is None else self.decoder_VD

    def forward(self, ids_BT: Tensor, segments_BT: Tensor, at: Positions) -> Tensor:
        """Logits at the asked positions, (M, V)."""
        features_MD = self.features(ids_BT, segments_BT, at)
        return torch.nn.functional.linear(features_MD[: at.num_asked], self.decoder, self.bias_V.to(features_MD.dtype))

    def summed_loss(self, ids_BT: Tensor, segments_BT: Tensor, at: Positions, labels_M: Tensor, pieces: Pieces | None = None) -> Tensor:
        """Cross-entropy summed over the asked positions, float32."""
        return linear_cross_entropy(self.features(ids_BT, segments_BT, at, pieces), self.decoder, self.bias_V, labels_M)

    def head_parameters(self) -> list[nn.Parameter]:
        """What the warm-up trains."""
        return [*self.transform.parameters(), self.bias_V]


def _filled(kind: type[Any], weights: dict[str, Tensor], name: str) -> Any:
    """A Linear or LayerNorm made of the tensors under a name; old checkpoints call a norm's gamma and beta."""
    weight = weights[f"{name}.weight"] if f"{name}.weight" in weights or kind is nn.Linear else weights[f"{name}.gamma"]
    bias = weights.get(f"{name}.bias", weights.get(f"{name}.beta"))
    shape = (weight.shape[1], weight.shape[0]) if weight.ndim == 2 else (weight.shape[0],)
    module = kind(*shape, bias=bias is not None)
    with torch.no_grad():
        module.weight.copy_(weight)
        if bias is not None:
            module.bias.copy_(bias)
    return module


def load_mlm_model(directory: Path, encoder: Backbone, unigram_V: Tensor) -> MlmModel:
    """Encoder and head: the trained one of the checkpoint in `directory`, else one made of the unigram counts."""
    from safetensors.torch import load_file

    model = MlmModel(encoder, unigram_V)
    if not model.take_head(load_file(directory / WEIGHTS)):
        logger.info("the weights hold no masked-language-model head; one is made and warmed up")
    return model
