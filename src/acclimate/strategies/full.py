"""Every weight of the backbone is trained (Devlin et al. 2019, https://arxiv.org/abs/1810.04805)."""

from __future__ import annotations

import torch

from acclimate.protocols import Strategy
from acclimate.settings import Options
from acclimate.training.task_model import TaskModel


class Full(Options, Strategy):
    """No options."""

    def apply(self, model: TaskModel, generator: torch.Generator) -> None:
        """Leave every weight trainable."""
        model.backbone.requires_grad_(True)


COMPONENT: type[Strategy] = Full
