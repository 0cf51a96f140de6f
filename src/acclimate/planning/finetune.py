"""Fine-tuning as a trial runs it: built as the stage builds it, steps over batches of every length, and the rest of the stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from acclimate import plugins
from acclimate.config import Config
from acclimate.data.encoding import load_tokenizer
from acclimate.data.labelled import LabelledSplit, read_schema, read_split
from acclimate.models.backbone import load_encoder
from acclimate.models.task_model import TaskModel, save_task_model
from acclimate.planning.estimate import StageEstimate, fit_cost, num_evaluations
from acclimate.planning.place import Place, digest_inputs, finished, goes_on, saves_s
from acclimate.planning.stepping import Bench, seconds_of, seconds_of_writing
from acclimate.planning.trial import TrialRequest
from acclimate.runtime import process_age_s
from acclimate.training.batches import RaggedBatches
from acclimate.training.finetuning import build_task_model, evaluate_every, summed_loss, task_batches, task_optimizer
from acclimate.training.inference import predict_logits
from acclimate.training.precision import Precision, resolve_precision
from acclimate.training.settings import loop_config, prepare_model

_DEV_ROWS = 256
"""Rows on which predicting is timed."""
_MOST_STEPS_LOOKED_AT = 4096


@dataclass(frozen=True)
class _Job:
    """A fine-tuning ready to start."""

    model: TaskModel
    splits: dict[str, LabelledSplit]
    batches: RaggedBatches
    loss: Any
    precision: Precision
    pad_id: int

    def predict_token_s(self) -> float:
        """Seconds for each token that is predicted, from some rows of dev."""
        some = self.splits["some of dev"].encoded
        predict_logits(self.model, some, precision=self.precision, pad_id=self.pad_id)
        took_s = seconds_of(lambda: predict_logits(self.model, some, precision=self.precision, pad_id=self.pad_id), times=3)
        return took_s / len(some.ids)

    def tokens(self, split: str) -> int:
        """Tokens of a split."""
        return len(self.splits[split].encoded.ids)


def try_finetuning(request: TrialRequest, config: Config, place: Place) -> StageEstimate:
    """Start, steps, predictions, checkpoints and outs."""
    finetune = config.finetune
    job = _read(request, config, place)
    start_s, predict_s = process_age_s(), job.predict_token_s()
    bench = _bench(job, config, place, request)
    steps = _Steps(job.batches)
    memory, memory_s = bench.find_memory(steps.longest())
    estimate = place.estimate(memory)
    if request.memory_only or not goes_on(memory, config, bench):
        return estimate
    seconds, save_s = bench.time_steps(steps.spread)
    steps_s = fit_cost(steps.tokens_of_spread(), seconds).total(steps.tokens) * job.batches.steps / len(steps.tokens)
    scored = num_evaluations(job.batches.steps, evaluate_every(job.batches, finetune), with_last=True)
    parts = {
        "start": start_s,
        "steps": steps_s,
        "evaluations": predict_s * ((1 + scored) * job.tokens("dev") + job.tokens("test")),
        "checkpoints": saves_s(steps_s, bench.config, save_s),
        "writing": seconds_of_writing(lambda out: save_task_model(job.model, Path(request.encoder), out), bench.scratch),
    }
    num_steps = job.batches.steps
    return finished(estimate, config, bench.peaks(), memory_s, steps=num_steps, step_s=steps_s / num_steps, parts=parts)


def _read(request: TrialRequest, config: Config, place: Place) -> _Job:
    assert request.task is not None
    finetune, task, table, encoder = config.finetune, config.tasks[request.task], Path(request.table), Path(request.encoder)
    digest_inputs(encoder, table)
    schema, kind, seed = read_schema(table), plugins.load("tasks", task.kind), config.runs.seeds[0]
    splits = {name: read_split(table, name, encoder=encoder, max_tokens=task.max_tokens) for name in ("train", "dev", "test")}
    splits["some of dev"] = read_split(table, "dev", encoder=encoder, max_tokens=task.max_tokens, limit=_DEV_ROWS)
    backbone = load_encoder(encoder, dropout=finetune.dropout, attention=config.train.attention)
    model = build_task_model(backbone, finetune, task, schema, kind, splits["train"], encoder_name="base", seed=seed).to(place.device)
    pad_id = load_tokenizer(encoder).token_to_id("[PAD]") or 0
    batches = task_batches(model, splits["train"], kind, finetune, seed=seed, pad_id=pad_id)
    return _Job(model, splits, batches, kind.loss, resolve_precision(finetune.precision, place.device), pad_id)


def _bench(job: _Job, config: Config, place: Place, request: TrialRequest) -> Bench:
    finetune = config.finetune
    prepare_model(job.model, config.train, method="standardized")
    loop = loop_config(
        finetune,
        finetune.health,
        config.train,
        watch="",
        maximize=True,
        seed=job.model.spec.seed,
        checkpoint_every_s=finetune.checkpoint_every_s,
    )
    optimizer, scratch = task_optimizer(job.model, finetune), Path(request.scratch)
    return Bench(job.model, summed_loss(job.loss), optimizer, job.precision, place.world, loop, scratch, place.limit_mb(request))


class _Steps:
    """The steps of the run, all or evenly spread over it, by the tokens that each computes."""

    def __init__(self, batches: RaggedBatches) -> None:
        self._batches = batches
        self._steps = np.unique(np.linspace(0, batches.steps - 1, min(batches.steps, _MOST_STEPS_LOOKED_AT)).round().astype(int))
        self.tokens = np.array([batches.padded_tokens(int(step)) for step in self._steps])
        self._chosen = np.empty(0, dtype=int)

    def longest(self) -> Sequence[Any]:
        """The step of the most tokens."""
        return self._batches.window(int(self._steps[self.tokens.argmax()]))

    def spread(self, count: int) -> list[Sequence[Any]]:
        """Steps of lengths from the shortest to the longest, shuffled, so that a disturbance hits no one length."""
        ranks = np.linspace(0, len(self.tokens) - 1, count).round().astype(int)
        self._chosen = np.random.default_rng(0).permutation(np.argsort(self.tokens, kind="stable")[ranks])
        return [self._batches.window(int(self._steps[number])) for number in self._chosen]

    def tokens_of_spread(self) -> list[int]:
        """Tokens of the steps last given, but for the first, which warms up."""
        return [int(self.tokens[number]) for number in self._chosen[1:]]
