"""Several processes compute what one computes: real processes over gloo, both ways of sharing."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from acclimate.launch import run_processes
from acclimate.training.distributed import World
from tests.unit.training.distributed_runs import RUNS, Result, train

ROOT = Path(__file__).parents[3]
SHARDINGS = ("ddp", "fsdp")
UNDISTURBED = [name for name in RUNS if name not in ("nan", "fp16")]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def one(directory: Path, tiny_encoder_dir: Path) -> dict[str, Result]:
    """Every run in this process alone."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    found = {
        name: run(tiny_encoder_dir, directory / ("one" if name == "resumed" else f"one-{name}"), World()) for name, run in RUNS.items()
    }
    torch.set_num_threads(threads)
    return found


@pytest.fixture(scope="module")
def two(directory: Path, tiny_encoder_dir: Path, one: dict[str, Result]) -> list[dict[str, Result]]:
    """Every run in two processes, both ways: what each process found."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{ROOT / 'src'}:{ROOT}")
        patch.setenv("OMP_NUM_THREADS", "1")
        arguments = ["-m", "tests.unit.training.distributed_runs", str(tiny_encoder_dir), str(directory)]
        status, lines = run_processes(arguments, 2)
    assert status == 0, lines
    return [torch.load(directory / f"found-{rank}.pt", weights_only=False) for rank in range(2)]


def assert_same_run(found: Result, expected: Result) -> None:
    """float32 sums in another order: 1.2e-7 measured for losses, 5e-6 for norms, 2e-6 for weights after 8 steps of 5e-3."""
    assert expected["losses"]
    assert found["losses"] == pytest.approx(expected["losses"], rel=1e-6)
    assert found["parts"].keys() == expected["parts"].keys()
    for name, losses in expected["parts"].items():
        assert found["parts"][name] == pytest.approx(losses, rel=1e-5), name
    assert found["norms"] == pytest.approx(expected["norms"], rel=5e-5)
    assert found["scores"] == pytest.approx(expected["scores"], rel=1e-6)
    for name, tensor in expected["weights"].items():
        torch.testing.assert_close(found["weights"][name], tensor, rtol=1e-5, atol=1e-5, msg=name)


@pytest.mark.parametrize("sharding", SHARDINGS)
@pytest.mark.parametrize("name", UNDISTURBED)
def test_two_processes_do_what_one_does(name: str, sharding: str, one: dict[str, Result], two: list[dict[str, Result]]) -> None:
    expected = one[name]
    for process in two:
        found = process[f"{name}-{sharding}"]
        assert_same_run(found, expected)
        assert [found[fact] for fact in ("error", "best_step", "skipped", "spikes")] == [
            expected[fact] for fact in ("error", "best_step", "skipped", "spikes")
        ]


@pytest.mark.parametrize("sharding", SHARDINGS)
@pytest.mark.parametrize("name", [*UNDISTURBED, "fp16"])
def test_the_processes_end_with_the_same_bits(name: str, sharding: str, two: list[dict[str, Result]]) -> None:
    first, second = (process[f"{name}-{sharding}"]["weights"] for process in two)
    assert all(torch.equal(first[parameter], second[parameter]) for parameter in first)


@pytest.mark.parametrize("sharding", SHARDINGS)
def test_scaled_fp16_takes_the_same_steps(sharding: str, one: dict[str, Result], two: list[dict[str, Result]]) -> None:
    # products are rounded to 11 bits, and gradients are summed after that
    assert two[0][f"fp16-{sharding}"]["losses"] == pytest.approx(one["fp16"]["losses"], rel=1e-3)


def test_what_the_tests_compare_has_happened(one: dict[str, Result]) -> None:
    assert one["rewind"]["skipped"] == [20, 21, 22]
    assert len(one["best"]["scores"]) < len(one["task"]["losses"])
    assert not torch.equal(one["ema"]["weights"]["model.head.weight"], one["task"]["weights"]["model.head.weight"])
    assert one["resumed"]["resumed_from"] == 4
    assert one["method"]["parts"].keys() == {"train/near", "train/far", "train/far_size", "train/pull"}
    assert one["dropout"]["losses"] != one["method"]["parts"]["train/near"]


@pytest.mark.parametrize("sharding", SHARDINGS)
def test_a_loss_that_is_not_finite_in_one_process_stops_all_alike(
    sharding: str, one: dict[str, Result], two: list[dict[str, Result]]
) -> None:
    first, second = (process[f"nan-{sharding}"] for process in two)
    assert first["error"] == second["error"] == one["nan"]["error"]
    assert "step 3: loss nan" in first["error"]
    torch.testing.assert_close(first["weights"], one["nan"]["weights"], rtol=1e-5, atol=1e-5)


def test_sharded_optimizer_state_is_split(two: list[dict[str, Result]]) -> None:
    for name in ("mlm", "stable_adamw"):
        parts = [process[f"{name}-fsdp"]["state_elements_here"] for process in two]
        whole = two[0][f"{name}-fsdp"]["state_elements"]
        assert sum(parts) == whole
        assert max(parts) < 0.51 * whole
    assert two[0]["mlm-ddp"]["state_elements_here"] == two[0]["mlm-ddp"]["state_elements"]


@pytest.mark.parametrize("sharding", SHARDINGS)
def test_a_stop_asked_of_one_process_stops_both_at_the_same_step(sharding: str, two: list[dict[str, Result]]) -> None:
    assert {process[f"resumed-{sharding}"]["stopped"] for process in two} == {"StoppedError: step 4 of 8 is saved"}


def test_a_checkpoint_is_the_same_whoever_saved_it(directory: Path, one: dict[str, Result], two: list[dict[str, Result]]) -> None:
    def checkpoint(name: str) -> dict[str, Any]:
        state: dict[str, Any] = torch.load(next((directory / f"{name}-kept").glob("step-*.pt")), weights_only=True)
        assert state["average"] is None or state["average"].pop("kind") == "ema"
        return {key: state[key] or {} for key in ("step", "model", "optimizer", "average")}

    for run in ("resumed", "resumed_ema"):
        expected = checkpoint("one" if run == "resumed" else f"one-{run}")
        for sharding in SHARDINGS:
            torch.testing.assert_close(checkpoint(f"{run}-{sharding}"), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["ddp-from-one", "fsdp-from-one", "ddp-from-fsdp", "fsdp-from-ddp"])
def test_two_processes_go_on_from_any_checkpoint(name: str, one: dict[str, Result], two: list[dict[str, Result]]) -> None:
    for process in two:
        assert process[name]["resumed_from"] == 4
        assert_same_run(process[name], one["mlm"])


@pytest.mark.parametrize("sharding", SHARDINGS)
def test_one_process_goes_on_from_a_checkpoint_of_two_and_says_so(
    sharding: str,
    directory: Path,
    tiny_encoder_dir: Path,
    one: dict[str, Result],
    two: list[dict[str, Result]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    kept = directory / f"one-from-{sharding}"
    shutil.copytree(directory / f"resumed-{sharding}-kept", kept)
    with caplog.at_level(logging.WARNING):
        found = train(tiny_encoder_dir, kept, World())
    assert "the number of processes was 2 at the checkpoint and is 1 now" in caplog.text
    assert found["resumed_from"] == 4
    assert_same_run(found, one["mlm"])
