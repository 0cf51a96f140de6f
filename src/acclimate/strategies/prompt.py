"""Prompt tuning: trained vectors before the words of every text, the backbone frozen (Lester et al. 2021, https://arxiv.org/abs/2104.08691)."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from acclimate.backbones.base import Backbone, Embedded
from acclimate.errors import ConfigError
from acclimate.protocols import Strategy
from acclimate.settings import Options
from acclimate.training.task_model import TaskModel


class SoftPrompt(nn.Module):
    """Vectors that begin as the embeddings of words drawn at random."""

    def __init__(self, backbone: Backbone, length: int, generator: torch.Generator) -> None:
        super().__init__()
        drawn = torch.randint(backbone.vocabulary_size, (length,), generator=generator)
        self.vectors_PD = nn.Parameter(backbone.embeddings.detach()[drawn].clone())

    def forward(self, embedded: Embedded) -> Embedded:
        """The rows with the prompt at their front."""
        rows, length = embedded.hidden_BTD.shape[0], self.vectors_PD.shape[0]
        front_BPD = self.vectors_PD.to(embedded.hidden_BTD.dtype).unsqueeze(0).expand(rows, -1, -1)
        mask_BT, types_BT = embedded.mask_BT, embedded.type_ids_BT
        return replace(
            embedded,
            hidden_BTD=torch.cat([front_BPD, embedded.hidden_BTD], dim=1),
            mask_BT=torch.cat([mask_BT.new_ones(1).expand(rows, length), mask_BT], dim=1),
            type_ids_BT=None if types_BT is None else torch.cat([_zeros(types_BT, rows, length), types_BT], dim=1),
            extra=embedded.extra + length,
        )


def _zeros(like: Tensor, rows: int, length: int) -> Tensor:
    return like.new_zeros(1).expand(rows, length)


class Prompt(Options, Strategy):
    """Only the prompt and the head are trained."""

    merges: ClassVar[bool] = False

    length: Annotated[int, Field(ge=1)] = 16

    @property
    def extra_tokens(self) -> int:
        """The prompt's."""
        return self.length

    def apply(self, model: TaskModel, generator: torch.Generator) -> None:
        """Freeze the backbone and put a prompt before what it reads.

        Raises:
            ConfigError: prompt and text together are longer than the backbone reads.
        """
        most = model.backbone.max_length
        if most is not None and self.length > most - model.spec.max_length:
            raise ConfigError(
                f"strategy.prompt.length is {self.length}, but texts of {model.spec.max_length} tokens leave room for "
                f"{most - model.spec.max_length} in {model.backbone.config.model_type}'s {most}; lower it or the task's max_length"
            )
        model.backbone.requires_grad_(False)
        model.prompt = SoftPrompt(model.backbone, self.length, generator)
        model.backbone.edits.append(model.prompt)


COMPONENT: type[Strategy] = Prompt
