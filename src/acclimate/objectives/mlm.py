"""Masked-language modelling, 80/10/10 (Devlin et al. 2019, section 3.1, https://arxiv.org/abs/1810.04805).

Shape suffixes: B rows, T tokens, M masked positions of the batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from acclimate.settings import Section

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from acclimate.data.encoding import Vocabulary
    from acclimate.models.mlm_head import MlmModel
    from acclimate.training.masking import MlmBatch


class Config(Section):
    """Options of masking."""

    rate: Annotated[float, Field(gt=0, lt=1)] = 0.15
    mask_share: Annotated[float, Field(ge=0, le=1)] = 0.8
    random_share: Annotated[float, Field(ge=0, le=1)] = 0.1


def make_batch(ids_BT: Tensor, segments_BT: Tensor, generator: torch.Generator, *, config: Config, vocabulary: Vocabulary) -> MlmBatch:
    """Corrupt packed rows; see `training.masking.mask_rows`."""
    from acclimate.training.masking import mask_rows

    return mask_rows(ids_BT, segments_BT, generator, config=config, vocabulary=vocabulary)


def loss(model: MlmModel, batch: MlmBatch) -> Tensor:
    """Cross-entropy summed over the masked positions."""
    return model.summed_loss(batch.ids_BT, batch.segments_BT, batch.at, batch.labels_M, batch.pieces)
