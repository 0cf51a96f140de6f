"""BitFit: the biases of the backbone and the head are trained (Ben Zaken et al. 2022, https://arxiv.org/abs/2106.10199)."""

from __future__ import annotations

import torch

from acclimate.errors import ConfigError
from acclimate.protocols import Strategy
from acclimate.settings import Options
from acclimate.training.task_model import TaskModel


class BitFit(Options, Strategy):
    """No options."""

    def apply(self, model: TaskModel, generator: torch.Generator) -> None:
        """Freeze all of the backbone but its biases.

        Raises:
            ConfigError: it has none.
        """
        biases = [parameter for name, parameter in model.backbone.named_parameters() if name.endswith("bias")]
        if not biases:
            raise ConfigError(f"strategy.bitfit: {model.backbone.config.model_type} has no biases; choose another strategy")
        model.backbone.requires_grad_(False)
        for parameter in biases:
            parameter.requires_grad_(True)


COMPONENT: type[Strategy] = BitFit
