"""Two crops of a text attract, texts of earlier batches repel (MoCo, He et al. 2020, https://arxiv.org/abs/1911.05722).

The crops are those of Contriever (Izacard et al. 2022, section 3, https://arxiv.org/abs/2112.09118).
Shape suffixes: B rows, D width, K queue.
"""

from __future__ import annotations

import copy
from typing import Annotated, ClassVar

import torch
import torch.distributed as dist
from pydantic import Field
from torch import Tensor, nn

from acclimate.backbones.base import Backbone
from acclimate.objectives._pairs import PairBatch, framed, pair_batch, sentence_vectors
from acclimate.protocols import Documents, Draw, Facts, Losses, Objective, Trained
from acclimate.settings import Options
from acclimate.training.distributed import local

_MIN_CROP_TOKENS = 3


class MomentumModel(Trained[PairBatch]):
    """A backbone, a slow copy of it, and the copy's vectors of the last texts."""

    queue_KD: Tensor
    filled: Tensor

    def __init__(self, backbone: Backbone, *, queue_size: int, momentum: float, temperature: float, generator: torch.Generator) -> None:
        super().__init__()
        self.backbone = backbone
        self.slow = copy.deepcopy(backbone).requires_grad_(False)
        self._momentum, self._temperature = momentum, temperature
        self.weights = {"momentum_contrastive": 1.0}
        queue_KD = torch.randn(queue_size, backbone.width, generator=generator)
        self.register_buffer("queue_KD", nn.functional.normalize(queue_KD, dim=-1))
        self.register_buffer("filled", torch.zeros((), dtype=torch.int64))
        self._pending: list[Tensor] = []

    def forward(self, batch: PairBatch, stream: str) -> Losses:
        """Each crop finds the other crop of its text among the queue."""
        query_BD = sentence_vectors(self.backbone, batch.left_BT, batch.left_mask_BT)
        with torch.no_grad():
            self.slow.eval()
            key_BD = sentence_vectors(self.slow, batch.right_BT, batch.right_mask_BT)
        if self.training:
            self._pending.append(key_BD)
        scores_BK1 = torch.cat([(query_BD * key_BD).sum(-1, keepdim=True), query_BD @ self.queue_KD.T], dim=1) / self._temperature
        first_B = torch.zeros(len(query_BD), dtype=torch.int64, device=query_BD.device)
        return {"momentum_contrastive": nn.functional.cross_entropy(scores_BK1, first_B, reduction="sum")}

    def before_step(self, step: int) -> None:
        """Forget the vectors of a step that is tried again."""
        self._pending = []

    @torch.no_grad()
    def after_update(self, step: int) -> None:
        """The slow copy follows, and the oldest vectors give way to the step's, in the order of their rows."""
        for slow, fast in zip(self.slow.parameters(), self.backbone.parameters(), strict=True):
            local(slow).lerp_(local(fast), 1 - self._momentum)
        keys = torch.cat(self._pending)
        if dist.is_available() and dist.is_initialized():
            found: list[Tensor] = [keys] * dist.get_world_size()
            dist.all_gather_object(found, keys.cpu())
            keys = torch.cat([each.to(keys.device) for each in found])
        keys = keys[-len(self.queue_KD) :]
        places = (self.filled + torch.arange(len(keys), device=keys.device)) % len(self.queue_KD)
        self.queue_KD[places] = keys.to(self.queue_KD.dtype)
        self.filled += len(keys)
        self._pending = []

    def kept(self) -> nn.Module:
        """The backbone."""
        return self.backbone


class MomentumContrastive(Options):
    """A crop is a random part of a text, of the share `crop` at least and at most."""

    view: ClassVar[type[Documents]] = Documents
    divisible: ClassVar[bool] = True  # what repels stands in the queue, not in the batch
    shapes: ClassVar[tuple[str, ...]] = ("encoder", "encoder_decoder")

    queue_size: Annotated[int, Field(ge=1)] = 4096
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.999
    temperature: Annotated[float, Field(gt=0)] = 0.05
    crop: tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(gt=0, le=1)]] = (0.1, 0.5)

    def build(self, backbone: Backbone, facts: Facts, generator: torch.Generator) -> MomentumModel:
        """The backbone beside its slow copy."""
        options = {"momentum": self.momentum, "temperature": self.temperature}
        return MomentumModel(backbone, queue_size=self.queue_size, **options, generator=generator)

    def batch(self, view: Documents, facts: Facts, draw: Draw) -> PairBatch:
        """Two crops of each text, which may overlap."""
        numbers = torch.rand(2, len(view.ids), 2, generator=draw.generator()).tolist()
        left, right = ([self._crop(text, *number) for text, number in zip(view.ids, side, strict=True)] for side in numbers)
        return pair_batch(left, right, facts.pad_id, "momentum_contrastive")

    def _crop(self, document_T: Tensor, size: float, place: float) -> Tensor:
        inner, (least, most) = len(document_T) - 2, self.crop
        length = min(inner, max(_MIN_CROP_TOKENS, round(inner * (least + (most - least) * size))))
        start = int(place * (inner - length + 1))
        return framed(document_T, start, start + length)


COMPONENT: type[Objective[Documents, PairBatch]] = MomentumContrastive
