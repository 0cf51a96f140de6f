"""The stack's own rules; the services themselves are started by `make stack`."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from acclimate.errors import EnvironmentUnfitError
from infra import stack
from infra.prefect_objects import ZOMBIE_AFTER
from infra.stack import Ports

ROOT = Path(__file__).parents[3]


@pytest.fixture
def state(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(stack, "STACK_DIRECTORY", tmp_path)
    return tmp_path


def test_a_taken_port_is_told_with_the_variable_that_moves_it():
    with socket.socket() as taken:
        taken.bind((stack.HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(EnvironmentUnfitError, match=f"port {port} is taken .* PREFECT_PORT=<port>"):
            stack._require_port(port, "PREFECT_PORT")
    stack._require_port(port, "PREFECT_PORT")


def test_down_without_up_says_so(state, capsys):
    stack.down()
    assert capsys.readouterr().out == "stack: was not up\n"


def test_a_dead_run_is_told_from_a_slow_one_by_three_heartbeats(state):
    heartbeat_s = int(stack.service_environment(Ports(4200, 5000))["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"])
    assert ZOMBIE_AFTER.total_seconds() == 3 * heartbeat_s


def test_a_key_is_made_once_and_only_its_owner_reads_it(state, tmp_path, monkeypatch):
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    monkeypatch.setattr(stack, "ROOT", tmp_path)
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    (tmp_path / "mlflow.db").touch(mode=0o666)
    previous = os.umask(0)
    try:
        with stack.locked():
            stack.make_key()
            first = stack.client_environment(Ports(1, 2))
            stack.make_key()
    finally:
        os.umask(previous)
    assert stack.client_environment(Ports(1, 2)) == first
    assert first["PREFECT_API_AUTH_STRING"] == f"{first['MLFLOW_TRACKING_USERNAME']}:{first['MLFLOW_TRACKING_PASSWORD']}"
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path, tmp_path / "key", tmp_path / "prefect", tmp_path / "mlflow.db")}
    assert list(modes.values()) == [0o700, 0o600, 0o700, 0o600]
