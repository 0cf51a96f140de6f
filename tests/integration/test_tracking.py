"""What a stage records reaches MLflow however the stage ends, and MLflow away never stops a stage."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import psutil
import pytest

from acclimate.adapters import tracking
from acclimate.adapters.options import TrackingConfig
from acclimate.adapters.tracking import Origin, Tracker, connect, lineage

MD5 = {"artifacts/made": "b" * 32 + ".dir"}


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """An empty project directory, one pipeline run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACCLIMATE_SESSION", "one-run")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


def runs(project: Path) -> dict[str, list]:
    """Every run of the project's store, by name; the pipeline's under `pipeline`."""
    client = connect(f"sqlite:///{project / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("acclimate")
    by_name: dict[str, list] = {}
    for run in client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"]):
        by_name.setdefault(run.info.run_name.split("-")[0] if run.info.run_name.startswith("pipeline") else run.info.run_name, []).append(
            run
        )
    return by_name


def spools(project: Path) -> list[str]:
    return sorted(path.name for path in (project / ".acclimate" / "spool").iterdir())


def test_a_stage_is_a_child_run_with_its_params_metrics_data_and_outs(project):
    config = TrackingConfig(system_metrics_every_s=0.2)
    params = {"finetune": {"learning_rate": 1e-4, "targets": ["query", "value"]}, "long": "x" * 7000}
    with Tracker(config, stage="finetune@toy-base-full-0", params=params, inputs={"artifacts/in": "a" * 32 + ".dir"}) as tracker:
        for step in range(1, 1201):
            tracker.log(step, {"train/loss": float("nan") if step == 7 else 1.0 / step}, timing={"tokens_per_s": 10.0})
        run_id = tracker.run_id()
        time.sleep(1.0)
        Path("report.txt").write_text("made")
        tracker.log_final({"test/accuracy": 0.5})
        tracker.log_artifact(Path("report.txt"))
        tracker.set_outputs(MD5)
    found = runs(project)
    child, parent = found["finetune@toy-base-full-0"][0], found["pipeline"][0]
    assert child.info.run_id == run_id
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert (child.info.status, parent.info.status) == ("FINISHED", "FINISHED")
    assert child.data.params["finetune.learning_rate"] == "0.0001"
    assert len(child.data.params["long"]) == 500
    assert child.data.metrics["train/loss"] == pytest.approx(1 / 1200)
    assert child.data.metrics["timing/tokens_per_s"] == 10.0
    assert child.data.metrics["test/accuracy"] == 0.5
    assert any(name.startswith("system/") for name in child.data.metrics)
    assert [(each.dataset.name, each.dataset.digest) for each in child.inputs.dataset_inputs] == [("artifacts/in", "a" * 32 + ".dir")]
    assert child.data.tags["dvc.in.artifacts/in"] == "a" * 32 + ".dir"
    stored = Path(child.info.artifact_uri.removeprefix("file://"))
    assert {path.name for path in stored.iterdir()} == {"params.json", "report.txt"}
    assert spools(project) == []
    assert lineage("artifacts/made", MD5["artifacts/made"], config=config) == Origin(
        run_id, "finetune@toy-base-full-0", "FINISHED", child.info.start_time
    )
    assert lineage("artifacts/made", "c" * 32 + ".dir", config=config) is None


def test_a_stage_killed_at_once_leaves_no_active_run(project):
    code = (
        "import os, signal\n"
        "from acclimate.adapters.tracking import Tracker\n"
        "from acclimate.adapters.options import TrackingConfig\n"
        "with Tracker(TrackingConfig(), stage='doomed', params={}, inputs={}) as tracker:\n"
        "    tracker.log(1, {'loss': 1.0})\n"
        "    print(tracker.run_id(), flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 30
    while spools(project) and time.monotonic() < deadline:
        time.sleep(0.2)
    found = runs(project)
    assert found["doomed"][0].info.run_id == done.stdout.strip()
    assert {found[name][0].info.status for name in ("doomed", "pipeline")} == {"KILLED"}
    assert found["doomed"][0].data.metrics["loss"] == 1.0


def test_a_store_that_is_away_is_told_of_once_and_its_stage_is_sent_by_the_next(project, caplog):
    away = project / "away"
    away.write_text("a file where the directory of the store was")
    store = TrackingConfig(uri=f"sqlite:///{away}/mlflow.db")
    with Tracker(store, stage="first", params={"seed": 1}, inputs={}) as tracker:
        tracker.log(1, {"loss": 1.0})
        assert tracker.run_id() is None
    assert [record.message.split(":///")[0] for record in caplog.records] == ["MLflow at sqlite"]
    away.unlink()
    assert [name.split("-")[0] for name in spools(project) if name.endswith(".jsonl")] == ["first"]
    with pytest.raises(ValueError, match="broken"), Tracker(store, stage="second", params={}, inputs={}):
        raise ValueError("broken")
    found = runs(away)
    assert [name for name in spools(project) if name.endswith(".jsonl")] == []
    assert found["first"][0].data.metrics["loss"] == 1.0
    assert (found["first"][0].info.status, found["second"][0].info.status) == ("FINISHED", "FAILED")
    assert found["second"][0].data.tags["ended"] == "ValueError: broken"
    assert [parent.info.status for parent in found["pipeline"]] == ["FAILED"]
    with Tracker(store, stage="second", params={}, inputs={}):
        pass  # tried again, and well this time
    assert [parent.info.status for parent in runs(away)["pipeline"]] == ["FINISHED"]
    assert os.environ.get("MLFLOW_RUN_ID") is None


RUN = """
import os, signal, subprocess, sys, time
from acclimate.lifeline import child_environment

STAGE = '''
import os, signal, sys
from acclimate.adapters.options import TrackingConfig
from acclimate.adapters.tracking import Tracker
with Tracker(TrackingConfig(), stage=sys.argv[1], params={}, inputs={}) as tracker:
    tracker.log(1, {"loss": 1.0})
    assert tracker.run_id()
    if sys.argv[1] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
'''

def stage(name):
    return subprocess.Popen([sys.executable, "-c", STAGE, name], env={**os.environ, **child_environment()})

def workers():
    import psutil
    each_process = psutil.process_iter(["cmdline", "environ"])
    found = [each for each in each_process if "acclimate.adapters.tracking_worker" in (each.info["cmdline"] or [])]
    return [each for each in found if (each.info["environ"] or {}).get("ACCLIMATE_SESSION") == os.environ["ACCLIMATE_SESSION"]]

for running in [stage("first"), stage("second")]:
    running.wait()
stage("killed").wait()
(worker,) = workers()
worker.kill()
stage("last").wait()
assert len(workers()) == 1 and workers() != [worker]
print(workers()[0].pid)
"""


def is_alive(pid: int) -> bool:
    """Whether a process runs; the first process of a container may leave an ended one as a zombie."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_one_process_sends_the_records_of_all_stages_of_a_run_and_leaves_with_it(project, monkeypatch):
    monkeypatch.setenv("ACCLIMATE_SESSION", f"run-{project.name}")
    done = subprocess.run([sys.executable, "-c", RUN], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    deadline = time.monotonic() + 30
    while is_alive(int(done.stdout)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not is_alive(int(done.stdout))
    found = runs(project)
    assert {name: run.info.status for name, (run,) in found.items()} == {
        "first": "FINISHED",
        "second": "FINISHED",
        "killed": "KILLED",
        "last": "FINISHED",
        "pipeline": "KILLED",
    }
    assert spools(project) == []
    assert [path.suffix for path in (project / ".acclimate" / "sessions").iterdir() if path.suffix in (".sock", ".log")] == []


def test_a_file_system_without_sockets_costs_a_process_of_its_own(project, monkeypatch, caplog):
    monkeypatch.setattr(tracking, "_short", lambda path: nullcontext(f"/sys/{path.name}"))  # where no socket can be made
    with Tracker(TrackingConfig(), stage="alone", params={}, inputs={}) as tracker:
        tracker.log(1, {"loss": 1.0})
    assert caplog.records == []
    assert runs(project)["alone"][0].data.metrics["loss"] == 1.0


def test_a_damaged_last_event_ends_no_other_record(project, monkeypatch):
    """Both stages share a sender, as stages of one run do."""
    monkeypatch.setenv("ACCLIMATE_ENDS_WITH", str(os.getpid()))
    other = Tracker(TrackingConfig(), stage="other", params={}, inputs={})
    with other:
        damaged = Tracker(TrackingConfig(), stage="damaged", params={}, inputs={}).__enter__()
        assert damaged.run_id()
        damaged._tell_worker(b"{}\n")
        damaged._close()
        assert other.run_id()
        other.log(1, {"loss": 1.0})
    found = runs(project)
    assert (found["other"][0].info.status, found["other"][0].data.metrics["loss"]) == ("FINISHED", 1.0)
    (sender,) = (each for each in psutil.process_iter(["cmdline"]) if str(project) in " ".join(each.info["cmdline"] or []))
    sender.kill()
