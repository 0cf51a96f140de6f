"""Pretraining as a trial runs it: built as the stage builds it, a few steps, and what the rest of the stage takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from acclimate import plugins
from acclimate.config import Config
from acclimate.evaluation.probes import dev_scorer
from acclimate.models.backbone import save_encoder
from acclimate.models.mlm_head import MlmModel
from acclimate.planning.estimate import StageEstimate, num_evaluations
from acclimate.planning.place import Place, digest_inputs, finished, goes_on, saves_s
from acclimate.planning.stepping import Bench, seconds_of, seconds_of_writing
from acclimate.planning.trial import TrialRequest
from acclimate.runtime import process_age_s
from acclimate.training.distributed import sharded_copy
from acclimate.training.health import HealthConfig
from acclimate.training.precision import resolve_precision
from acclimate.training.pretraining import Pretraining, read_mlm_model, read_pretraining
from acclimate.training.settings import loop_config, prepare_model

_HELDOUT_ROWS = 64
"""Rows on which an evaluation is timed."""


def try_pretraining(request: TrialRequest, config: Config, place: Place) -> StageEstimate:
    """Start, head warm-up, steps, held-out losses, the choice of a share, checkpoints and outs."""
    pretrain, encoder, tokens = config.pretrain, Path(request.encoder), Path(request.tokens)
    digest_inputs(encoder, tokens, Path(request.table))
    precision = resolve_precision(pretrain.precision, place.device)
    job = read_pretraining(pretrain, tokens, encoder, seed=config.seed, precision=precision, world=place.world)
    model = read_mlm_model(pretrain, tokens, encoder, attention=config.train.attention).to(place.device)
    start_s = process_age_s()
    base = _state(model)  # the stage keeps them too
    losses_s = _losses_s(job, model)
    bench = _bench(job, model, config, place, request)
    memory, memory_s = bench.find_memory(job.batches(1, config.seed).window(0))
    estimate = place.estimate(memory)
    if request.memory_only or not goes_on(memory, config, bench):
        return estimate
    seconds, save_s = bench.time_steps(lambda count: _windows(job, count))
    step_s = float(np.median(seconds))
    candidates = 1 + _num_candidates(config)
    evaluations = num_evaluations(job.steps, job.evaluate_every, with_last=pretrain.health.patience > 0)
    warmup_s = _warmup_s(model, job, bench)
    bench.optimizer.state.clear()  # the stage has none left when it chooses
    parts = {
        "start": start_s,
        "head warm-up": warmup_s,
        "steps": job.steps * step_s,
        "evaluations": (2 + evaluations + candidates) * losses_s,
        "share": _share_s(request, config, job, model, base, candidates),
        "checkpoints": saves_s(job.steps * step_s, bench.config, save_s),
        "writing": seconds_of_writing(lambda out: save_encoder(model.encoder, encoder, out), bench.scratch),
    }
    return finished(estimate, config, bench.peaks(), memory_s, steps=job.steps, step_s=step_s, parts=parts)


def _bench(job: Pretraining, model: MlmModel, config: Config, place: Place, request: TrialRequest) -> Bench:
    trained = sharded_copy(model, place.world, entry_points=("summed_loss",))
    prepare_model(trained, config.train, method="features")
    loop = loop_config(
        job.config.optimizer,
        job.config.health,
        config.train,
        watch="heldout_loss",
        maximize=False,
        seed=job.seed,
        checkpoint_every_s=job.config.checkpoint_every_s,
    )
    limit_mb = place.limit_mb(request)
    return Bench(trained, job.loss, job.optimizer(trained), job.precision, place.world, loop, Path(request.scratch), limit_mb)


def _windows(job: Pretraining, count: int) -> list[Sequence[Any]]:
    batches = job.batches(count, job.seed)
    return [batches.window(step) for step in range(count)]


def _state(model: MlmModel) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def _losses_s(job: Pretraining, model: MlmModel) -> float:
    """Seconds of one look at the held-out losses, from a few rows."""
    rows = min(_HELDOUT_ROWS, len(job.heldout.ids))
    some = replace(job, heldout=job.heldout.head(rows), general=job.general.head(0))
    some.losses(model)
    return seconds_of(lambda: some.losses(model), times=3) * (len(job.heldout.ids) + len(job.general.ids)) / rows


def _warmup_s(model: MlmModel, job: Pretraining, main: Bench) -> float:
    """Seconds of the head's warm-up, its checkpoints among them."""
    steps = job.warmup_steps(model)
    if not steps:
        return 0.0
    model.encoder.requires_grad_(False)
    loop = replace(main.config, average="none", health=HealthConfig())
    bench = replace(main, model=model, optimizer=job.head_optimizer(model), world=replace(main.world, sharding="ddp"), config=loop)
    seconds, save_s = bench.time_steps(lambda count: _windows(job, count))
    model.encoder.requires_grad_(True)
    run_s = steps * float(np.median(seconds))
    return run_s + saves_s(run_s, loop, save_s)


def _num_candidates(config: Config) -> int:
    retention = config.pretrain.retention
    method = plugins.load("retention", retention.method)
    given, where = retention.options.get(retention.method, {}), f"pretrain.retention.options.{retention.method}"
    return len(method.candidates(plugins.configure("retention", retention.method, given, where=where)))


def _share_s(request: TrialRequest, config: Config, job: Pretraining, model: MlmModel, base: dict[str, Tensor], candidates: int) -> float:
    """Seconds of trying each share of the adapted weights, but for the losses."""
    retention = config.pretrain.retention
    method = plugins.load("retention", retention.method)
    last = _state(model)
    combine_s = seconds_of(lambda: model.load_state_dict(method.combine(base, last, 0.5)))
    if retention.criterion != "probe":
        return (candidates + 1) * combine_s
    scorer: list[Callable[[Any], float]] = []
    task = config.tasks[retention.task]
    read_s = seconds_of(lambda: scorer.append(dev_scorer(Path(request.table), Path(request.encoder), task, precision=job.precision)))
    return read_s + (candidates + 1) * combine_s + candidates * seconds_of(lambda: scorer[0](model.encoder))
