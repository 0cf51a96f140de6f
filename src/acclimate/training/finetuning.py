"""Fine-tuning taken apart: model, batches, losses and optimizer, as the stage `finetune` uses them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from acclimate import kinds
from acclimate.backbones.base import Backbone
from acclimate.data.labelled import LabelledSplit, TableSchema
from acclimate.data.options import TaskConfig
from acclimate.errors import ConfigError
from acclimate.protocols import Draw, Group, Losses, Rates, Strategy, Term, Trained
from acclimate.training.batches import TASK_LOSS, LabelledBatch, make_labelled_batch
from acclimate.training.loop import MakeOptimizer
from acclimate.training.optimizers import make_optimizer
from acclimate.training.options import RecipeConfig
from acclimate.training.orders import ByLength
from acclimate.training.streams import Stream, Streams
from acclimate.training.task_model import TaskModel, TaskSpec

STREAM = "labelled"

logger = logging.getLogger(__name__)


class FineTuned(Trained[LabelledBatch]):
    """A task's model with its kind's loss, further terms, and what the weights themselves cost.

    Args:
        terms: further terms with their weights, by name.
        penalties: modules whose forward gives a loss of the weights, by name.
    """

    def __init__(
        self,
        model: TaskModel,
        strategy: Strategy,
        terms: Mapping[str, tuple[Term, float]],
        penalties: Mapping[str, nn.Module],
    ) -> None:
        super().__init__()
        self.model, self.strategy, self._row_losses = model, strategy, kinds.model(model.spec.kind).row_losses
        self.terms = tuple(term for term, _ in terms.values())
        self.weights = {TASK_LOSS: 1.0, **{name: weight for name, (_, weight) in terms.items()}}
        self.penalties = nn.ModuleDict(penalties)

    def forward(self, batch: LabelledBatch, stream: str) -> Losses:
        """The task's loss and the terms'."""
        run = partial(self._run, batch)
        outputs, losses_B = run()
        for term in self.terms:
            losses_B = term.reweigh(losses_B, batch, outputs)
        losses = {TASK_LOSS: losses_B.sum()}
        for term in self.terms:
            losses |= term.losses(run, batch, outputs)
        return losses

    def _run(self, batch: LabelledBatch) -> tuple[Tensor, Tensor]:
        outputs = self.model.standardized(batch.ids_BT, batch.mask_BT, batch.type_ids_BT, batch.real)
        return outputs, self._row_losses(outputs, batch.targets)

    def row_losses(self, batch: LabelledBatch) -> Tensor:
        """The task's loss of each row, without further terms, (B,)."""
        return self._run(batch)[1]

    def passes(self, batch: LabelledBatch, stream: str, call: Callable[[LabelledBatch, str], Losses]) -> Iterator[Losses | Tensor]:
        """Those of the term that has some."""
        own = next((term for term in self.terms if term.has_passes), Term())
        yield from own.passes(self.model, batch, partial(call, batch, stream))

    def groups(self, rates: Rates) -> list[Group]:
        """The strategy's."""
        return [group for group in self.strategy.groups(self.model, rates) if group.parameters]

    def penalty(self) -> Losses:
        """Of what retention holds the weights to."""
        return {name: module() for name, module in self.penalties.items()}

    def kept(self) -> nn.Module:
        """The task's model."""
        return self.model


def build_task_model(
    backbone: Backbone,
    config: RecipeConfig,
    task: TaskConfig,
    schema: TableSchema,
    train: LabelledSplit,
    *,
    encoder_name: str,
    recipe_name: str,
    seed: int,
) -> TaskModel:
    """Backbone with the strategy applied, and a fresh head."""
    chosen = config.strategy
    spec = TaskSpec(
        **asdict(schema),
        pooling=task.pooling,
        max_length=task.max_length,
        encoder=encoder_name,
        recipe=recipe_name,
        seed=seed,
        strategy={chosen.name: chosen.options()},
        hidden_size=backbone.width,
        num_outputs=kinds.model(schema.kind).num_outputs(schema.labels),
    )
    model = TaskModel(backbone, spec, dropout=config.dropout)
    chosen.component.apply(model, torch.Generator().manual_seed(seed))
    shift, scale = kinds.model(schema.kind).standardization(train.labels)
    model.output_shift.fill_(shift)
    model.output_scale.fill_(scale)
    return model


def fine_tuned(model: TaskModel, config: RecipeConfig) -> FineTuned:
    """The model with its losses."""
    terms = {chosen.name: (chosen.component, chosen.weight) for chosen in config.terms}
    penalties = {chosen.name: chosen.component.penalty(model.backbone) for chosen in config.retention}
    held = {name: module for name, module in penalties.items() if module is not None}
    return FineTuned(model, config.strategy.component, terms, held)


@dataclass(frozen=True)
class RowNumbers:
    """A view: the numbers of labelled rows."""

    rows: np.ndarray

    def join(self, other: RowNumbers) -> RowNumbers:
        """The rows of both."""
        return RowNumbers(np.concatenate([self.rows, other.rows]))


@dataclass(frozen=True)
class LabelledSource:
    """The rows of a labelled split, by their numbers."""

    num_rows: int

    def __len__(self) -> int:
        return self.num_rows

    def view(self, rows: np.ndarray, draw: Draw) -> RowNumbers:
        """The numbers themselves."""
        return RowNumbers(rows)


def task_stream(
    model: TaskModel, split: LabelledSplit, config: RecipeConfig, *, seed: int, terms: Sequence[Term] = ()
) -> Stream[RowNumbers, LabelledBatch]:
    """Batches of a labelled split, with a regression's targets brought to the model's scale."""
    kind = kinds.model(model.spec.kind)
    gold = kind.gold(split.labels, model.spec.labels)
    shift, scale = float(model.output_shift), float(model.output_scale)
    values = [(value - shift) / scale for value in gold] if scale != 1.0 or shift != 0.0 else gold

    def make_batch(view: RowNumbers, _draw: Draw) -> LabelledBatch:
        collate = partial(kind.targets, values, split.encoded)
        return make_labelled_batch(split.encoded, view.rows, collate, model.backbone.pad_id, terms, longest=model.spec.max_length)

    order = ByLength(np.diff(split.encoded.offsets), config.batch_size, seed)
    return Stream(STREAM, LabelledSource(len(order.lengths)), make_batch, order, seed, config.accumulation)


def task_batches(stream: Stream[RowNumbers, LabelledBatch], config: RecipeConfig) -> Streams:
    """The batches of every step.

    Raises:
        ConfigError: a step takes more batches than the whole run has.
    """
    per_epoch, accumulation = stream.order.batches_per_epoch, config.accumulation
    num_batches = per_epoch * config.epochs
    if accumulation > num_batches:
        raise ConfigError(
            f"finetune.accumulation is {accumulation}, but the whole run has {num_batches:g} batches "
            f"({per_epoch} an epoch, finetune.epochs {config.epochs:g}); lower it or train for longer"
        )
    if config.batch_size > len(stream.source):
        logger.warning(
            "finetune.batch_size is %d, but there are %d training rows: every batch holds all of them",
            config.batch_size,
            len(stream.source),
        )
    steps = max(1, round(num_batches / accumulation))
    if per_epoch % accumulation and steps * accumulation > per_epoch:
        logger.warning(
            "finetune.accumulation is %d, an epoch has %d batches: a step then takes batches of two epochs now and then",
            accumulation,
            per_epoch,
        )
    return Streams(steps, [stream])


def evaluate_every(stream: Stream[RowNumbers, LabelledBatch], config: RecipeConfig) -> int:
    """Steps from one evaluation on dev to the next: an epoch."""
    return max(1, stream.order.batches_per_epoch // config.accumulation)


def rates(config: RecipeConfig) -> Rates:
    """Of backbone and head."""
    return Rates(config.learning_rate, config.head_learning_rate, config.weight_decay)


def task_optimizer(config: RecipeConfig) -> MakeOptimizer:
    """The recipe's."""
    return partial(make_optimizer, config.optimizer, betas=(config.beta1, config.beta2), epsilon=config.epsilon)
