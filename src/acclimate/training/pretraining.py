"""Pretraining taken apart: its text, model, batches and optimizers, as the stage `pretrain` uses them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from acclimate import plugins
from acclimate.backbones.loading import load_backbone
from acclimate.data.encoding import read_vocabulary
from acclimate.models.mlm_head import MlmModel, load_mlm_model
from acclimate.training.batches import PackedBatches
from acclimate.training.distributed import World
from acclimate.training.heldout import PackedText, heldout_loss, read_packed
from acclimate.training.optimizers import adamw, make_optimizer, parameter_groups
from acclimate.training.options import PretrainConfig
from acclimate.training.precision import Precision


@dataclass(frozen=True)
class Pretraining:
    """What every step of pretraining needs."""

    config: PretrainConfig
    seed: int
    precision: Precision
    world: World
    make_batch: Callable[[Tensor, Tensor, torch.Generator], Any]
    loss: Callable[..., Tensor]
    corpus: PackedText
    heldout: PackedText
    general: PackedText

    @property
    def tokens_per_step(self) -> int:
        """Tokens of an optimizer step."""
        return self.config.rows_per_batch * self.config.accumulation * int(self.corpus.ids.shape[1])

    @property
    def steps(self) -> int:
        """Optimizer steps of encoder and head, at least one."""
        return max(1, round(self.config.max_tokens / self.tokens_per_step))

    @property
    def evaluate_every(self) -> int:
        """Steps from one look at the held-out losses to the next."""
        return math.ceil(self.steps / (self.config.evaluations + 1))

    def warmup_steps(self, model: MlmModel) -> int:
        """Optimizer steps of the head alone; a head that came with the encoder needs none."""
        return 0 if model.has_trained_head else round(self.config.head_warmup_tokens / self.tokens_per_step)

    def losses(self, model: nn.Module) -> dict[str, float]:
        """Loss on held-out domain text and, where there is some, on general text."""
        found = {
            name: heldout_loss(model, text, make_batch=self.make_batch, loss_fn=self.loss, precision=self.precision)
            for name, text in (("heldout_loss", self.heldout), ("general_loss", self.general))
        }
        return {name: value for name, value in found.items() if value is not None}

    def batches(self, steps: int, seed: int) -> PackedBatches:
        """Corrupted rows of the corpus."""
        return PackedBatches(
            self.corpus.ids,
            self.corpus.segments,
            self.make_batch,
            rows_per_batch=self.config.rows_per_batch,
            accumulation=self.config.accumulation,
            steps=steps,
            seed=seed,
        )

    def head_optimizer(self, model: MlmModel) -> torch.optim.Optimizer:
        """Of the head's warm-up."""
        groups = [{"params": model.head_parameters(), "lr": self.config.head_learning_rate, "weight_decay": 0.0}]
        return adamw(groups, betas=(0.9, 0.98), epsilon=1e-6)

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """Of encoder and head."""
        config = self.config.optimizer
        groups = parameter_groups(model.named_parameters(), learning_rate=config.learning_rate, weight_decay=config.weight_decay)
        return make_optimizer(config.name, groups, betas=(config.beta1, config.beta2), epsilon=config.epsilon)


def read_pretraining(config: PretrainConfig, tokens: Path, encoder: Path, *, seed: int, precision: Precision, world: World) -> Pretraining:
    """Bind the objective to packed text and the encoder's vocabulary.

    Args:
        tokens: directory that the stage `tokenize` wrote.
        encoder: directory with tokenizer.json.
    """
    objective = plugins.load("objectives", config.objective)
    options = plugins.configure(
        "objectives", config.objective, config.objectives.get(config.objective, {}), where=f"pretrain.objectives.{config.objective}"
    )
    make_batch = partial(objective.make_batch, config=options, vocabulary=read_vocabulary(encoder))
    corpus, heldout, general = (read_packed(tokens, split) for split in ("corpus", "heldout", "general"))
    rows = config.heldout_rows
    return Pretraining(config, seed, precision, world, make_batch, objective.loss, corpus, heldout.head(rows), general.head(rows))


def read_mlm_model(config: PretrainConfig, tokens: Path, encoder: Path, *, attention: str) -> MlmModel:
    """Encoder and head as pretraining begins with them."""
    unigram_V = torch.from_numpy(np.load(tokens / "unigram.npy"))
    return load_mlm_model(encoder, load_backbone(encoder, dropout=config.dropout, attention=attention), unigram_V)
