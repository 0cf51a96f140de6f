"""One step: micro-batches, memory that runs out, and what is not finite."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from acclimate.errors import EnvironmentUnfitError, TrainingError
from acclimate.training.distributed import World
from acclimate.training.streams import Work
from tests.unit.training.toy_run import Killed, PointBatches, Points, Run, dies_at, network, summed_error, train, weights


def trained_without_dropout(directory: Path, **settings: Any) -> Run:
    return train(directory, model=network(dropout=0.0), **settings)


def assert_equal_but_for_the_order_of_sums(one: Run, other: Run) -> None:
    # float32 sums in another order, over 20 steps of AdamW
    torch.testing.assert_close(one.weights, other.weights, rtol=1e-4, atol=1e-6)


def test_unequal_batches_of_a_window_equal_one_batch(tmp_path: Path) -> None:
    whole = trained_without_dropout(tmp_path / "whole")
    assert_equal_but_for_the_order_of_sums(whole, trained_without_dropout(tmp_path / "parts", batches=PointBatches(20, parts=3)))


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("micro_batch_size", [1, 3, 5, 12, 99])
def test_micro_batches_of_any_size_equal_the_full_batch(micro_batch_size: int, parts: int, tmp_path: Path) -> None:
    batches, sizes = PointBatches(20, parts=parts), set()

    def loss(model: nn.Module, batch: Any) -> Tensor:
        sizes.add(batch.num_rows)
        return summed_error(model, batch)

    whole = trained_without_dropout(tmp_path / "whole")
    assert_equal_but_for_the_order_of_sums(
        whole, trained_without_dropout(tmp_path / "parts", batches=batches, micro_batch_size=micro_batch_size, loss=loss)
    )
    assert max(sizes) == min(micro_batch_size, 12 if parts == 1 else 8)


def fits_only(rows: int) -> Callable[..., Tensor]:
    """A loss for which memory suffices for so many rows.

    The exception is the very one that torch raises when a CUDA allocation fails: a subclass of RuntimeError, so that code which looks for
    RuntimeError alone sees it too. The host's allocator raises a plain RuntimeError; see the test with a real limit below.
    """

    def loss(model: nn.Module, batch: Any) -> Tensor:
        if batch.num_rows > rows:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return summed_error(model, batch)

    return loss


@pytest.mark.parametrize(("rows", "halvings"), [(8, [6]), (5, [6, 3]), (1, [6, 3, 2, 1])])
@pytest.mark.parametrize("parts", [1, 3])
def test_rows_are_halved_until_they_fit_and_the_result_stays(
    rows: int, halvings: list[int], parts: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = trained_without_dropout(tmp_path / "whole")
    halved = trained_without_dropout(tmp_path / "halved", batches=PointBatches(20, parts=parts), loss=fits_only(rows))
    assert_equal_but_for_the_order_of_sums(whole, halved)
    if parts == 1:
        assert caplog.messages == [f"train: step 0: out of memory; from here on {number} rows at once" for number in halvings]


def test_memory_that_runs_out_later_halves_the_rows_from_there_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sizes: list[int] = []

    def loss(model: nn.Module, batch: Any) -> Tensor:
        if len(sizes) >= 7 and batch.num_rows > 6:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        sizes.append(batch.num_rows)
        return summed_error(model, batch)

    halved = trained_without_dropout(tmp_path / "halved", loss=loss)
    assert sizes == [12] * 7 + [6] * 26
    assert caplog.messages == ["train: step 7: out of memory; from here on 6 rows at once"]
    assert_equal_but_for_the_order_of_sums(trained_without_dropout(tmp_path / "whole"), halved)


def test_one_row_that_does_not_fit_is_told_in_a_line_and_changes_nothing(tmp_path: Path) -> None:
    model = network()
    before = weights(model)
    with pytest.raises(EnvironmentUnfitError, match=r"^train: step 0: one row does not fit into memory; lower the tokens of a row$"):
        train(tmp_path, model=model, loss=fits_only(0))
    assert torch.equal(before, weights(model))


def test_rows_that_memory_had_no_room_for_are_not_tried_again_after_a_kill(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    undisturbed = trained_without_dropout(tmp_path / "whole", loss=fits_only(5))
    with pytest.raises(Killed):
        trained_without_dropout(tmp_path / "killed", loss=dies_at(30, fits_only(5)), every_s=0)
    caplog.clear()
    resumed = trained_without_dropout(tmp_path / "killed", loss=fits_only(5))
    assert resumed.result.resumed_from > 0
    assert [line for line in caplog.messages if "out of memory" in line] == []
    assert torch.equal(resumed.weights, undisturbed.weights)


def test_memory_that_runs_out_beside_the_gradients_is_one_line(tmp_path: Path) -> None:
    def evaluate(model: nn.Module) -> dict[str, float]:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(EnvironmentUnfitError, match=r"^train: step 4: out of memory beside the gradients; the next run resumes from"):
        train(tmp_path, evaluate=evaluate, evaluate_every=5)


def test_an_error_that_is_not_of_memory_is_not_hidden(tmp_path: Path) -> None:
    def loss(model: nn.Module, batch: Any) -> Tensor:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        train(tmp_path, loss=loss)


_LIMITED = """
import json, logging, resource, sys
from pathlib import Path
import torch
from acclimate.errors import AcclimateError
from tests.unit.training.toy_run import network, summed_error, train, weights

logging.basicConfig(handlers=[handler := logging.StreamHandler(sys.stderr)])
directory = Path(sys.argv[1])

def loss(model, batch):
    wide = batch.inputs.repeat_interleave(1 << 23, dim=1)  # 128 MB a row: more than the heap keeps in reserve
    return summed_error(model, batch) + 0.0 * wide.mean()

def run(limit_mb):
    said, pages = [], int(Path("/proc/self/statm").read_text().split()[0])
    handler.emit = lambda record: said.append(record.getMessage())
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + limit_mb * 2**20, resource.RLIM_INFINITY))
    try:
        found = weights(train(directory / str(limit_mb), model=network(dropout=0.0), loss=loss).model).tolist()
    except AcclimateError as error:
        found = str(error)
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
    return found, said

train(directory / "first")  # what torch maps once and keeps is not counted
print(json.dumps([run(20), run(1200)]))  # in this order, since the heap keeps what the larger one frees
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc and RLIMIT_AS")
def test_the_hosts_memory_running_out_is_met_alike(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _LIMITED, str(tmp_path / "limited")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    too_small, (found, said) = json.loads(done.stdout)
    assert said == ["train: step 0: out of memory; from here on 6 rows at once"]
    torch.testing.assert_close(torch.tensor(found), trained_without_dropout(tmp_path / "whole").weights, rtol=1e-4, atol=1e-6)
    assert too_small[0] == "train: step 0: one row does not fit into memory; lower the tokens of a row"


def stops_being_finite(step: int, wrong: Callable[[nn.Module, Any], Tensor]) -> Callable[..., Tensor]:
    calls = 0

    def loss(model: nn.Module, batch: Any) -> Tensor:
        nonlocal calls
        calls += 1
        return wrong(model, batch) if calls == step + 1 else summed_error(model, batch)

    return loss


def infinite_slope(model: nn.Module, batch: Any) -> Tensor:
    """A finite loss, for the root of zero is zero; its gradient is not: 0 * inf."""
    return summed_error(model, batch) + (0.0 * model(batch.inputs)).abs().sqrt().sum()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda model, batch: summed_error(model, batch) * float("nan"), "loss nan, gradient norm nan"),
        (lambda model, batch: summed_error(model, batch) + float("inf"), "loss inf, gradient norm "),
        (infinite_slope, r"loss \d+\.\d+, gradient norm nan"),
    ],
    ids=["loss nan", "loss inf", "gradient"],
)
def test_what_is_not_finite_ends_the_run_before_the_update_and_names_its_rows(wrong: Any, said: str, tmp_path: Path) -> None:
    model, after_two = network(), network()
    with pytest.raises(TrainingError, match=f"train: step 2: {said}") as refused:
        train(tmp_path / "cut", model=model, loss=stops_being_finite(2, wrong))
    assert str(refused.value).endswith(
        "nothing was updated. Its batch: rows 24, 25, 26, 27, 28, 29, 30, 31, ... (12 in all). Lower the learning rate or check these rows"
    )
    with pytest.raises(StopAfterTwo):
        train(tmp_path / "two", model=after_two, loss=stops_being_finite(2, _stop))
    assert torch.equal(weights(model), weights(after_two))


class StopAfterTwo(Exception):  # noqa: N818  it ends a run whose weights are looked at
    pass


def _stop(model: nn.Module, batch: Any) -> Tensor:
    raise StopAfterTwo


@dataclass(frozen=True)
class NoTargets(Points):
    def counts(self) -> dict[str, int]:
        return {"toy": 0}


def test_a_step_without_a_target_is_refused(tmp_path: Path) -> None:
    class Empty(PointBatches):
        def window(self, step: int) -> list[Work]:
            return [replace(work, batch=NoTargets(work.batch.inputs, work.batch.targets)) for work in super().window(step)]  # type: ignore[attr-defined]

    with pytest.raises(TrainingError, match="train: step 0: no target in the whole batch"):
        train(tmp_path, batches=Empty(20, parts=3))


@pytest.mark.parametrize(
    ("size", "divisible", "said"),
    [
        (13, True, "train: 13 processes share batches of 12 rows; raise batch_size or lower train.launch"),
        (
            2,
            False,
            "train: the rows of a batch of toy need each other, and 2 processes would part them; set train.launch.processes to 1",
        ),
    ],
    ids=["fewer rows", "rows that need each other"],
)
def test_processes_that_a_batch_cannot_be_shared_by_are_refused(size: int, divisible: bool, said: str, tmp_path: Path) -> None:
    with pytest.raises(TrainingError) as refused:
        train(tmp_path, batches=PointBatches(20, divisible=divisible), world=World(rank=0, size=size))
    assert str(refused.value) == said


def test_rows_that_need_each_other_are_never_parted_and_named_where_memory_runs_out(tmp_path: Path) -> None:
    sizes = []

    def loss(model: nn.Module, batch: Any) -> Tensor:
        sizes.append(batch.num_rows)
        return summed_error(model, batch)

    whole = PointBatches(20, divisible=False)
    train(tmp_path / "fits", batches=whole, micro_batch_size=5, loss=loss)
    assert set(sizes) == {12}
    with pytest.raises(EnvironmentUnfitError) as refused:
        train(tmp_path / "does not", batches=whole, loss=fits_only(11))
    assert str(refused.value) == ("train: step 0: out of memory with 12 rows, which need each other and cannot be parted; lower batch_size")
