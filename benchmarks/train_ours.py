"""Our side of the benchmark of training: acclimate's own batches, loop and models, through the same clock as the peer.

TO BE REPLACED as the library grows: the inside of `ours_mlm` and `ours_task`. What must stay is what they are given and give back.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

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


def _do_without_pydantic() -> None:
    """Let objectives, strategies and models be imported where pydantic is not: a GPU machine has torch and little else.

    Only the settings' classes need it, and the benchmark sets every setting itself.
    """

    class Section:
        def __init__(self, **values: Any) -> None:
            vars(self).update(values)

    config, pydantic = ModuleType("acclimate.config"), ModuleType("pydantic")
    config.__dict__.update(Section=Section, ModelConfig=Section)
    pydantic.__dict__.update(Field=lambda *_, **__: None)
    sys.modules.update({"acclimate.config": config, "pydantic": pydantic})


if find_spec("pydantic") is None:
    _do_without_pydantic()

from acclimate.data.encoding import Vocabulary  # noqa: E402 - the stand-in comes first
from acclimate.data.packing import pack  # noqa: E402
from acclimate.models.packed import encode_packed  # noqa: E402
from acclimate.models.task_model import TaskModel, TaskSpec  # noqa: E402
from acclimate.objectives import mlm  # noqa: E402
from acclimate.strategies import lora  # noqa: E402
from acclimate.training.batches import BatchSource, PackedBatches, RaggedBatches  # noqa: E402
from acclimate.training.loop import LoopConfig, fit  # noqa: E402
from acclimate.training.optimizers import adamw, parameter_groups  # noqa: E402
from acclimate.training.precision import resolve_precision  # noqa: E402


class MaskedHead(nn.Module):
    """BertForMaskedLM over packed rows, its own head on the masked positions alone."""

    def __init__(self, masked_lm: Any) -> None:
        super().__init__()
        self.masked_lm = masked_lm

    def forward(self, ids_BT: Tensor, segments_BT: Tensor, masked_M: Tensor) -> Tensor:
        hidden_BTD = encode_packed(self.masked_lm.bert, ids_BT, segments_BT)
        logits_MV: Tensor = self.masked_lm.cls(hidden_BTD.flatten(0, 1)[masked_M])
        return logits_MV


def ours_mlm(work: Work, run: Run, turns: Turns) -> Timing:
    """Pretrain on packed rows, attention inside each document, for `turns.steps` steps."""
    masked_lm = new_masked_lm(run.size, dropout=0.0, attention_dropout=0.0, attention=_attention(run))
    digest = weights_digest(masked_lm.bert)
    model = MaskedHead(masked_lm).to(run.device)
    packed = pack(work.documents.ids, work.documents.offsets[:-1], tokens_per_row=run.tokens_per_row)
    vocabulary = Vocabulary(VOCABULARY_SIZE, MASK, tuple(range(len(SPECIAL))))
    make_batch = partial(mlm.make_batch, config=mlm.Config(rate=MASK_RATE), vocabulary=vocabulary)
    batches = PackedBatches(packed.ids, packed.segments, make_batch, run.rows, accumulation=1, steps=turns.steps, seed=run.seed)
    groups = parameter_groups(model.named_parameters(), learning_rate=run.learning_rate, weight_decay=0.0)
    _fit(model, batches, mlm.loss, groups, run, turns)
    return turns.timing(quality={"loss": heldout_loss(masked_lm, work)}, weights_at_start=digest)


def ours_task(work: Work, run: Run, turns: Turns) -> Timing:
    """Fine-tune on the task `section` for `turns.steps` steps, in full or by LoRA (`run.variant`)."""
    encoder = new_masked_lm(run.size, dropout=0.1, attention_dropout=0.0, attention=_attention(run)).bert
    digest = weights_digest(encoder)
    torch.manual_seed(run.seed)
    if run.variant == "lora":
        lora.apply(encoder, lora.Config())
    model = TaskModel(encoder, _task_spec(work, run, encoder.config.hidden_size), per_token=False, dropout=0.1).to(run.device)
    train = work.train.head(run.task_rows)
    batches = RaggedBatches(train, partial(_targets, train.labels), run.rows, 1, 1.0, seed=run.seed, pad_id=PAD)
    groups = parameter_groups(model.named_parameters(), learning_rate=run.learning_rate, weight_decay=0.0)
    _fit(model, _Steps(batches, turns.steps), _task_loss, groups, run, turns)
    return turns.timing(quality=accuracy(model, work.dev, run.device), weights_at_start=digest)


def _task_spec(work: Work, run: Run, width: int) -> TaskSpec:
    return TaskSpec("section", "classification", work.labels, False, "accuracy", "mean", 128, run.size, run.seed, width, len(work.labels))


def _targets(labels: Any, rows: Any, width: int) -> tuple[Tensor, int]:  # noqa: ARG001 - the batches' signature
    return torch.from_numpy(labels[rows]), len(rows)


def _task_loss(model: Any, batch: Any) -> Tensor:
    logits_BC = model.standardized(batch.ids_BT, batch.mask_BT, batch.type_ids_BT)
    return nn.functional.cross_entropy(logits_BC.float(), batch.targets, reduction="sum")


def _attention(run: Run) -> str:
    """As models/backbone.py chooses."""
    return "sdpa" if run.device == "cuda" else "eager"


class _Steps:
    """A source of batches that ends after so many steps."""

    def __init__(self, batches: Any, steps: int) -> None:
        self.steps, self.window = steps, batches.window


class _Counted:
    """A source of batches that remembers what the last window held."""

    def __init__(self, batches: BatchSource) -> None:
        self.steps = batches.steps
        self._batches = batches
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
        optimizer=adamw(groups, betas=(0.9, 0.999), epsilon=1e-8),
        precision=resolve_precision("bf16", torch.device(run.device)),
        config=config,
        sink=_TakeTurns(counted, turns),
        checkpoints=_NoCheckpoints(),  # type: ignore[arg-type]
    )
