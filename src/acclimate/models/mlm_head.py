"""The head that predicts masked tokens: the encoder's own where its weights hold one, else one made for it.

Shape suffixes: B rows, T tokens, M masked positions, D width, V vocabulary.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from acclimate.errors import ModelError
from acclimate.models.attention import Pieces, Positions
from acclimate.models.cross_entropy import linear_cross_entropy
from acclimate.models.dropout import replace_dropout
from acclimate.models.gelu import replace_gelu
from acclimate.models.packed import encode_packed

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class HeadNames:
    """What an architecture calls the parts of its head: dense, activation, norm, then a product with the embeddings plus a bias."""

    dense: str
    norm: str
    bias: tuple[str, ...]
    decoder: tuple[str, ...] = ()
    activation: str | None = None
    """The config's field; None is GELU."""


_BERT = HeadNames(
    "cls.predictions.transform.dense",
    "cls.predictions.transform.LayerNorm",
    ("cls.predictions.bias", "cls.predictions.decoder.bias"),
    ("cls.predictions.decoder.weight",),
    "hidden_act",
)
_ROBERTA = HeadNames("lm_head.dense", "lm_head.layer_norm", ("lm_head.bias", "lm_head.decoder.bias"), ("lm_head.decoder.weight",))
HEADS = {
    "bert": [_BERT],
    "roberta": [_ROBERTA],
    "xlm-roberta": [_ROBERTA],
    "camembert": [_ROBERTA],
    "electra": [
        HeadNames(
            "generator_predictions.dense", "generator_predictions.LayerNorm", ("generator_lm_head.bias",), ("generator_lm_head.weight",)
        )
    ],
    "distilbert": [
        HeadNames("vocab_transform", "vocab_layer_norm", ("vocab_projector.bias",), ("vocab_projector.weight",), activation="activation")
    ],
    "modernbert": [HeadNames("head.dense", "head.norm", ("decoder.bias",), ("decoder.weight",), activation="classifier_activation")],
    "deberta-v2": [
        HeadNames("lm_predictions.lm_head.dense", "lm_predictions.lm_head.LayerNorm", ("lm_predictions.lm_head.bias",), (), "hidden_act"),
        _BERT,
    ],
}
"""By model type; where an architecture has had several heads, the first whose weights are there."""


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

    def __init__(self, encoder: Any, unigram_V: Tensor) -> None:
        super().__init__()
        replace_dropout(encoder)
        replace_gelu(encoder)
        self.encoder = encoder
        width = encoder.get_input_embeddings().weight.shape[1]
        self.transform: nn.Module = nn.Linear(encoder.config.hidden_size, width)
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
        config = self.encoder.config
        for names in HEADS.get(config.model_type, []):
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

        config, embeddings = self.encoder.config, self.encoder.get_input_embeddings().weight
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
        features_MD: Tensor = self.transform(encode_packed(self.encoder, ids_BT, segments_BT, at=at, pieces=pieces))
        return features_MD

    @property
    def decoder(self) -> Tensor:
        """The matrix that features are multiplied with, (V, D)."""
        weight: Tensor = self.encoder.get_input_embeddings().weight if self.decoder_VD is None else self.decoder_VD
        return weight

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


def load_mlm_model(directory: Path, encoder: Any, unigram_V: Tensor) -> MlmModel:
    """Encoder and head: the trained one of the checkpoint in `directory`, else one made of the unigram counts."""
    from safetensors.torch import load_file

    from acclimate.models.backbone import WEIGHTS

    model = MlmModel(encoder, unigram_V)
    if not model.take_head(load_file(directory / WEIGHTS)):
        logger.info("the weights hold no masked-language-model head; one is made and warmed up")
    return model
