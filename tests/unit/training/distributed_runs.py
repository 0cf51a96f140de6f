"""Small runs of the loop that test_distributed.py compares: in one process, and as `python -m` under the launcher in several."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from acclimate import kinds
from acclimate.backbones.loading import load_backbone
from acclimate.data.tokens.encoding import Encoded, Vocabulary
from acclimate.data.tokens.packing import pack
from acclimate.errors import AcclimateError
from acclimate.objectives.mlm import Mlm
from acclimate.protocols import Draw, Facts, Group, Losses, Rates, Trained
from acclimate.runtime import StoppedError
from acclimate.sinks import MemorySink
from acclimate.strategies.full import Full
from acclimate.training.batches import LabelledBatch, make_labelled_batch
from acclimate.training.checkpoints import CheckpointStore
from acclimate.training.distributed import World, collect, join_world, leave_world, local
from acclimate.training.finetuning import STREAM, FineTuned, LabelledSource, RowNumbers
from acclimate.training.health import HealthConfig
from acclimate.training.inference import predict_logits
from acclimate.training.loop import LoopConfig, fit
from acclimate.training.mixture import Mixture
from acclimate.training.optimizers import make_optimizer
from acclimate.training.orders import ByLength, Shuffled
from acclimate.training.precision import Precision
from acclimate.training.streams import PackedSource, Stream, Streams, Windows
from acclimate.training.task_model import TaskModel, TaskSpec
from tests.unit.training.two_streams import Method, TwoStreams, half_frozen

STEPS = 8
WORDS = Vocabulary(30522, 103, (0, 100, 101, 102, 103))
FP32 = Precision("fp32", "cpu")
Result = dict[str, Any]
Made = tuple[Trained[Any], Windows]


def mlm_run(encoder_dir: Path, steps: int) -> Made:
    """Batches of 5 rows of 24 tokens, two a step; about 15 masks a row, unequally many."""
    torch.manual_seed(0)
    ids = np.random.default_rng(4).integers(1000, 1400, 40 * 24)
    source = PackedSource(pack(ids, np.arange(0, len(ids), 8), sequence_length=24))
    facts = Facts(WORDS, 0, np.bincount(ids, minlength=30522), dict)
    objective, backbone = Mlm(rate=0.3), load_backbone(encoder_dir)
    model = Mixture(backbone, {"mlm": objective.build(backbone, facts, torch.Generator())}, {"mlm": 1.0}, {})
    return model, Streams(steps, [Stream("mlm", source, lambda view, draw: objective.batch(view, facts, draw), Shuffled(40, 5, 3), 3, 2)])


def tagging_rows() -> Encoded:
    """26 rows of unequal length, so that an epoch's last batch of 5 has a single row."""
    generator = np.random.default_rng(5)
    lengths = generator.integers(4, 20, 26)
    ids = generator.integers(1000, 1400, int(lengths.sum()))
    words = [np.arange(1, int(length) - 1, 2) for length in lengths]
    return Encoded(ids, np.zeros_like(ids), np.concatenate([[0], np.cumsum(lengths)]), words, 0, 0)


def task_run(encoder_dir: Path, steps: int, micro_batches: int = 2) -> Made:
    """A tagger with batches of 5 rows; an epoch is six batches, of which one has a single row."""
    torch.manual_seed(0)
    rows, kind = tagging_rows(), kinds.model("tagging")
    spec = TaskSpec(
        name="entities",
        kind="tagging",
        labels=["O", "B-x", "I-x"],
        pair=False,
        metric="entity_f1",
        pooling="mean",
        max_length=32,
        encoder="tiny",
        recipe="full",
        seed=0,
        strategy={"full": {}},
        hidden_size=32,
        num_outputs=3,
    )
    model = TaskModel(load_backbone(encoder_dir), spec)
    gold = [(np.arange(row, row + len(positions)) % 3).tolist() for row, positions in enumerate(rows.word_positions or [])]

    def make_batch(view: RowNumbers, draw: Draw) -> LabelledBatch:
        return make_labelled_batch(rows, view.rows, functools.partial(kind.targets, gold, rows), 0)

    order = ByLength(np.diff(rows.offsets), 5, 3)
    stream = Stream(STREAM, LabelledSource(26), make_batch, order, 3, micro_batches)
    return FineTuned(model, Full(), {}, {}), Streams(steps, [stream])


def method_run(encoder_dir: Path, steps: int, *, dropout: float = 0.0) -> Made:
    """Two streams of several losses, a queue, a gate and a penalty."""
    return Method(dropout=dropout, gate=half_frozen), TwoStreams(steps)


class Watched(Trained[Any]):
    """A method whose losses a test counts and changes."""

    def __init__(self, inner: Trained[Any], watch: Callable[[Losses], Losses]) -> None:
        super().__init__()
        self.inner, self._watch, self.weights = inner, watch, inner.weights

    def forward(self, batch: Any, stream: str) -> Losses:
        losses: Losses = self.inner(batch, stream)
        return self._watch(losses) if self.training else losses

    def passes(self, batch: Any, stream: str, call: Callable[[Any, str], Losses]) -> Iterator[Losses | Tensor]:
        yield from self.inner.passes(batch, stream, call)

    def groups(self, rates: Rates) -> list[Group]:
        return self.inner.groups(rates)

    def penalty(self) -> Losses:
        return self.inner.penalty()

    def before_step(self, step: int) -> None:
        self.inner.before_step(step)

    def after_update(self, step: int) -> None:
        self.inner.after_update(step)


def train(
    encoder_dir: Path,
    directory: Path,
    world: World,
    *,
    make: Callable[..., Made] = mlm_run,
    steps: int = STEPS,
    optimizer_name: Any = "adamw",
    stop_at: int | None = None,
    change_loss: Callable[[int, Tensor], Tensor] | None = None,
    evaluates: bool = False,
    rate: float = 5e-3,
    **config: Any,
) -> Result:
    """One run: its curve, its weights, and what the optimizer holds here.

    Args:
        stop_at: the main process sends itself SIGTERM in this step, counted from 0.
        change_loss: is given the number of the loss (counted from 0) and the loss.
    """
    model, batches = make(encoder_dir, steps)
    sink, calls, made, split = MemorySink(), 0, list[torch.optim.Optimizer](), list[Trained[Any]]()

    def watch(losses: Losses) -> Losses:
        nonlocal calls
        if stop_at is not None and calls == 2 * stop_at and world.is_main:
            os.kill(os.getpid(), signal.SIGTERM)
        changed = losses if change_loss is None else {name: change_loss(calls, loss) for name, loss in losses.items()}
        calls += 1
        return changed

    def groups(trained: Trained[Any]) -> list[Group]:
        split.append(trained)
        return trained.groups(Rates(rate, rate, 0.01))

    def optimizer(groups: Sequence[dict[str, Any]]) -> torch.optim.Optimizer:
        made.append(make_optimizer(optimizer_name, groups, betas=(0.9, 0.98), epsilon=1e-6))
        return made[0]

    def evaluate() -> dict[str, float]:
        assert isinstance(model, FineTuned)
        logits = predict_logits(model.model, tagging_rows(), precision=FP32)
        return {"score": float(sum(np.abs(row).sum() for row in logits))}

    result: Result = {"error": None}
    watched = Watched(model, watch)
    usual = {"clip_norm": 0.5, "schedule": "linear", "warmup_share": 0.25, "seed": 3, "log_every": 1, "checkpoint_every_s": 1e9}
    try:
        done = fit(
            watched,
            batches,
            groups=groups,
            optimizer=optimizer,
            precision=config.pop("precision", FP32),
            config=LoopConfig(**{**usual, **config}),
            sink=sink,
            checkpoints=CheckpointStore(directory),
            evaluate=evaluate if evaluates else None,
            world=world,
        )
        result |= {"resumed_from": done.resumed_from, "best_step": done.best_step, "skipped": done.skipped, "spikes": done.spikes}
    except (StoppedError, AcclimateError) as error:
        result["error"] = f"{type(error).__name__}: {error}"
    collect(split[0], watched)
    moments = [state["exp_avg"] for state in made[0].state.values()]
    parts = sorted({name for row in sink.rows for name in row if name.startswith("train/") and name != "train/loss"})
    return {
        **result,
        "losses": [row["train/loss"] for row in sink.rows if "train/loss" in row],
        "parts": {name: [row[name] for row in sink.rows] for name in parts},
        "norms": [row["grad_norm"] for row in sink.rows if "grad_norm" in row],
        "scores": [row["score"] for row in sink.rows if "score" in row],
        "weights": {name: tensor.clone() for name, tensor in model.state_dict().items()},
        "state_elements": sum(moment.numel() for moment in moments),
        "state_elements_here": sum(local(moment).numel() for moment in moments),
    }


def poison_step_3(call: int, loss: Tensor) -> Tensor:
    """Not finite in one process alone."""
    return loss * float("nan") if call == 6 and os.environ.get("RANK", "1") == "1" else loss


def jump_at_step_22(call: int, loss: Tensor) -> Tensor:
    return loss * 50.0 if call == 22 else loss


def best_weights(encoder_dir: Path, directory: Path, world: World) -> Result:
    """Stops early; the score falls away from its start, so the first evaluation is the best."""
    health = HealthConfig(patience=2, watch="score", maximize=False)
    return train(encoder_dir, directory, world, make=task_run, evaluates=True, evaluate_every=1, health=health)


def averaged(kind: Any, encoder_dir: Path, directory: Path, world: World) -> Result:
    health = HealthConfig(patience=20, watch="score")
    evaluated = train(
        encoder_dir, directory / "evaluated", world, make=task_run, evaluates=True, evaluate_every=2, average=kind, health=health
    )
    plain = train(encoder_dir, directory / "plain", world, make=task_run, average=kind, tail_share=0.5)
    return {**plain, "scores": evaluated["scores"]}


def stopped_and_resumed(encoder_dir: Path, directory: Path, world: World, **options: Any) -> Result:
    """Stops in step 3; a copy of its checkpoint is kept for others to go on from."""
    stopped = train(encoder_dir, directory, world, stop_at=3, **options)
    if world.is_main:
        shutil.copytree(directory, directory.with_name(f"{directory.name}-kept"))
    world.wait()
    return {**train(encoder_dir, directory, world, **options), "stopped": stopped["error"], "weights_when_stopped": stopped["weights"]}


def rewound(encoder_dir: Path, directory: Path, world: World) -> Result:
    make = functools.partial(task_run, micro_batches=1)
    health = HealthConfig(on_spike="rewind", rewind_steps=4)
    return train(encoder_dir, directory, world, make=make, steps=26, change_loss=jump_at_step_22, health=health, rate=1e-3)


def two_fits(encoder_dir: Path, directory: Path, world: World) -> Result:
    """Head warm-up and pretraining train the same model one after the other."""
    return train(encoder_dir, directory / "again", world, make=functools.partial(_trained_before, world, directory))


def _trained_before(world: World, directory: Path, encoder_dir: Path, steps: int) -> Made:
    model, batches = mlm_run(encoder_dir, steps)
    assert isinstance(model, Mixture)
    model.backbone.requires_grad_(False)
    fit(
        model,
        batches,
        groups=lambda trained: [Group(trained.own_parameters(), 1e-2)],  # type: ignore[attr-defined]
        optimizer=functools.partial(make_optimizer, "adamw", betas=(0.9, 0.98), epsilon=1e-6),
        precision=FP32,
        config=LoopConfig(clip_norm=1.0, schedule="linear", warmup_share=0.0, seed=1, checkpoint_every_s=1e9),
        sink=MemorySink(),
        checkpoints=CheckpointStore(directory / "head"),
        world=world,
    )
    model.backbone.requires_grad_(True)
    return model, batches


def with_dropout(encoder_dir: Path, directory: Path, world: World) -> Result:
    """Dropout is drawn for each micro-batch: two processes with six rows each are one with six rows at once.

    The other stream's six rows go to the second process by three, so it is left out.
    """
    make = functools.partial(_near_alone, 0.3)
    return train(encoder_dir, directory, world, make=make, micro_batch_size=12 // 2)


def _near_alone(dropout: float, encoder_dir: Path, steps: int) -> Made:
    model, batches = method_run(encoder_dir, steps, dropout=dropout)
    assert isinstance(batches, TwoStreams)
    return model, replace(batches, names=("near",))


RUNS: dict[str, Callable[[Path, Path, World], Result]] = {
    "mlm": train,
    "task": functools.partial(train, make=task_run),
    "micro": functools.partial(train, make=task_run, micro_batch_size=2),
    "stable_adamw": functools.partial(train, make=task_run, optimizer_name="stable_adamw"),
    "nan": functools.partial(train, change_loss=poison_step_3),
    "fp16": functools.partial(train, make=task_run, precision=Precision("fp16", "cpu")),
    "rewind": rewound,
    "best": best_weights,
    "ema": functools.partial(averaged, "ema"),
    "tail": functools.partial(averaged, "tail"),
    "two_fits": two_fits,
    "method": functools.partial(train, make=method_run),
    "method_micro": functools.partial(train, make=method_run, micro_batch_size=2, average="ema"),
    "dropout": with_dropout,
    "resumed": stopped_and_resumed,
    "resumed_ema": functools.partial(stopped_and_resumed, make=task_run, average="ema"),
}


def main() -> None:
    """Every run under both ways, then resuming from checkpoints that others made; a result file for each process."""
    encoder_dir, directory = Path(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(1)
    found: dict[str, Result] = {}
    for sharding in ("ddp", "fsdp"):
        world = join_world(torch.device("cpu"), sharding=sharding, timeout_s=60.0)
        for name, run in RUNS.items():
            found[f"{name}-{sharding}"] = run(encoder_dir, directory / f"{name}-{sharding}", world)
    for sharding, other in (("ddp", "fsdp"), ("fsdp", "ddp")):
        world = World(world.rank, world.size, sharding)  # type: ignore[arg-type]
        found[f"{sharding}-from-one"] = train(encoder_dir, copied(directory / "one-kept", f"{sharding}-from-one", world), world)
        kept = copied(directory / f"resumed-{other}-kept", f"{sharding}-from-{other}", world)
        found[f"{sharding}-from-{other}"] = train(encoder_dir, kept, world)
    torch.save(found, directory / f"found-{world.rank}.pt")
    leave_world()


def copied(kept: Path, name: str, world: World) -> Path:
    """A copy of a checkpoint to go on from, made once."""
    if world.is_main:
        shutil.copytree(kept, kept.with_name(name))
    world.wait()
    return kept.with_name(name)


if __name__ == "__main__":
    main()
