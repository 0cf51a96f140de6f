"""FreeLB: a batch is trained on under perturbed embeddings, which climb the loss as they go (Zhu et al. 2020, https://arxiv.org/abs/1909.11764).

Shape suffixes: B rows, T tokens, E width of an embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from acclimate.backbones.base import Embedded
from acclimate.protocols import Labelled, Losses, Term
from acclimate.settings import Options

if TYPE_CHECKING:
    from acclimate.training.task_model import TaskModel


class FreeLb(Options, Term):
    """`passes_per_batch` is the paper's K. The perturbation begins at zero, not at random, so that it depends on no micro-batch."""

    has_passes: ClassVar[bool] = True

    passes_per_batch: Annotated[int, Field(ge=2, le=16)] = 3
    step_size: Annotated[float, Field(gt=0)] = 0.1
    max_norm: Annotated[float, Field(gt=0)] = 0.3

    def passes(self, model: TaskModel, batch: Labelled, run: Callable[[], Losses]) -> Iterator[Losses]:
        """The mean of K losses; before each but the first, every row's perturbation takes a step along its gradient."""
        width = model.backbone.embedding_width
        delta_BTE = torch.zeros(*batch.mask_BT.shape, width, device=batch.mask_BT.device)
        for number in range(self.passes_per_batch):
            delta_BTE = delta_BTE.detach().requires_grad_()
            yield {name: loss / self.passes_per_batch for name, loss in _perturbed(model, delta_BTE, run).items()}
            if number < self.passes_per_batch - 1 and delta_BTE.grad is not None:
                delta_BTE = self._climbed(delta_BTE.detach(), delta_BTE.grad)

    def _climbed(self, delta_BTE: Tensor, gradient_BTE: Tensor) -> Tensor:
        """A step along each row's gradient, kept within `max_norm`."""
        climbed_BTE = delta_BTE + self.step_size * torch.nan_to_num(gradient_BTE / _norms(gradient_BTE))
        return climbed_BTE * (self.max_norm / _norms(climbed_BTE)).clamp(max=1.0)


def _perturbed(model: TaskModel, delta_BTE: Tensor, run: Callable[[], Losses]) -> Losses:
    def edit(embedded: Embedded) -> Embedded:
        return replace(embedded, hidden_BTD=embedded.hidden_BTD + delta_BTE.to(embedded.hidden_BTD.dtype))

    model.backbone.edits.insert(0, edit)
    try:
        return run()
    finally:
        model.backbone.edits.pop(0)


def _norms(values_BTE: Tensor) -> Tensor:
    """Of each row, (B, 1, 1)."""
    norms_B11: Tensor = torch.linalg.vector_norm(values_BTE, dim=(1, 2), keepdim=True)
    return norms_B11.clamp_min(1e-12)


COMPONENT: type[Term] = FreeLb
