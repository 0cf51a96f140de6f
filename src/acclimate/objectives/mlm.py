"""Masked-language modelling, 80/10/10 (Devlin et al. 2019, section 3.1, https://arxiv.org/abs/1810.04805).

Shape suffixes: B rows, T tokens, M masked positions of the batch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from acclimate.config import Section
from acclimate.errors import ModelError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from acclimate.data.encoding import Vocabulary
    from acclimate.models.mlm_head import MlmModel


class Config(Section):
    """Options of masking."""

    rate: Annotated[float, Field(gt=0, lt=1)] = 0.15
    mask_share: Annotated[float, Field(ge=0, le=1)] = 0.8
    random_share: Annotated[float, Field(ge=0, le=1)] = 0.1


@dataclass(frozen=True)
class MlmBatch:
    """Corrupted rows; `masked` are indices into the flattened (B * T) positions, `labels_M` the original ids there."""

    ids_BT: Tensor
    segments_BT: Tensor
    masked_M: Tensor
    labels_M: Tensor

    @property
    def num_targets(self) -> int:
        """Masked positions."""
        return len(self.labels_M)

    @property
    def num_tokens(self) -> int:
        """Packed rows hold no padding."""
        return self.ids_BT.numel()

    def to(self, device: torch.device) -> MlmBatch:
        """The same batch on another device."""
        return replace(self, **{name: getattr(self, name).to(device, non_blocking=True) for name in self.__dataclass_fields__})


def make_batch(ids_BT: Tensor, segments_BT: Tensor, generator: torch.Generator, *, config: Config, vocabulary: Vocabulary) -> MlmBatch:
    """Corrupt packed rows.

    Of the eligible positions (no special token) a share `config.rate` is chosen; of those 80 % become [MASK], 10 % a
    random id and 10 % stay, with the default shares.

    Args:
        ids_BT: int64 token ids.
        segments_BT: document numbers, passed on.
        generator: same state, same masks.

    Raises:
        ModelError: the tokenizer has no mask token.
    """
    import torch

    if vocabulary.mask_id is None:
        raise ModelError("the tokenizer has no mask token ([MASK] or <mask>); masked-language modelling needs one")

    special_BT = torch.isin(ids_BT, torch.tensor(vocabulary.special_ids))
    chosen_BT = (torch.rand(ids_BT.shape, generator=generator) < config.rate) & ~special_BT
    masked_M = chosen_BT.flatten().nonzero().squeeze(1)
    labels_M = ids_BT.flatten()[masked_M]
    fate_M = torch.rand(len(masked_M), generator=generator)
    random_M = torch.randint(vocabulary.size, (len(masked_M),), generator=generator)
    becomes_M = torch.where(fate_M < config.mask_share, vocabulary.mask_id, labels_M)
    is_random_M = (fate_M >= config.mask_share) & (fate_M < config.mask_share + config.random_share)
    corrupted = ids_BT.flatten().clone()
    corrupted[masked_M] = torch.where(is_random_M, random_M, becomes_M)
    return MlmBatch(corrupted.view_as(ids_BT), segments_BT, masked_M, labels_M)


def loss(model: MlmModel, batch: MlmBatch) -> Tensor:
    """Cross-entropy summed over the masked positions."""
    from torch.nn.functional import cross_entropy

    return cross_entropy(model(batch.ids_BT, batch.segments_BT, batch.masked_M).float(), batch.labels_M, reduction="sum")
