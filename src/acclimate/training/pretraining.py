"""Pretraining taken apart: its text, model, batches and optimizers, as the stage `pretrain` uses them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from acclimate import artifacts
from acclimate.backbones.base import Backbone
from acclimate.backbones.loading import CONFIG, family_of, require_lengths
from acclimate.choices import Chosen
from acclimate.data.tokens.encoding import read_vocabulary
from acclimate.data.tokens.packing import PackedText, read_packed
from acclimate.errors import ConfigError
from acclimate.protocols import Batch, Documents, Draw, Facts, Group, Rates, State, Trained, View
from acclimate.training.distributed import World
from acclimate.training.heldout import BATCH_SIZE, heldout_losses
from acclimate.training.loop import MakeOptimizer
from acclimate.training.mixture import Mixture
from acclimate.training.optimizers import adamw, make_optimizer
from acclimate.training.options import AnyObjective, EncoderConfig
from acclimate.training.orders import InOrder, Shuffled
from acclimate.training.precision import Precision
from acclimate.training.streams import Behind, Stream, Streams, source_of

_HELDOUT_SEED = 7


@dataclass(frozen=True)
class Pretraining:
    """What every step of pretraining needs."""

    config: EncoderConfig
    name: str
    seed: int
    precision: Precision
    world: World
    facts: Facts
    text: PackedText
    """What is trained on, by `config.text`; the losses are of the same text for every encoder."""
    heldout: PackedText
    general: PackedText

    @property
    def tokens_per_step(self) -> int:
        """Tokens of an optimizer step: rows of the text, as many as a batch has, times its accumulation."""
        return self.config.batch_size * self.config.accumulation * int(self.text.ids.shape[1])

    @property
    def steps(self) -> int:
        """Optimizer steps, at least one."""
        return max(1, round(self.config.tokens / self.tokens_per_step))

    @property
    def evaluate_every(self) -> int:
        """Steps from one look at the held-out losses to the next."""
        return math.ceil(self.steps / (self.config.evaluations + 1))

    def build(self, backbone: Backbone) -> Mixture:
        """The backbone with the heads of every objective."""
        generator = torch.Generator().manual_seed(self.seed)
        members = {chosen.name: chosen.component.build(backbone, self.facts, generator) for chosen in self.config.objectives}
        penalties = {chosen.name: chosen.component.penalty(backbone) for chosen in self.config.retention}
        weights = {chosen.name: chosen.weight for chosen in self.config.objectives}
        for name, objective in self._kept_by().items():
            members[name], weights[name] = objective.build(backbone, self.facts, generator), 1.0
        return Mixture(backbone, members, weights, {name: module for name, module in penalties.items() if module is not None})

    def _kept_by(self) -> dict[str, AnyObjective]:
        """Objectives that retention trains beside the others."""
        found = {chosen.name: chosen.component.objective() for chosen in self.config.retention}
        return {name: objective for name, objective in found.items() if objective is not None}

    def prepare(self, trained: Mixture) -> None:
        """Let retention measure the start on general text."""
        for chosen in self.config.retention:
            if chosen.name in trained.penalties:
                chosen.component.prepare(trained.penalties[chosen.name], self._losses_of_general_rows(trained))

    def _losses_of_general_rows(self, trained: Mixture) -> Iterator[Tensor]:
        """The weighted mean loss of each row, or of a batch that cannot be cut, of every objective in turn; without dropout."""
        device = next(trained.parameters()).device
        trained.eval()
        streams = [self._in_order(chosen, self.general, self.config.heldout_rows) for chosen in self.config.objectives]
        for index in range(max((stream.order.batches_per_epoch for stream in streams), default=0)):
            for stream in (stream for stream in streams if index < stream.order.batches_per_epoch):
                batch = stream.batch(index)
                size = 1 if stream.divisible else batch.num_rows
                for part in (batch.part(row, row + size) for row in range(0, batch.num_rows, size)):
                    counts = part.counts()
                    with self.precision.autocast():
                        losses = trained(part.to(device), stream.name)
                    if any(counts.values()):
                        yield torch.stack([trained.weights[name] * loss / max(1, counts[name]) for name, loss in losses.items()]).sum()

    def warmup_steps(self, trained: Mixture) -> int:
        """Optimizer steps of what is new alone; what came with the encoder needs none."""
        return round(self.config.head_warmup_tokens / self.tokens_per_step) if trained.needs_warmup else 0

    def batches(self, steps: int, seed: int, *, heads_only: bool = False) -> Streams:
        """Batches of the text, a stream for each objective; then those of general text that retention reads, unless heads train alone."""
        config, streams = self.config, list[Stream[Any, Any]]()
        for chosen in config.objectives:
            view = chosen.component.view
            source, general = source_of(view, self.text), Behind(source_of(view, self.general), config.heldout_rows)
            for kept in config.retention:
                source = kept.component.source(source, general)
            order = Shuffled(len(source), config.batch_size, seed)
            make_batch = partial(_make_batch, chosen.component, self.facts)
            divisible = chosen.component.divisible
            streams.append(Stream(chosen.name, source, make_batch, order, seed, config.accumulation, divisible))
        return Streams(steps, streams if heads_only else streams + self._general_streams(seed))

    def _general_streams(self, seed: int) -> list[Stream[Any, Any]]:
        """The batches of the objectives that retention brings.

        Raises:
            ConfigError: there is less general text than a batch.
        """
        config, streams = self.config, list[Stream[Any, Any]]()
        sizes = {chosen.name: chosen.component.general_rows(config.batch_size) for chosen in config.retention}
        for name, objective in self._kept_by().items():
            source = Behind(source_of(objective.view, self.general), config.heldout_rows)
            if len(source) < sizes[name]:
                raise ConfigError(
                    f"retention.{name}: a batch takes {sizes[name]} rows of general text, and there are {len(source)} beside those that "
                    "measure forgetting (heldout_rows); give more under ingest.general"
                )
            order = Shuffled(len(source), sizes[name], seed)
            make_batch = partial(_make_batch, objective, self.facts)
            streams.append(Stream(name, source, make_batch, order, seed, config.accumulation, objective.divisible))
        return streams

    def losses(self, trained: Trained[Any]) -> dict[str, float]:
        """Loss on held-out domain text and, where there is some, on general text; of several objectives also each by name."""
        found: dict[str, float] = {}
        for prefix, text in (("heldout_loss", self.heldout), ("general_loss", self.general.head(self.config.heldout_rows))):
            streams = [self._in_order(chosen, text) for chosen in self.config.objectives]
            losses = heldout_losses(trained, streams, precision=self.precision)
            if losses:
                found[prefix] = sum(trained.weights[name] * loss for name, loss in losses.items())
                found |= {f"{prefix}/{name}": loss for name, loss in losses.items() if len(losses) > 1}
        return found

    def _in_order(self, chosen: Chosen[AnyObjective], text: PackedText, first: int = 0) -> Stream[Any, Any]:
        """Rows of a text from the first on, each once."""
        source, component = Behind(source_of(chosen.component.view, text), first), chosen.component
        make_batch = partial(_make_batch, component, self.facts)
        return Stream(chosen.name, source, make_batch, InOrder(len(source), BATCH_SIZE), _HELDOUT_SEED, divisible=component.divisible)

    @property
    def rates(self) -> Rates:
        """Of the whole model."""
        config = self.config
        return Rates(config.optimizer.learning_rate, config.head_learning_rate, config.optimizer.weight_decay)

    def optimizer(self) -> MakeOptimizer:
        """Of the whole model."""
        config = self.config.optimizer
        return partial(make_optimizer, config.name, betas=(config.beta1, config.beta2), epsilon=config.epsilon)

    def head_groups(self, trained: Trained[Any]) -> list[Group]:
        """What is no part of the backbone."""
        assert isinstance(trained, Mixture)
        return [Group(trained.own_parameters(), self.config.head_learning_rate)]


def require_fit(config: EncoderConfig, name: str, tokens: Path, encoder: Path) -> None:
    """Refuse objectives that fit neither the text nor the encoder, before a weight is loaded.

    Raises:
        ConfigError: the text has fewer rows or documents than a batch, or an objective wants a backbone of another shape.
        ModelError: rows are longer than the encoder's positions.
    """
    text = read_packed(tokens, config.text)
    require_lengths(encoder, {"tokenize.sequence_length": int(text.ids.shape[1])})
    model_type = artifacts.read_json(encoder / CONFIG).get("model_type")
    shape = family_of(model_type).shape
    for chosen in config.objectives:
        where = f"encoders.{name}.objectives.{chosen.name}"
        if shape not in chosen.component.shapes:
            wanted = " or ".join(chosen.component.shapes)
            raise ConfigError(f"{where}: needs a backbone of the shape {wanted}; {model_type} is of the shape {shape}")
        view = chosen.component.view
        what = "documents of 8 tokens or more" if view is Documents else "rows"
        num_rows = len(source_of(view, text))
        if num_rows < config.batch_size:
            found = f"ingest.{config.text} has {num_rows} {what}"
            raise ConfigError(f"{where}: a batch has {config.batch_size} rows (batch_size), but {found}; lower it or give more text")


HEAD_OPTIMIZER: MakeOptimizer = partial(adamw, betas=(0.9, 0.98), epsilon=1e-6)
"""Of the head alone."""


def _make_batch(objective: AnyObjective, facts: Facts, view: View, draw: Draw) -> Batch:
    batch: Batch = objective.batch(view, facts, draw)
    return batch


def read_pretraining(
    config: EncoderConfig, name: str, tokens: Path, encoder: Path, *, pad_id: int, seed: int, precision: Precision, world: World
) -> Pretraining:
    """Bind the objectives to packed text and the encoder's vocabulary.

    How frequent words are is counted in the corpus for every encoder, so that the heads of a control start as those of the adapted one.

    Args:
        tokens: directory that the stage `tokenize` wrote.
        encoder: directory that training starts from.
    """
    from safetensors.torch import load_file

    def checkpoint() -> State:
        weights: State = load_file(encoder / "model.safetensors")
        return weights

    text, heldout, general = (read_packed(tokens, split) for split in (config.text, "heldout", "general"))
    documents = partial(source_of, Documents, text)
    facts = Facts(read_vocabulary(encoder), pad_id, np.load(tokens / "unigram.npy"), checkpoint, documents)
    return Pretraining(config, name, seed, precision, world, facts, text, heldout.head(config.heldout_rows), general)
