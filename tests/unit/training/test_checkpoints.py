"""Checkpoints on a disk that is full: a real limit on the size of a file, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from acclimate.training.checkpoints import CheckpointStore
from tests.unit.training.toy_run import train

_FILLS_UP = """
import json, logging, os, resource, signal, sys
from pathlib import Path
from acclimate.errors import AcclimateError
from acclimate.training import loop
from tests.unit.training.toy_run import summed_error, train, weights

loop.SAVING_SHARE = 1e9
logging.basicConfig(handlers=[handler := logging.StreamHandler(sys.stderr)], format="%(message)s")

def run(directory, full_at, stop_at, room):
    calls = 0
    def loss(model, batch):
        nonlocal calls
        calls += 1
        if calls == full_at:  # Python ignores SIGXFSZ, so that writing more fails with EFBIG, "File too large"
            size = max(directory.glob("*.pt")).stat().st_size - 1 if room is None else room
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        if calls == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return summed_error(model, batch)
    said = []
    handler.emit = lambda record: said.append(record.getMessage())
    try:
        ended, found = None, weights(train(directory, loss=loss, every_s=0.0).model).tolist()
    except AcclimateError as error:
        ended, found = str(error), None
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    return {"weights": found, "ended": ended, "said": said}

print(json.dumps({name: run(Path(sys.argv[1]) / name, *how) for name, how in json.loads(sys.argv[2]).items()}))
"""
# The step (from 1) from which no file grows beyond so many bytes, and the step at which the run is asked to stop. torch's writer fails
# in another place for no byte, for some of the tensors, and for all but the last byte.
_RUNS = {"nothing": (6, 0, 0), "part": (6, 0, 2000), "last byte": (6, 0, None), "stopped": (6, 9, 2000), "at first": (1, 1, 2000)}


@dataclass(frozen=True)
class Run:
    directory: Path
    weights: list[float] | None
    ended: str | None
    said: list[str]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """Runs that save after each step, and whose disk fills up."""
    directory = tmp_path_factory.mktemp("full")
    done = subprocess.run(
        [sys.executable, "-c", _FILLS_UP, str(directory), json.dumps(_RUNS)], capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stderr
    return {name: Run(directory / name, **found) for name, found in json.loads(done.stdout).items()}


@pytest.mark.parametrize("name", ["nothing", "part", "last byte"])
def test_training_goes_on_through_a_full_disk_with_the_older_checkpoint_whole(name: str, runs: dict[str, Run], tmp_path: Path) -> None:
    run, undisturbed = runs[name], train(tmp_path).weights
    assert torch.equal(torch.tensor(run.weights), undisturbed)
    assert run.said == [
        f"{run.directory}/step-{step:09d}.pt: checkpoint not written (File too large); make room. "
        "The one before it, step-000000005.pt, is untouched; training goes on without it"
        for step in range(6, 21)
    ]
    assert sorted(path.name for path in run.directory.glob("*.p*")) == ["step-000000004.pt", "step-000000005.pt"]
    state = CheckpointStore(run.directory).load_newest()
    assert state is not None and state["step"] == 5
    again = train(run.directory)
    assert again.result.resumed_from == 5 and torch.equal(again.weights, undisturbed)


def test_a_stop_request_on_a_full_disk_ends_in_one_line(runs: dict[str, Run], tmp_path: Path) -> None:
    run = runs["stopped"]
    assert run.ended == (
        f"{run.directory}/step-000000009.pt: checkpoint not written (File too large); make room. "
        "The one before it, step-000000005.pt, is untouched"
    )
    again = train(run.directory)
    assert again.result.resumed_from == 5
    assert torch.equal(again.weights, train(tmp_path).weights)


def test_a_disk_that_is_full_from_the_start_is_told_so(runs: dict[str, Run]) -> None:
    run = runs["at first"]
    assert run.ended is not None
    assert run.ended.endswith("checkpoint not written (File too large); make room. There is none before it")
