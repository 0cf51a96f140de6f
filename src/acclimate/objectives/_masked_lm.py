"""Masked-language modelling for the objectives that differ in what they mask: the batch, the head and the loss.

Shape suffixes: B rows, T tokens, M masked positions of the batch, D width, V vocabulary.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from acclimate.backbones.base import Backbone
from acclimate.backbones.fast.attention import Pieces, Positions, packed_pieces, positions_at
from acclimate.backbones.fast.cross_entropy import linear_cross_entropy
from acclimate.data.tokens.encoding import Vocabulary
from acclimate.errors import ModelError
from acclimate.protocols import Batch, Facts, Losses, PackedRows, State, Trained
from acclimate.settings import Options

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class MaskedBatch(Batch):
    """Corrupted rows; `at` are the masked positions and some that fill their count up, `labels_M` the original ids at the former."""

    ids_BT: Tensor
    segments_BT: Tensor
    at: Positions
    labels_M: Tensor
    loss: str
    pieces: Pieces | None = None
    """The documents' pieces, for variable-length attention."""

    @property
    def masked(self) -> Tensor:
        """(M,), the masked positions, ascending indices into the flattened (B * T)."""
        return self.at.flat_M[: self.at.num_asked]

    def counts(self) -> dict[str, int]:
        """Masked positions."""
        return {self.loss: len(self.labels_M)}

    @property
    def num_tokens(self) -> int:
        """Packed rows hold no padding."""
        return self.ids_BT.numel()

    def part(self, start: int, stop: int) -> MaskedBatch:
        """Some of the rows, with the same corruption."""
        num_tokens = self.ids_BT.shape[1]
        masked_M = self.masked.numpy()
        first, last = np.searchsorted(masked_M, (start * num_tokens, stop * num_tokens))
        labels_M = self.labels_M[first:last].numpy()
        return _batch(self.ids_BT[start:stop], self.segments_BT[start:stop], masked_M[first:last] - start * num_tokens, labels_M, self.loss)


def corrupt(
    ids_BT: Tensor,
    segments_BT: Tensor,
    masked_M: np.ndarray,
    generator: torch.Generator,
    vocabulary: Vocabulary,
    *,
    mask_share: float,
    random_share: float,
    loss: str,
) -> MaskedBatch:
    """Corrupt chosen positions of packed rows.

    Of them a share becomes the mask token, another a random id, and the rest stays (80/10/10 in Devlin et al. 2019, section 3.1,
    https://arxiv.org/abs/1810.04805).

    Args:
        masked_M: ascending indices into the flattened (B * T).
        loss: its name.
    """
    ids = ids_BT.numpy().ravel()
    labels_M = ids[masked_M]
    fate_M = torch.rand(len(masked_M), generator=generator).numpy()
    random_M = torch.randint(vocabulary.size, (len(masked_M),), generator=generator).numpy()
    becomes_M = np.where(fate_M < np.float32(mask_share), vocabulary.mask_id, labels_M)
    is_random_M = (fate_M >= np.float32(mask_share)) & (fate_M < np.float32(mask_share + random_share))
    corrupted = ids.copy()
    corrupted[masked_M] = np.where(is_random_M, random_M, becomes_M)
    return _batch(torch.from_numpy(corrupted).view_as(ids_BT), segments_BT, masked_M, labels_M, loss)


def _batch(ids_BT: Tensor, segments_BT: Tensor, masked_M: np.ndarray, labels_M: np.ndarray, loss: str) -> MaskedBatch:
    at = positions_at(masked_M, (ids_BT.shape[0], ids_BT.shape[1]), fill=True)
    return MaskedBatch(ids_BT, segments_BT, at, torch.from_numpy(labels_M), loss, packed_pieces(segments_BT.numpy(), masked_M))


def require_mask(vocabulary: Vocabulary) -> None:
    """Refuse a tokenizer without a mask token.

    Raises:
        ModelError: it has none.
    """
    if vocabulary.mask_id is None:
        raise ModelError("the tokenizer has no mask token ([MASK] or <mask>); masked-language modelling needs one")


@lru_cache(maxsize=4)
def is_special(size: int, special_ids: tuple[int, ...]) -> np.ndarray:
    """Whether each id is a special token, (ids,) bool."""
    found = np.zeros(max(size, *special_ids, 0) + 1, dtype=np.bool_)
    found[list(special_ids)] = True
    return found


class TrainedHead(nn.Module):
    """Dense layer, activation and norm as the encoder was pretrained with."""

    def __init__(self, dense: nn.Linear, activation: Callable[[Tensor], Tensor], norm: nn.LayerNorm) -> None:
        super().__init__()
        self.dense, self.activation, self.norm = dense, activation, norm

    def forward(self, hidden_MD: Tensor) -> Tensor:
        """Features that the embeddings are multiplied with."""
        features: Tensor = self.norm(self.activation(self.dense(hidden_MD)))
        return features


class LmHead(nn.Module):
    """A transform and a decoder tied to the embeddings.

    Without a trained head, the transform starts as the identity and the bias as the log unigram frequency.
    """

    def __init__(self, backbone: Backbone, unigram_V: Tensor) -> None:
        super().__init__()
        self.transform: nn.Module = nn.Linear(backbone.width, backbone.embedding_width)
        nn.init.eye_(self.transform.weight)
        nn.init.zeros_(self.transform.bias)
        # the embeddings may have rows beyond the vocabulary, for the kernels' sake: tokens that never occur
        counts_V = nn.functional.pad(unigram_V.double(), (0, backbone.vocabulary_size - len(unigram_V))) + 0.5
        self.bias_V = nn.Parameter((counts_V / counts_V.sum()).log().float())
        self.decoder_VD: nn.Parameter | None = None
        """None: the embeddings."""

    @property
    def is_trained(self) -> bool:
        """Whether the head came with the encoder's weights."""
        return isinstance(self.transform, TrainedHead)

    def take(self, backbone: Backbone, weights: State) -> bool:
        """Take the trained head out of an encoder's checkpoint; False where it holds none.

        Args:
            weights: every tensor of the checkpoint, by its name there.

        Raises:
            ModelError: a part of the head is missing or does not fit.
        """
        for names in backbone.heads:
            if f"{names.dense}.weight" in weights:
                break
        else:
            return False
        try:
            self._take(backbone, weights, names)
        except KeyError as error:
            raise ModelError(f"the checkpoint's head is not whole: {error.args[0]} is missing") from None
        return True

    def _take(self, backbone: Backbone, weights: State, names: Any) -> None:
        from transformers.activations import ACT2FN

        config, num_tokens = backbone.config, len(backbone.embeddings)
        dense = _filled(nn.Linear, weights, names.dense)
        norm = _filled(nn.LayerNorm, weights, names.norm)
        norm.eps = getattr(config, "layer_norm_eps", getattr(config, "norm_eps", 1e-12))
        activation = ACT2FN[getattr(config, names.activation) if names.activation else "gelu"]
        bias = next((weights[name] for name in names.bias if name in weights), torch.zeros(num_tokens))
        if bias.shape != self.bias_V.shape:
            raise ModelError(f"the checkpoint's head predicts {len(bias)} tokens, the encoder has {num_tokens}")
        self.transform = TrainedHead(dense, activation, norm)
        self.bias_V = nn.Parameter(bias.float().clone())
        decoder = next((weights[name] for name in names.decoder if name in weights), None)
        if not getattr(config, "tie_word_embeddings", True) and decoder is not None:
            self.decoder_VD = nn.Parameter(decoder.float().clone())

    def decoder(self, backbone: Backbone) -> Tensor:
        """The matrix that features are multiplied with, (V, D)."""
        return backbone.embeddings if self.decoder_VD is None else self.decoder_VD

    def logits(self, backbone: Backbone, hidden_MD: Tensor) -> Tensor:
        """(M, V)."""
        features_MD = self.transform(hidden_MD)
        return nn.functional.linear(features_MD, self.decoder(backbone), self.bias_V.to(features_MD.dtype))

    def summed_loss(self, backbone: Backbone, hidden_MD: Tensor, labels_M: Tensor) -> Tensor:
        """Cross-entropy summed over the labels, float32; states behind the last label only fill their count up."""
        return linear_cross_entropy(self.transform(hidden_MD), self.decoder(backbone), self.bias_V, labels_M)


def make_head(backbone: Backbone, facts: Facts) -> LmHead:
    """The trained head of the backbone's checkpoint, else one made of the unigram counts."""
    head = LmHead(backbone, torch.from_numpy(facts.unigram_V))
    if not head.take(backbone, facts.checkpoint()):
        logger.info("the weights hold no masked-language-model head; one is made and warmed up")
    return head


class MaskedLm(Trained[MaskedBatch]):
    """A backbone and its masked-language-model head."""

    def __init__(self, backbone: Backbone, head: LmHead, loss: str) -> None:
        super().__init__()
        self.backbone, self.head, self._loss = backbone, head, loss
        self.weights = {loss: 1.0}
        self.needs_warmup = not head.is_trained

    def forward(self, batch: MaskedBatch, stream: str) -> Losses:
        """Cross-entropy summed over the masked positions.

        Sending every position through the decoder would cost 71-91 % of the step of a small encoder.
        """
        hidden_MD = self.backbone.packed(batch.ids_BT, batch.segments_BT, at=batch.at, pieces=batch.pieces)
        return {self._loss: self.head.summed_loss(self.backbone, hidden_MD, batch.labels_M)}

    def kept(self) -> nn.Module:
        """The backbone."""
        return self.backbone

    def card(self) -> dict[str, Any]:
        """Where the head is from."""
        made = "identity transform, decoder tied to the embeddings, bias = log unigram frequency, warmed up on a frozen encoder"
        return {"head": "the encoder's own" if self.head.is_trained else f"made for pretraining: {made}"}

    def flops_per_token(self, batches: Sequence[MaskedBatch]) -> float:
        """Forward and backward; see `EncoderShape`."""
        tokens = sum(batch.num_tokens for batch in batches)
        squares = sum(squared_lengths(batch.segments_BT) for batch in batches)
        targets = sum(len(batch.labels_M) for batch in batches)
        shape = shape_of(self.backbone.config)
        return shape.flops_per_token(squared_lengths_per_token=squares / tokens, target_share=targets / tokens)


@dataclass(frozen=True)
class EncoderShape:
    """What the operations of a training step follow from."""

    num_layers: int
    width: int
    vocabulary_size: int

    def flops_per_token(self, *, squared_lengths_per_token: float, target_share: float) -> float:
        """Forward and backward: 6 * 12 L h^2 + 12 L h * (sum s_i^2 / sum s_i) + 6 (V h + h^2) * r.

        Padding, the vocabulary head at positions without a target, and recomputation count for nothing.

        Args:
            squared_lengths_per_token: sum of squared document lengths over the sum of lengths.
            target_share: r, targets of the vocabulary head for each token.
        """
        layers, width = self.num_layers, self.width
        head = 6 * (self.vocabulary_size * width + width * width) * target_share
        return 72 * layers * width * width + 12 * layers * width * squared_lengths_per_token + head


def shape_of(config: Any) -> EncoderShape:
    """The shape of an encoder of transformers."""
    return EncoderShape(config.num_hidden_layers, config.hidden_size, config.vocab_size)


def squared_lengths(segments_BT: Tensor) -> float:
    """Sum of the squared lengths of the documents' pieces in packed rows."""
    starts = torch.ones_like(segments_BT, dtype=torch.bool)
    starts[:, 1:] = segments_BT[:, 1:] != segments_BT[:, :-1]
    bounds = starts.flatten().nonzero().squeeze(1)
    lengths = torch.diff(bounds, append=bounds.new_tensor([segments_BT.numel()]))
    return float((lengths.double() ** 2).sum())


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


class Masking(Options):
    """An objective of masked tokens; which ones, the objective itself says."""

    view: ClassVar[type[PackedRows]] = PackedRows
    divisible: ClassVar[bool] = True
    shapes: ClassVar[tuple[str, ...]] = ("encoder",)
    loss: ClassVar[str]
    """The objective's name."""

    rate: Annotated[float, Field(gt=0, lt=1)] = 0.15
    mask_share: Annotated[float, Field(ge=0, le=1)] = 0.8
    random_share: Annotated[float, Field(ge=0, le=1)] = 0.1

    def build(self, backbone: Backbone, facts: Facts, generator: torch.Generator) -> MaskedLm:
        """The backbone with its own head, or one made for it."""
        require_mask(facts.vocabulary)
        return MaskedLm(backbone, make_head(backbone, facts), self.loss)

    def corrupted(self, view: PackedRows, masked_M: np.ndarray, facts: Facts, generator: torch.Generator) -> MaskedBatch:
        """The rows with the chosen positions corrupted by the shares."""
        shares = {"mask_share": self.mask_share, "random_share": self.random_share}
        return corrupt(view.ids_BT, view.segments_BT, masked_M, generator, facts.vocabulary, **shares, loss=self.loss)
