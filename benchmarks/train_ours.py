"""Our side of the benchmark of training: acclimate's own batches, loop and models, through the same clock as the peer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from acclimate.data.encoding import Vocabulary
from acclimate.data.packing import pack
from acclimate.models.backbone import resolve_attention
from acclimate.models.low_rank import wrap_linear_layers
from acclimate.models.mlm_head import MlmModel
from acclimate.models.task_model import TaskModel, TaskSpec
from acclimate.training.batches import BatchSource, PackedBatches, RaggedBatches
from acclimate.training.loop import LoopConfig, fit
from acclimate.training.masking import mask_rows
from acclimate.training.optimizers import make_optimizer, parameter_groups
from acclimate.training.precision import resolve_precision
from acclimate.training.settings import prepare_model
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


@dataclass(frozen=True)
class Masking:
    """As run_mlm masks."""

    rate: float = MASK_RATE
    mask_share: float = 0.8
    random_share: float = 0.1


@dataclass(frozen=True)
class Compiled:
    """`train` of params.yaml with compile: true, as the peer with its best flags compiles."""

    compile: bool = True
    activation_checkpointing: bool = False


def ours_mlm(work: Work, run: Run, turns: Turns) -> Timing:
    """Pretrain on packed rows, attention inside each document, for `turns.steps` steps."""
    masked_lm = _new_masked_lm(run, dropout=0.0)
    digest = weights_digest(masked_lm.bert)
    model = MlmModel(masked_lm.bert, torch.ones(VOCABULARY_SIZE))
    assert model.take_head(masked_lm.state_dict())
    model.to(run.device)
    prepare_model(model, Compiled(), method="features")
    packed = pack(work.documents.ids, work.documents.offsets[:-1], tokens_per_row=run.tokens_per_row)
    vocabulary = Vocabulary(VOCABULARY_SIZE, MASK, tuple(range(len(SPECIAL))))
    make_batch = partial(mask_rows, config=Masking(), vocabulary=vocabulary)
    batches = PackedBatches(packed.ids, packed.segments, make_batch, run.rows, accumulation=1, steps=turns.steps, seed=run.seed)
    groups = parameter_groups(model.named_parameters(), learning_rate=run.learning_rate, weight_decay=0.0)
    _fit(model, batches, _mlm_loss, groups, run, turns)
    masked_lm.load_state_dict(_as_masked_lm(model), strict=False)
    return turns.timing(quality={"loss": heldout_loss(masked_lm, work)}, weights_at_start=digest)


def ours_task(work: Work, run: Run, turns: Turns) -> Timing:
    """Fine-tune on the task `section` for `turns.steps` steps, in full or by LoRA (`run.variant`)."""
    encoder = _new_masked_lm(run, dropout=0.1).bert
    digest = weights_digest(encoder)
    torch.manual_seed(run.seed)
    if run.variant == "lora":
        assert wrap_linear_layers(encoder, rank=8, alpha=16.0, dropout=0.0, targets=["query", "value"]) is None
    model = TaskModel(encoder, _task_spec(work, run, encoder.config.hidden_size), dropout=0.1).to(run.device)
    train = work.train.head(run.task_rows)
    batches = RaggedBatches(train, partial(_targets, train.labels), run.rows, 1, 1.0, seed=run.seed, pad_id=PAD)
    groups = parameter_groups(model.named_parameters(), learning_rate=run.learning_rate, weight_decay=0.0)
    _fit(model, _Steps(batches, turns.steps), _task_loss, groups, run, turns)
    return turns.timing(quality=accuracy(model, work.dev, run.device), weights_at_start=digest)


def _mlm_loss(model: Any, batch: Any) -> Tensor:
    loss: Tensor = model.summed_loss(batch.ids_BT, batch.segments_BT, batch.at, batch.labels_M, batch.pieces)
    return loss


def _as_masked_lm(model: MlmModel) -> dict[str, Tensor]:
    """The head's weights under transformers' names; the encoder is the same object."""
    return {
        "cls.predictions.transform.dense.weight": model.transform.dense.weight,
        "cls.predictions.transform.dense.bias": model.transform.dense.bias,
        "cls.predictions.transform.LayerNorm.weight": model.transform.norm.weight,
        "cls.predictions.transform.LayerNorm.bias": model.transform.norm.bias,
        "cls.predictions.bias": model.bias_V,
        "cls.predictions.decoder.bias": model.bias_V,
    }


def _task_spec(work: Work, run: Run, width: int) -> TaskSpec:
    return TaskSpec("section", "classification", work.labels, False, "accuracy", "mean", 128, run.size, run.seed, width, len(work.labels))


def _targets(labels: Any, rows: Any, width: int) -> tuple[Tensor, np.ndarray]:  # noqa: ARG001 - the batches' signature
    return torch.from_numpy(labels[rows]), np.ones(len(rows), dtype=np.int64)


def _task_loss(model: Any, batch: Any) -> Tensor:
    logits_BC = model.standardized(batch.ids_BT, batch.mask_BT, batch.type_ids_BT, batch.real)
    return nn.functional.cross_entropy(logits_BC.float(), batch.targets, reduction="sum")


def _new_masked_lm(run: Run, dropout: float) -> Any:
    used = resolve_attention(run.attention, "bert")
    masked_lm = new_masked_lm(run.size, dropout=dropout, attention_dropout=0.0, attention="sdpa" if used == "varlen" else used)
    masked_lm.bert.wants_varlen = used == "varlen"
    return masked_lm


class _Steps:
    """A source of batches that ends after so many steps."""

    def __init__(self, batches: Any, steps: int) -> None:
        self.steps, self.window, self.rows = steps, batches.window, batches.rows


class _Counted:
    """A source of batches that remembers what the last window held."""

    def __init__(self, batches: BatchSource) -> None:
        self.steps = batches.steps
        self._batches = batches
        self.rows = batches.rows
        self.tokens = self.sequences = 0

    def window(self, step: int) -> Any:
        window = self._batches.window(step)
        self.tokens, self.sequences = sum(batch.num_tokens for batch in window), sum(len(batch.ids_BT) for batch in window)
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


def _fit(
    model: nn.Module,
    batches: BatchSource,
    loss: Callable[[Any, Any], Tensor],
    groups: list[dict[str, Any]],
    run: Run,
    turns: Turns,
) -> None:
    counted = _Counted(batches)
    config = LoopConfig(clip_norm=1.0, schedule="linear", warmup_share=0.0, seed=run.seed, log_every=1, label="bench")
    fit(
        model,
        counted,
        loss,
        optimizer=make_optimizer("adamw", groups, betas=(0.9, 0.999), epsilon=1e-8),
        precision=resolve_precision("bf16", torch.device(run.device)),
        config=config,
        sink=_TakeTurns(counted, turns),
        checkpoints=_NoCheckpoints(),  # type: ignore[arg-type]
    )
