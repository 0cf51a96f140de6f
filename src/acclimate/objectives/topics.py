"""Texts on the same topic come near each other, as near as their topics are.

Topics are those of latent semantic analysis of the text that is trained on (Deerwester et al. 1990), so no label and no link between
texts is needed. Two losses share the vectors of a batch of pairs:
- contrast: a text finds its nearest text by topic, or another part of itself, among the batch, as documents find cited ones in SPECTER
  (Cohan et al. 2020, https://arxiv.org/abs/2004.07180);
- similarity: each text's similarities to all others of the batch, as a distribution, follow those of their topics, as a student
  follows its teacher in SEED (Fang et al. 2021, https://arxiv.org/abs/2101.04731).

Shape suffixes: B pairs, R = 2 B texts, T tokens, D width, K topics.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from acclimate.backbones.base import Backbone
from acclimate.objectives._pairs import PairBatch, framed, halves, info_nce, pair_batch, parted, sentence_vectors
from acclimate.objectives._topics import TopicSpace, topic_space
from acclimate.protocols import Batch, Documents, Draw, Facts, Losses, Objective, Trained
from acclimate.settings import Count, Options, Positive, Share


@dataclass(frozen=True)
class TopicBatch(Batch):
    """Pairs of texts with the topic vectors of the documents that they are cut from."""

    left_topics_BK: Tensor
    right_topics_BK: Tensor
    pairs: PairBatch

    def counts(self) -> dict[str, int]:
        """Pairs, and texts."""
        return {"topics": self.num_rows, "topics_similarity": 2 * self.num_rows}

    @property
    def num_tokens(self) -> int:
        """Real tokens of both sides."""
        return self.pairs.num_tokens


class TopicModel(Trained[TopicBatch]):
    """A backbone whose mean vectors are compared."""

    def __init__(self, backbone: Backbone, options: Topics) -> None:
        super().__init__()
        self.backbone, self._options = backbone, options
        self.weights = {"topics": options.contrast_weight, "topics_similarity": options.similarity_weight}

    def forward(self, batch: TopicBatch, stream: str) -> Losses:
        """Both losses."""
        pairs, options = batch.pairs, self._options
        left_BD = sentence_vectors(self.backbone, pairs.left_BT, pairs.left_mask_BT)
        right_BD = sentence_vectors(self.backbone, pairs.right_BT, pairs.right_mask_BT)
        return {
            "topics": info_nce(left_BD, right_BD, options.temperature),
            "topics_similarity": _divergence(
                torch.cat([left_BD, right_BD]), torch.cat([batch.left_topics_BK, batch.right_topics_BK]), options.similarity_temperature
            ),
        }

    def kept(self) -> nn.Module:
        """The backbone."""
        return self.backbone


def _divergence(student_RD: Tensor, teacher_RK: Tensor, temperature: float) -> Tensor:
    """KL(teacher || student) of each text's distribution over the other texts, summed over the texts; vectors are of length 1."""
    with torch.autocast(student_RD.device.type, enabled=False):
        itself_RR = torch.eye(len(student_RD), dtype=torch.bool, device=student_RD.device)
        student_RR, teacher_RR = (
            (vectors @ vectors.T / temperature).masked_fill(itself_RR, -1e4).log_softmax(dim=1)
            for vectors in (student_RD.float(), teacher_RK.float())
        )
        return nn.functional.kl_div(student_RR, teacher_RR, log_target=True, reduction="sum")


class Topics(Options):
    """A text meets one of its nearest texts by topic, or, in a share of the pairs, another part of itself.

    Its parts are its halves, or its opening, often a title, and the rest.
    """

    view: ClassVar[type[Documents]] = Documents
    divisible: ClassVar[bool] = False  # the rows of a batch are compared with each other
    shapes: ClassVar[tuple[str, ...]] = ("encoder", "encoder_decoder")

    topics: Count = 200
    neighbours: Count = 4
    own_share: Share = 0.67
    opening_share: Share = Field(default=0.5, description="of the pairs of a text with itself")
    opening: Count = Field(default=12, description="tokens of the opening at most; a third of it at least")
    contrast_weight: Positive = 1.0
    similarity_weight: Positive = 1.0
    temperature: Positive = 0.05
    similarity_temperature: Positive = 0.1
    max_length: Annotated[int, Field(ge=8, description="tokens of a text that the encoder reads")] = 64
    max_documents: Annotated[int, Field(ge=3, description="that topics are made of, evenly spaced in the text")] = 50_000

    def build(self, backbone: Backbone, facts: Facts, generator: torch.Generator) -> TopicModel:
        """Nothing is added to the backbone; the topics are made here, once."""
        self._space(facts)
        return TopicModel(backbone, self)

    def _space(self, facts: Facts) -> TopicSpace:
        return topic_space(facts, num_topics=self.topics, max_documents=self.max_documents)

    def batch(self, view: Documents, facts: Facts, draw: Draw) -> TopicBatch:
        """Each side is cut to `max_length` tokens; a text without neighbours meets a part of itself."""
        space = self._space(facts)
        left_topics_BK = space.vectors(view.ids)
        right_topics_BK = left_topics_BK.copy()
        near = space.neighbours(left_topics_BK, self.neighbours)
        left, right = [], []
        for row, (own, opening, place) in enumerate(torch.rand(len(view.ids), 3, generator=draw.generator()).tolist()):
            if own < self.own_share or not len(near[row]):
                pair = self._opened(view.ids[row], place) if opening < self.opening_share else halves(view.ids[row], place)
            else:
                number = int(near[row][int(place * len(near[row]))])
                pair, right_topics_BK[row] = (view.ids[row], space.document(number)), space.vectors_NK[number]
            left.append(self._cut(pair[0]))
            right.append(self._cut(pair[1]))
        pairs = pair_batch(left, right, facts.pad_id, "topics")
        return TopicBatch(torch.from_numpy(left_topics_BK), torch.from_numpy(right_topics_BK), pairs)

    def _opened(self, ids_T: Tensor, place: float) -> tuple[Tensor, Tensor]:
        least = max(1, self.opening // 3)
        return parted(ids_T, least + int(place * (self.opening - least + 1)))

    def _cut(self, ids_T: Tensor) -> Tensor:
        return framed(ids_T, 0, self.max_length - 2)


COMPONENT: type[Objective[Documents, TopicBatch]] = Topics
