"""Stages on several processes: results, records, stops, deaths and mistakes, with real processes over gloo."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from acclimate.params_file import read_yaml

ROOT = Path(__file__).parents[2]
STEPS = 200
WAIT_S = 120.0


class Project:
    """A directory with params.yaml, in which stages of this checkout run."""

    def __init__(self, directory: Path, store: Path, params: dict[str, Any] | None = None) -> None:
        self.directory = directory
        self._params = params or read_yaml(ROOT / "params.yaml")
        self._store = f"sqlite:///{store}"
        self.started_at = 0.0
        self.started: list[subprocess.Popen[str]] = []

    def start(self, *command: str, launch: dict[str, Any] | None = None, node: int | None = None) -> subprocess.Popen[str]:
        """Start a command with a `train.launch`."""
        given = {**self._params, "train": {"launch": launch or {}}}
        (self.directory / "params.yaml").write_text(json.dumps(given), encoding="utf-8")  # JSON is YAML
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("DVC", "ACCLIMATE"))}
        inherited |= {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "OMP_NUM_THREADS": "1", "MLFLOW_TRACKING_URI": self._store}
        inherited |= {} if node is None else {"NODE_RANK": str(node)}
        self.started_at = time.time()
        started = subprocess.Popen(command, cwd=self.directory, env=inherited, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.started.append(started)
        return started

    def small(self, name: str = "out", *, rows: int = 7, steps: int = STEPS, **options: Any) -> subprocess.Popen[str]:
        """Start the small stage."""
        arguments = ("--rows", str(rows), "--steps", str(steps), "--out", name, "--record", f"{name}.json")
        return self.start(sys.executable, "-m", "tests.integration.small_stage", *arguments, **options)

    def pids(self, processes: int = 2) -> list[int]:
        """The processes of the small stage that was started last, once they have trained and saved."""
        paths = [self.directory / f"pid-{rank}" for rank in range(processes)]
        wait_for(lambda: all(path.exists() and path.stat().st_mtime > self.started_at for path in paths))
        began = max(path.stat().st_mtime for path in paths)
        wait_for(lambda: any(path.stat().st_mtime > began for path in self.directory.glob(".acclimate/checkpoints/*/step-*.pt")))
        return [int(path.read_text()) for path in paths]

    def curve(self, name: str = "out") -> list[float]:
        found: list[float] = json.loads((self.directory / name / "curve.json").read_text())
        return found


def wait_for(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def finish(process: subprocess.Popen[str]) -> tuple[int, list[str]]:
    """Exit status, and the lines on standard error that are the command's own last words."""
    _, stderr = process.communicate(timeout=WAIT_S)
    assert "Traceback" not in stderr, stderr
    return process.returncode, [line for line in stderr.splitlines() if line.startswith("small_stage: ")]


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that nobody waits for (init is not always there to) has ended too."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One tracking database for all: making one takes MLflow seconds."""
    return tmp_path_factory.mktemp("store") / "mlflow.db"


@pytest.fixture
def project(tmp_path: Path, store: Path) -> Iterator[Project]:
    project = Project(tmp_path, store)
    yield project
    for process in project.started:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def curve(tmp_path_factory: pytest.TempPathFactory, store: Path) -> list[float]:
    """The small stage's curve in one process."""
    project = Project(tmp_path_factory.mktemp("one"), store)
    assert finish(project.small()) == (0, [])
    return project.curve()


def test_a_run_that_is_stopped_and_then_loses_a_process_ends_on_another_number_of_them(project: Project, curve: list[float]) -> None:
    running = project.small(launch={"processes": 2})
    pids = project.pids()
    running.send_signal(signal.SIGTERM)
    status, lines = finish(running)
    assert status == 75
    assert len(lines) == 1
    assert "is saved; the next run goes on from there" in lines[0]
    assert not any(is_alive(pid) for pid in pids)

    running = project.small(launch={"processes": 2, "sharding": "fsdp"})
    survivor, victim = project.pids()
    os.kill(victim, signal.SIGKILL)
    status, lines = finish(running)
    assert status == 128 + signal.SIGKILL
    how = "was killed by SIGKILL; the others were ended, the next run goes on from the last checkpoint"
    assert lines == [f"small_stage: process 1 of 2 (counted from 0) {how}"]
    assert not is_alive(survivor)

    running = project.small()
    assert finish(running) == (0, [])
    assert json.loads((project.directory / "out.json").read_text())["resumed_from"] > 0
    assert project.curve() == pytest.approx(curve, rel=1e-5)


def test_a_killed_launcher_leaves_no_process(project: Project) -> None:
    running = project.small(steps=100_000, launch={"processes": 2})
    pids = project.pids()
    running.kill()
    wait_for(lambda: not any(is_alive(pid) for pid in pids))


def test_processes_of_one_node_listen_on_loopback_only(project: Project) -> None:
    """Who reaches the store that they meet through can send them pickles."""
    running = project.small(steps=100_000, launch={"processes": 2})
    listening = [
        (connection.laddr.ip, pid)
        for pid in project.pids()
        for connection in psutil.Process(pid).net_connections()
        if connection.status == psutil.CONN_LISTEN
    ]
    running.kill()
    assert {ip for ip, _ in listening} == {"127.0.0.1"}


def test_two_nodes_train_as_one_process_does(project: Project, curve: list[float]) -> None:
    launch = {"nodes": 2, "rendezvous": f"127.0.0.1:{free_port()}"}
    second, first = project.small(launch=launch, node=1), project.small(launch=launch, node=0)
    assert finish(first) == finish(second) == (0, [])
    assert project.curve() == pytest.approx(curve, rel=1e-5)
    assert json.loads((project.directory / "out.json").read_text())["processes"] == 2


def test_nodes_that_do_not_meet_say_so_in_one_line(project: Project) -> None:
    launch = {"processes": 2, "nodes": 2, "timeout_s": 3, "rendezvous": f"127.0.0.1:{free_port()}"}
    status, lines = finish(project.small(launch=launch, node=1))
    assert status == 1
    assert len(lines) == 1
    assert "train.launch: the 4 processes did not meet at 127.0.0.1:" in lines[0]


def test_a_node_that_does_not_know_its_number_is_refused(project: Project) -> None:
    status, lines = finish(project.small(launch={"nodes": 2, "rendezvous": "127.0.0.1:1"}))
    assert status == 1
    assert lines == ["small_stage: train.launch.nodes is 2: each node must be told its number, as NODE_RANK=0 to NODE_RANK=1"]


def test_fewer_rows_than_processes_are_refused_in_one_line(project: Project) -> None:
    status, lines = finish(project.small(rows=1, launch={"processes": 2}))
    assert status == 1
    assert lines == ["small_stage: train: 2 processes share batches of 1 rows; raise batch_size or lower train.launch"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
