"""Span corruption: spans give way to sentinels, the decoder writes them (T5, Raffel et al. 2020, section 3.1.4, https://arxiv.org/abs/1910.10683).

Shape suffixes: B rows, T tokens read, S tokens written, D width, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from acclimate.backbones.base import Backbone, EncoderDecoder
from acclimate.data.tokens.encoding import Vocabulary
from acclimate.errors import ModelError
from acclimate.protocols import Batch, Documents, Draw, Facts, Losses, Objective, Trained
from acclimate.settings import Options

_IGNORE = -100


@dataclass(frozen=True)
class SpanBatch(Batch):
    """What the encoder reads and what the decoder writes, padded."""

    ids_BT: Tensor
    mask_BT: Tensor
    given_BS: Tensor
    """The decoder's input: its targets, one place later."""
    targets_BS: Tensor
    """-100 behind a row's last."""

    def counts(self) -> dict[str, int]:
        """Tokens to write."""
        return {"span_corruption": int((self.targets_BS != _IGNORE).sum())}

    @property
    def num_tokens(self) -> int:
        """Real tokens, read and written."""
        return int(self.mask_BT.sum() + (self.targets_BS != _IGNORE).sum())


class SpanModel(Trained[SpanBatch]):
    """An encoder and decoder with the family's own output layer."""

    def __init__(self, backbone: EncoderDecoder) -> None:
        super().__init__()
        self.backbone = backbone
        self.weights = {"span_corruption": 1.0}

    def forward(self, batch: SpanBatch, stream: str) -> Losses:
        """Cross-entropy summed over the written tokens."""
        hidden_BTD = self.backbone.padded(batch.ids_BT, batch.mask_BT)
        decoded_BSD = self.backbone.decode(batch.given_BS, hidden_BTD, batch.mask_BT)
        logits = self.backbone.lm_logits(decoded_BSD).float().flatten(0, 1)
        loss = nn.functional.cross_entropy(logits, batch.targets_BS.flatten(), ignore_index=_IGNORE, reduction="sum")
        return {"span_corruption": loss}

    def kept(self) -> nn.Module:
        """The backbone."""
        return self.backbone


class SpanCorruption(Options):
    """`rate` of the tokens is cut out, in spans of `mean_span` tokens on average."""

    view: ClassVar[type[Documents]] = Documents
    divisible: ClassVar[bool] = True
    shapes: ClassVar[tuple[str, ...]] = ("encoder_decoder",)

    rate: Annotated[float, Field(gt=0, lt=1)] = 0.15
    mean_span: Annotated[float, Field(ge=1)] = 3.0

    def build(self, backbone: Backbone, facts: Facts, generator: torch.Generator) -> SpanModel:
        """Nothing is added.

        Raises:
            ModelError: the tokenizer has no sentinels or no end token.
        """
        _sentinels(facts.vocabulary)
        assert isinstance(backbone, EncoderDecoder), "the stage checks shapes"
        return SpanModel(backbone)

    def batch(self, view: Documents, facts: Facts, draw: Draw) -> SpanBatch:
        """Cut spans out of each document."""
        generator, vocabulary = np.random.default_rng(draw.seed_of(0)), facts.vocabulary
        sentinels, end = _sentinels(vocabulary)
        read, written = [], []
        for document_T in view.ids:
            inner = np.array([token for token in document_T.tolist() if token != end])
            starts, stops = _spans(len(inner), self.rate, self.mean_span, generator, most=len(sentinels) - 1)
            kept: list[int] = []
            cut: list[int] = []
            place = 0
            for sentinel, start, stop in zip(sentinels, starts, stops, strict=False):
                kept += [*inner[place:start], sentinel]
                cut += [sentinel, *inner[start:stop]]
                place = stop
            read.append([*kept, *inner[place:], end])
            written.append([*cut, sentinels[len(starts)], end])
        ids_BT, mask_BT = _padded(read, facts.pad_id)
        targets_BS, there_BS = _padded(written, _IGNORE)
        given_BS = torch.cat(
            [torch.full((len(written), 1), facts.pad_id), targets_BS[:, :-1].masked_fill(~there_BS[:, :-1].bool(), facts.pad_id)], 1
        )
        return SpanBatch(ids_BT, mask_BT, given_BS, targets_BS)


def _sentinels(vocabulary: Vocabulary) -> tuple[list[int], int]:
    """The sentinels, first to last, and the end token."""
    found: list[int] = []
    while (token := f"<extra_id_{len(found)}>") in vocabulary.special:
        found.append(vocabulary.special[token])
    if len(found) < 2 or "</s>" not in vocabulary.special:
        raise ModelError("the tokenizer has no sentinels (<extra_id_0>, ...) or no </s>; span corruption needs a T5-like tokenizer")
    return found, vocabulary.special["</s>"]


def _spans(length: int, rate: float, mean_span: float, generator: np.random.Generator, *, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Starts and stops of the cut spans: as T5 draws them, kept and cut stretches in turns, the first kept."""
    num_cut = min(max(1, round(length * rate)), length - 1)
    num_spans = min(max(1, round(num_cut / mean_span)), num_cut, length - num_cut, most)
    cut, kept = _parts(num_cut, num_spans, generator), _parts(length - num_cut, num_spans, generator)
    stops = np.cumsum(kept + cut)
    return stops - cut, stops


def _parts(total: int, count: int, generator: np.random.Generator) -> np.ndarray:
    """`count` whole numbers from 1 on that add up to `total`, every choice equally likely."""
    borders = np.sort(generator.choice(total - 1, count - 1, replace=False)) + 1 if count > 1 else np.empty(0, dtype=np.int64)
    return np.diff(np.concatenate([[0], borders, [total]])).astype(np.int64)


def _padded(rows: list[list[int]], fill: int) -> tuple[Tensor, Tensor]:
    width = -(-max(map(len, rows)) // 8) * 8
    ids = np.full((len(rows), width), fill, dtype=np.int64)
    there = np.zeros_like(ids)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = row
        there[number, : len(row)] = 1
    return torch.from_numpy(ids), torch.from_numpy(there)


COMPONENT: type[Objective[Documents, SpanBatch]] = SpanCorruption
