"""Fine-tuning taken apart: model, batches, loss and optimizer, as the stage `finetune` uses them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from acclimate import kinds, plugins
from acclimate.data.labelled import LabelledSplit, TableSchema
from acclimate.data.options import TaskConfig
from acclimate.models.task_model import TaskModel, TaskSpec
from acclimate.training.batches import PaddedBatch, RaggedBatches
from acclimate.training.optimizers import make_optimizer, parameter_groups
from acclimate.training.options import FinetuneConfig


def build_task_model(
    backbone: Any,
    config: FinetuneConfig,
    task: TaskConfig,
    schema: TableSchema,
    kind: kinds.Model,
    train: LabelledSplit,
    *,
    encoder_name: str,
    seed: int,
) -> TaskModel:
    """Encoder with the strategy applied, and a fresh head."""
    strategy = plugins.load("strategies", config.strategy)
    strategy.apply(backbone, strategy_options(config))
    spec = TaskSpec(
        **asdict(schema),
        pooling=task.pooling,
        max_tokens=task.max_tokens,
        encoder=encoder_name,
        seed=seed,
        hidden_size=backbone.config.hidden_size,
        num_outputs=kind.num_outputs(schema.labels),
    )
    model = TaskModel(backbone, spec, dropout=config.dropout)
    shift, scale = kind.standardization(train.labels)
    model.output_shift.fill_(shift)
    model.output_scale.fill_(scale)
    return model


def strategy_options(config: FinetuneConfig) -> Any:
    """The chosen strategy's options, as its own `Config`."""
    options = config.strategies.get(config.strategy, {})
    return plugins.configure("strategies", config.strategy, options, where=f"finetune.strategies.{config.strategy}")


def task_batches(
    model: TaskModel, split: LabelledSplit, kind: kinds.Model, config: FinetuneConfig, *, seed: int, pad_id: int
) -> RaggedBatches:
    """Batches of a labelled split, with a regression's targets brought to the model's scale."""
    gold = kind.gold(split.labels, model.spec.labels)
    shift, scale = float(model.output_shift), float(model.output_scale)
    targets = [(value - shift) / scale for value in gold] if scale != 1.0 or shift != 0.0 else gold
    return RaggedBatches(
        split.encoded,
        partial(kind.targets, targets, split.encoded),
        rows_per_batch=config.rows_per_batch,
        accumulation=config.accumulation,
        epochs=config.epochs,
        seed=seed,
        pad_id=pad_id,
    )


def evaluate_every(batches: RaggedBatches, config: FinetuneConfig) -> int:
    """Steps from one score on dev to the next: an epoch where early stopping needs it, else 0."""
    return max(1, batches.batches_per_epoch // config.accumulation) if config.health.patience else 0


def task_optimizer(model: TaskModel, config: FinetuneConfig) -> torch.optim.Optimizer:
    """Two learning rates: of the encoder, scaled by the strategy, and of the head."""
    rate = config.lr * plugins.load("strategies", config.strategy).learning_rate_scale(strategy_options(config))
    groups = parameter_groups(model.encoder.named_parameters(), learning_rate=rate, weight_decay=config.weight_decay)
    groups += parameter_groups(model.head.named_parameters(), learning_rate=config.head_lr, weight_decay=config.weight_decay)
    return make_optimizer(config.optimizer, groups, betas=(config.beta1, config.beta2), epsilon=config.epsilon)


def summed_loss(kind: kinds.Model) -> Callable[[nn.Module, Any], Tensor]:
    """A task's loss as the loop calls it, summed over rows."""

    def of_batch(model: nn.Module, batch: PaddedBatch) -> Tensor:
        assert isinstance(model, TaskModel)
        outputs = model.standardized(batch.ids_BT, batch.mask_BT, batch.type_ids_BT, batch.real)
        return kind.row_losses(outputs, batch.targets).sum()

    return of_batch
