"""Names, places and endings of what is tracked, without MLflow."""

from __future__ import annotations

import subprocess
import sys

import pytest

from acclimate.adapters.options import TrackingConfig
from acclimate.adapters.tracking import _ending, artifact_root, configured_uri, resolve_uri, session_id
from acclimate.adapters.tracking_worker import DeliveryError, flatten, read_start
from acclimate.runtime import StoppedError


def test_a_relative_database_becomes_absolute_and_a_server_stays(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert resolve_uri("sqlite:///mlflow.db") == f"sqlite:///{tmp_path}/mlflow.db"
    assert resolve_uri("sqlite:////srv/mlflow.db") == "sqlite:////srv/mlflow.db"
    assert resolve_uri("http://127.0.0.1:5000") == "http://127.0.0.1:5000"
    assert artifact_root("sqlite:///mlflow.db") == f"file://{tmp_path}/mlruns"
    assert artifact_root("http://127.0.0.1:5000") is None


def test_the_environment_overrides_the_store_of_the_params(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    assert configured_uri(TrackingConfig()) == "http://127.0.0.1:1"
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert configured_uri(TrackingConfig()) == "sqlite:///mlflow.db"


def test_stages_under_one_dvc_are_one_session(tmp_path, monkeypatch):
    monkeypatch.delenv("ACCLIMATE_SESSION", raising=False)
    dvc = tmp_path / "dvc"
    code = "import subprocess, sys; [subprocess.run([sys.executable, '-c', sys.argv[1]]) for _ in range(2)]"
    dvc.write_text(code)
    ask = "from acclimate.adapters.tracking import session_id; print(session_id())"
    done = subprocess.run([sys.executable, str(dvc), ask], capture_output=True, text=True, check=True)
    first, second = done.stdout.split()
    assert first == second
    assert first.startswith("dvc-")


def test_a_given_session_is_fit_for_a_file_name(monkeypatch):
    monkeypatch.setenv("ACCLIMATE_SESSION", "flow/run 7")
    assert session_id() == "flow-run-7"


def test_params_become_dotted_names_that_mlflow_takes():
    assert flatten({"a": {"b": {"c@d": 1}}, "list": [1, "x"], "none": None, "empty": {}}) == {
        "a.b.c_d": "1",
        "list": '[1, "x"]',
        "none": "null",
        "empty": "{}",
    }


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (None, "FINISHED"),
        (SystemExit(0), "FINISHED"),
        (SystemExit(75), "KILLED"),
        (KeyboardInterrupt(), "KILLED"),
        (StoppedError(15, "step 3 of 9 is saved"), "KILLED"),
        (ValueError(), "FAILED"),
    ],
)
def test_how_a_stage_ended_gives_the_status_of_its_run(error, status):
    assert _ending(error)[0] == status


def test_a_spool_cut_off_in_its_first_event_is_refused_for_good(tmp_path):
    spool = tmp_path / "torn.jsonl"
    spool.write_text('{"event": "start", "sta')
    with pytest.raises(DeliveryError, match="no whole event") as caught:
        read_start(spool)
    assert caught.value.permanent


def test_the_tracker_does_not_import_mlflow():
    code = "import sys, acclimate.adapters.tracking; sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
