"""Our side of the benchmark of training: acclimate's own batches, loop and models, through the same clock as the peer."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from acclimate.backbones.bert import Bert
from acclimate.backbones.loading import resolve_attention
from acclimate.data.tokens.encoding import Vocabulary
from acclimate.data.tokens.packing import pack
from acclimate.objectives._masked_lm import LmHead
from acclimate.objectives.mlm import Mlm
from acclimate.protocols import Draw, Facts, Rates, Trained
from acclimate.strategies.full import Full
from acclimate.strategies.lora import Lora
from acclimate.training.batches import LabelledBatch, make_labelled_batch
from acclimate.training.finetuning import STREAM, FineTuned, LabelledSource, RowNumbers
from acclimate.training.loop import LoopConfig, fit
from acclimate.training.optimizers import make_optimizer
from acclimate.training.orders import ByLength, Shuffled
from acclimate.training.precision import resolve_precision
from acclimate.training.streams import PackedSource, Stream, Streams, Windows
from acclimate.training.task_model import TaskModel, TaskSpec
from benchmarks.train_work import (
    MASK,
    MASK_RATE,
    PAD,
    SPECIAL,
    VOCABULARY_SIZE,
    Run,
    Timing,
    Turns,
    Work,
    accuracy,
    heldout_loss,
    new_masked_lm,
    weights_digest,
)


def ours_mlm(work: Work, run: Run, turns: Turns) -> Timing:
    """Pretrain on packed rows, attention inside each document, for `turns.steps` steps; compiled, as the peer with its best flags is."""
    masked_lm, encoder = _new_masked_lm(run, dropout=0.0)
    digest = weights_digest(masked_lm.bert)
    encoder.prepare(compile=True, activation_checkpointing=False)
    vocabulary = Vocabulary(VOCABULARY_SIZE, MASK, tuple(range(len(SPECIAL))))
    facts = Facts(vocabulary, PAD, np.ones(VOCABULARY_SIZE), masked_lm.state_dict)
    objective = Mlm(rate=MASK_RATE)
    model = objective.build(encoder, facts, torch.Generator()).to(run.device)
    packed = pack(work.documents.ids, work.documents.offsets[:-1], sequence_length=run.sequence_length)
    source = PackedSource(packed)
    stream = Stream(
        "mlm", source, lambda view, draw: objective.batch(view, facts, draw), Shuffled(len(source), run.rows, run.seed), run.seed
    )
    _fit(model, Streams(turns.steps, [stream]), run, turns)
    masked_lm.load_state_dict(_as_masked_lm(model.head), strict=False)
    return turns.timing(quality={"loss": heldout_loss(masked_lm, work)}, weights_at_start=digest)


def ours_task(work: Work, run: Run, turns: Turns) -> Timing:
    """Fine-tune on the task `section` for `turns.steps` steps, in full or by LoRA (`run.variant`)."""
    _, encoder = _new_masked_lm(run, dropout=0.1)
    digest = weights_digest(encoder)
    torch.manual_seed(run.seed)
    model = TaskModel(encoder, _task_spec(work, run, encoder.width), dropout=0.1)
    strategy = Lora(rank=8, alpha=16.0) if run.variant == "lora" else Full()
    strategy.apply(model, torch.Generator().manual_seed(run.seed))
    model.to(run.device)
    train = work.train.head(run.task_rows)

    def make_batch(view: RowNumbers, _draw: Draw) -> LabelledBatch:
        return make_labelled_batch(train, view.rows, lambda rows, _: (torch.from_numpy(train.labels[rows]), np.ones(len(rows), int)), PAD)

    order = ByLength(np.diff(train.offsets), run.rows, run.seed)
    stream = Stream(STREAM, LabelledSource(len(order.lengths)), make_batch, order, run.seed)
    _fit(FineTuned(model, strategy, {}, {}), Streams(turns.steps, [stream]), run, turns)
    return turns.timing(quality=accuracy(model, work.dev, run.device), weights_at_start=digest)


def _as_masked_lm(head: LmHead) -> dict[str, Tensor]:
    """The head's weights under transformers' names; the encoder is the same object."""
    return {
        "cls.predictions.transform.dense.weight": head.transform.dense.weight,
        "cls.predictions.transform.dense.bias": head.transform.dense.bias,
        "cls.predictions.transform.LayerNorm.weight": head.transform.norm.weight,
        "cls.predictions.transform.LayerNorm.bias": head.transform.norm.bias,
        "cls.predictions.bias": head.bias_V,
        "cls.predictions.decoder.bias": head.bias_V,
    }


def _task_spec(work: Work, run: Run, width: int) -> TaskSpec:
    return TaskSpec("section", "classification", work.labels, False, "accuracy", "mean", 128, run.size, run.seed, width, len(work.labels))


def _new_masked_lm(run: Run, dropout: float) -> tuple[Any, Bert]:
    """transformers' model, and the encoder in it as ours."""
    used = resolve_attention(run.attention, "bert")
    masked_lm = new_masked_lm(run.size, dropout=dropout, attention_dropout=0.0, attention="sdpa" if used == "varlen" else used)
    return masked_lm, Bert(masked_lm.bert, varlen=used == "varlen")


class _Counted:
    """A source of batches that remembers what the last window held."""

    def __init__(self, batches: Windows) -> None:
        self.steps = batches.steps
        self._batches = batches
        self.rows = batches.rows
        self.tokens = self.sequences = 0

    def window(self, step: int) -> Any:
        window = self._batches.window(step)
        self.tokens, self.sequences = sum(work.batch.num_tokens for work in window), sum(work.batch.num_rows for work in window)
        return window


class _TakeTurns:
    """A sink that tells the clock of each optimizer step."""

    def __init__(self, batches: _Counted, turns: Turns) -> None:
        self._batches, self._turns = batches, turns

    def log(self, step: int, metrics: Mapping[str, float], *, timing: Mapping[str, float] | None = None) -> None:
        self._turns.step(self._batches.tokens, self._batches.sequences, metrics["train/loss"])


class _NoCheckpoints:
    """The peer saves nothing either."""

    def load_newest(self) -> None:
        return None

    def save(self, step: int, state: dict[str, Any]) -> None:
        return None


def _fit(trained: Trained[Any], batches: Windows, run: Run, turns: Turns) -> None:
    counted = _Counted(batches)
    config = LoopConfig(clip_norm=1.0, schedule="linear", warmup_share=0.0, seed=run.seed, log_every=1, label="bench")
    fit(
        trained,
        counted,
        groups=lambda whole: whole.groups(Rates(run.learning_rate, run.learning_rate, 0.0)),
        optimizer=partial(make_optimizer, "adamw", betas=(0.9, 0.999), epsilon=1e-8),
        precision=resolve_precision("bf16", torch.device(run.device)),
        config=config,
        sink=_TakeTurns(counted, turns),
        checkpoints=_NoCheckpoints(),  # type: ignore[arg-type]
    )
