"""The loop: accumulation, resuming, refusing what is not finite."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from acclimate.errors import TrainingError
from acclimate.runtime import StoppedError
from acclimate.sinks import MemorySink
from acclimate.training.batches import step_generator
from acclimate.training.checkpoints import CheckpointStore
from acclimate.training.loop import LoopConfig, fit
from acclimate.training.optimizers import adamw
from acclimate.training.precision import Precision

FP32 = Precision("fp32", "cpu")


@dataclass(frozen=True)
class Points:
    """Inputs, and a mask of which rows count."""

    inputs: Tensor
    targets: Tensor
    num_targets: int
    num_tokens: int = 1

    @property
    def num_rows(self) -> int:
        return len(self.inputs)

    def part(self, start: int, stop: int) -> Points:
        return Points(self.inputs[start:stop], self.targets[start:stop], stop - start)

    def to(self, device: torch.device) -> Points:
        return self


@dataclass(frozen=True)
class PointBatches:
    steps: int
    parts: int

    def window(self, step: int) -> list[Points]:
        generator = step_generator(3, step)
        inputs, targets = torch.randn(12, 4, generator=generator), torch.randn(12, 1, generator=generator)
        bounds = [0, 12] if self.parts == 1 else [0, 1, 4, 12]
        return [Points(inputs[a:b], targets[a:b], b - a) for a, b in pairwise(bounds)]

    def rows(self, step: int) -> list[int]:
        return list(range(12 * step, 12 * step + 12))


def summed_error(model: nn.Module, batch: Any) -> Tensor:
    return ((model(batch.inputs) - batch.targets) ** 2).sum()


def network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.3), nn.Linear(8, 1))


def train(
    directory: Path, *, steps: int = 20, parts: int = 1, model: nn.Module | None = None, loss: Any = summed_error, every_s: float = 1e9
) -> nn.Module:
    model = model or network()
    config = LoopConfig(clip_norm=1.0, schedule="linear", warmup_share=0.1, seed=5, log_every=1, checkpoint_every_s=every_s)
    optimizer = adamw([{"params": list(model.parameters()), "lr": 0.01, "weight_decay": 0.0}], betas=(0.9, 0.99), epsilon=1e-8)
    fit(
        model,
        PointBatches(steps, parts),
        loss,
        optimizer=optimizer,
        precision=FP32,
        config=config,
        sink=MemorySink(),
        checkpoints=CheckpointStore(directory),
    )
    return model


def weights(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_unequal_micro_batches_equal_one_full_batch(tmp_path: Path) -> None:
    plain, parted = (nn.Sequential(nn.Linear(4, 1)) for _ in range(2))
    parted.load_state_dict(plain.state_dict())
    train(tmp_path / "a", parts=1, model=plain)
    train(tmp_path / "b", parts=3, model=parted)
    # float32 sums in another order
    torch.testing.assert_close(weights(plain), weights(parted), rtol=1e-4, atol=1e-6)


def test_a_run_killed_twice_ends_in_the_same_bits(tmp_path: Path) -> None:
    undisturbed = weights(train(tmp_path / "whole"))

    class Killed(BaseException):
        """Stands for the power cut: nothing may catch it."""

    def dies_at(call: int) -> Any:
        calls = 0

        def loss(model: nn.Module, batch: Any) -> Tensor:
            nonlocal calls
            calls += 1
            if calls > call:
                raise Killed
            return summed_error(model, batch)

        return loss

    for call in (6, 5):
        with pytest.raises(Killed):
            train(tmp_path / "cut", loss=dies_at(call), every_s=0.0)
    assert torch.equal(undisturbed, weights(train(tmp_path / "cut")))


def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path: Path) -> None:
    undisturbed = weights(train(tmp_path / "whole"))
    train(tmp_path / "cut", every_s=0.0)
    newest = max((tmp_path / "cut").glob("step-*.pt"))
    newest.write_bytes(newest.read_bytes()[:-10])
    assert torch.equal(undisturbed, weights(train(tmp_path / "cut")))


def test_a_stop_request_saves_and_the_next_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os
    import signal

    def loss(model: nn.Module, batch: Any) -> Tensor:
        os.kill(os.getpid(), signal.SIGTERM)
        return summed_error(model, batch)

    with pytest.raises(StoppedError, match="step 1 of 20 is saved"):
        train(tmp_path / "cut", loss=loss)
    assert torch.equal(weights(train(tmp_path / "whole")), weights(train(tmp_path / "cut")))


def test_a_stop_request_in_the_last_step_is_heeded_too(tmp_path: Path) -> None:
    import os
    import signal

    calls = 0

    def loss(model: nn.Module, batch: Any) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == last:
            os.kill(os.getpid(), signal.SIGTERM)
        return summed_error(model, batch)

    last = 0
    undisturbed = weights(train(tmp_path / "whole", loss=loss))
    last, calls = calls, 0
    with pytest.raises(StoppedError, match="step 20 of 20 is saved"):
        train(tmp_path / "cut", loss=loss)
    assert torch.equal(undisturbed, weights(train(tmp_path / "cut")))


def test_a_loss_that_is_not_finite_updates_nothing(tmp_path: Path) -> None:
    model = network()
    before = weights(model)
    with pytest.raises(TrainingError, match="step 0: loss nan"):
        train(tmp_path, model=model, loss=lambda m, b: summed_error(m, b) * float("nan"))
    assert torch.equal(before, weights(model))


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    train(tmp_path, every_s=0.0)
    with pytest.raises(TrainingError, match="another model"):
        train(tmp_path, model=nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 1)))


def test_a_full_disk_leaves_the_checkpoint_before_it_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from acclimate.errors import EnvironmentUnfitError

    store = CheckpointStore(tmp_path)
    store.save(1, {"step": 1})

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("acclimate.training.checkpoints.torch.save", full)
    with pytest.raises(EnvironmentUnfitError, match="No space left"):
        store.save(2, {"step": 2})
    assert store.load_newest() == {"step": 1}
