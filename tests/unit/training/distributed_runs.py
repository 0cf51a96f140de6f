"""Small runs of the loop that test_distributed.py compares: in one process, and as `python -m` under the launcher in several."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from acclimate import kinds
from acclimate.data.encoding import Encoded, Vocabulary
from acclimate.errors import AcclimateError
from acclimate.models.backbone import load_encoder
from acclimate.models.mlm_head import MlmModel
from acclimate.models.task_model import TaskModel, TaskSpec
from acclimate.objectives import mlm
from acclimate.runtime import StoppedError
from acclimate.sinks import MemorySink
from acclimate.training.batches import BatchSource, PackedBatches, RaggedBatches
from acclimate.training.checkpoints import CheckpointStore
from acclimate.training.distributed import World, collect, join_world, leave_world, local, sharded_copy
from acclimate.training.health import HealthConfig
from acclimate.training.inference import predict_logits
from acclimate.training.loop import LoopConfig, fit
from acclimate.training.optimizers import make_optimizer, parameter_groups
from acclimate.training.precision import Precision

STEPS = 8
WORDS = Vocabulary(30522, 103, (0, 100, 101, 102, 103))
FP32 = Precision("fp32", "cpu")
Result = dict[str, Any]


def mlm_run(encoder_dir: Path, steps: int) -> tuple[nn.Module, BatchSource, Callable[..., Tensor]]:
    """Batches of 5 rows of 24 tokens, two a step; about 15 masks a row, unequally many."""
    torch.manual_seed(0)
    generator = np.random.default_rng(4)
    ids = generator.integers(1000, 1400, (40, 24))
    segments = np.repeat(np.arange(3), 8)[None].repeat(40, 0)
    make_batch = functools.partial(mlm.make_batch, config=mlm.Config(rate=0.3), vocabulary=WORDS)
    model = MlmModel(load_encoder(encoder_dir), torch.from_numpy(np.bincount(ids.ravel(), minlength=30522)))
    return model, PackedBatches(ids, segments, make_batch, rows_per_batch=5, accumulation=2, steps=steps, seed=3), mlm.loss


def tagging_rows() -> Encoded:
    """26 rows of unequal length, so that an epoch's last batch of 5 has a single row."""
    generator = np.random.default_rng(5)
    lengths = generator.integers(4, 20, 26)
    ids = generator.integers(1000, 1400, int(lengths.sum()))
    words = [np.arange(1, int(length) - 1, 2) for length in lengths]
    return Encoded(ids, np.zeros_like(ids), np.concatenate([[0], np.cumsum(lengths)]), words, 0, 0)


def task_run(encoder_dir: Path, steps: int, micro_batches: int = 2) -> tuple[nn.Module, BatchSource, Callable[..., Tensor]]:
    """A tagger with batches of 5 rows; an epoch is six batches, of which one has a single row."""
    torch.manual_seed(0)
    encoder, rows = load_encoder(encoder_dir), tagging_rows()
    spec = TaskSpec("entities", "tagging", ["O", "B-x", "I-x"], False, "entity_f1", "mean", 32, "tiny", 0, 32, 3)
    model = TaskModel(encoder, spec)
    words = rows.word_positions or []
    values = [(np.arange(row, row + len(positions)) % 3).tolist() for row, positions in enumerate(words)]

    kind = kinds.model("tagging")
    collate = functools.partial(kind.targets, values, rows)

    def loss(trained: Any, batch: Any) -> Tensor:
        return kind.row_losses(trained.standardized(batch.ids_BT, batch.mask_BT, batch.type_ids_BT), batch.targets).sum()

    epochs = steps * micro_batches / 6
    return model, RaggedBatches(rows, collate, rows_per_batch=5, accumulation=micro_batches, epochs=epochs, seed=3, pad_id=0), loss


def train(
    encoder_dir: Path,
    directory: Path,
    world: World,
    *,
    make: Callable[..., Any] = mlm_run,
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
    model, batches, loss_fn = make(encoder_dir, steps)
    trained = sharded_copy(model, world, entry_points=("summed_loss" if isinstance(model, MlmModel) else "standardized",))
    groups = parameter_groups(trained.named_parameters(), learning_rate=rate, weight_decay=0.01)
    optimizer = make_optimizer(optimizer_name, groups, betas=(0.9, 0.98), epsilon=1e-6)
    sink, calls = MemorySink(), 0

    def loss(module: nn.Module, batch: Any) -> Tensor:
        nonlocal calls
        value = loss_fn(module, batch)
        if module.training:
            if stop_at is not None and calls == 2 * stop_at and world.is_main:
                os.kill(os.getpid(), signal.SIGTERM)
            value = value if change_loss is None else change_loss(calls, value)
            calls += 1
        return value

    def evaluate() -> dict[str, float]:
        logits = predict_logits(trained, tagging_rows(), precision=FP32, pad_id=0)  # type: ignore[arg-type]
        return {"score": float(sum(np.abs(row).sum() for row in logits))}

    result: Result = {"error": None}
    try:
        done = fit(
            trained,
            batches,
            loss,
            optimizer=optimizer,
            precision=config.pop("precision", FP32),
            config=LoopConfig(
                **{
                    "clip_norm": 0.5,
                    "schedule": "linear",
                    "warmup_share": 0.25,
                    "seed": 3,
                    "log_every": 1,
                    "checkpoint_every_s": 1e9,
                    **config,
                }
            ),
            sink=sink,
            checkpoints=CheckpointStore(directory),
            evaluate=evaluate if evaluates else None,
            world=world,
        )
        result |= {"resumed_from": done.resumed_from, "best_step": done.best_step, "skipped": done.skipped, "spikes": done.spikes}
    except (StoppedError, AcclimateError) as error:
        result["error"] = f"{type(error).__name__}: {error}"
    collect(trained, model)
    moments = [state["exp_avg"] for state in optimizer.state.values()]
    return {
        **result,
        "losses": [row["train/loss"] for row in sink.rows if "train/loss" in row],
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
    """Head warm-up and pretraining wrap the same model one after the other."""
    return train(encoder_dir, directory / "again", world, make=functools.partial(_trained_before, world, directory))


def _trained_before(world: World, directory: Path, encoder_dir: Path, steps: int) -> tuple[nn.Module, BatchSource, Callable[..., Tensor]]:
    model, batches, loss = mlm_run(encoder_dir, steps)
    model.encoder.requires_grad_(False)
    groups = parameter_groups(model.named_parameters(), learning_rate=1e-2, weight_decay=0.0)
    fit(
        model,
        batches,
        loss,
        optimizer=make_optimizer("adamw", groups, betas=(0.9, 0.98), epsilon=1e-6),
        precision=FP32,
        config=LoopConfig(clip_norm=1.0, schedule="linear", warmup_share=0.0, seed=1, checkpoint_every_s=1e9),
        sink=MemorySink(),
        checkpoints=CheckpointStore(directory / "head"),
        world=World(world.rank, world.size, "ddp"),
    )
    model.encoder.requires_grad_(True)
    return model, batches, loss


RUNS: dict[str, Callable[[Path, Path, World], Result]] = {
    "mlm": train,
    "task": functools.partial(train, make=task_run),
    "micro": functools.partial(train, make=task_run, micro_rows=2),
    "stable_adamw": functools.partial(train, make=task_run, optimizer_name="stable_adamw"),
    "nan": functools.partial(train, change_loss=poison_step_3),
    "fp16": functools.partial(train, make=task_run, precision=Precision("fp16", "cpu")),
    "rewind": rewound,
    "best": best_weights,
    "ema": functools.partial(averaged, "ema"),
    "tail": functools.partial(averaged, "tail"),
    "two_fits": two_fits,
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
