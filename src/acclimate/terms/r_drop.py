"""R-Drop: two passes with other dropout must agree (Liang et al. 2021, https://arxiv.org/abs/2106.14448).

Shape suffixes: B rows, T tokens, C outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from pydantic import Field
from torch import Tensor
from torch.nn import functional

from acclimate.protocols import Labelled, Losses, Term
from acclimate.settings import Options


class RDrop(Options, Term):
    """The second pass's own loss, and `alpha` times the symmetric divergence of the two (of numbers: their squared difference)."""

    alpha: Annotated[float, Field(gt=0)] = 1.0

    def counts(self, batch: Labelled) -> dict[str, int]:
        """As many terms as the task's loss has."""
        return {"r_drop": int(batch.terms_B.sum())}

    def losses(self, run: Callable[[], tuple[Tensor, Tensor]], batch: Labelled, outputs: Tensor) -> Losses:
        """Summed over rows; where each token has outputs, a row's divergence is its mean over tokens times its terms."""
        second, losses_B = run()
        divergence = _divergence(outputs.float(), second.float())
        if divergence.ndim == 2:
            mask_BT = batch.mask_BT.to(divergence.dtype)
            divergence = (divergence * mask_BT).sum(1) / mask_BT.sum(1) * batch.terms_B
        return {"r_drop": losses_B.sum() + self.alpha * divergence.sum()}


def _divergence(first: Tensor, second: Tensor) -> Tensor:
    """Of two sets of outputs (..., C): (...)."""
    if first.shape[-1] == 1:
        return (first - second).square().sum(-1)
    left, right = first.log_softmax(-1), second.log_softmax(-1)
    there = functional.kl_div(right, left, reduction="none", log_target=True).sum(-1)
    back = functional.kl_div(left, right, reduction="none", log_target=True).sum(-1)
    return (there + back) / 2


COMPONENT: type[Term] = RDrop
