"""A damaged spool is set aside, a spool goes to its own store only, and a full disk costs the record, not the stage."""

from __future__ import annotations

import json
import logging
import os
import random
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from acclimate.adapters import tracking
from acclimate.adapters.options import TrackingConfig
from acclimate.adapters.tracking import Tracker, connect
from acclimate.adapters.tracking_worker import DeliveryError, read_events, read_start
from tests.security.empty_store import make_store

# MLflow's own on importing it.
pytestmark = pytest.mark.filterwarnings("ignore:.*AnyType:UserWarning")

NUM_INPUTS = int(os.environ.get("ACCLIMATE_FUZZ_INPUTS", "2000"))


def start(store: str, stage: str, **changes) -> dict:
    event = {"event": "start", "time_ms": 1_700_000_000_000, "stage": stage, "uri": store, "experiment": "acclimate", "session": "earlier"}
    event |= {"params": {"seed": 1}, "inputs": {}, "git_commit": None, "git_dirty": False, "user": "me", "source": "s.py", "command": "c"}
    return {**event, "system_metrics_every_s": 5.0, **changes}


def metrics(**changes) -> dict:
    return {"event": "metrics", "time_ms": 1_700_000_001_000, "step": 1, "values": {"loss": 1.0}, **changes}


def lines(*events: dict) -> bytes:
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


def runs(store: str) -> dict[str, object]:
    client = connect(store)
    experiment = client.get_experiment_by_name("acclimate")
    return {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}


def damaged(store: str) -> dict[str, bytes]:
    good, finish = start(store, "damaged"), {"event": "finish", "time_ms": 1_700_000_002_000, "status": "FINISHED", "message": ""}
    return {
        "a-junk": random.Random(0).randbytes(4096) + b"\n",
        "b-cut-in-its-first-line": lines(good)[:50],
        "c-no-key": lines({key: value for key, value in good.items() if key != "params"}),
        "d-wrong-type": lines(good, metrics(values={"loss": [1]})),
        "e-unknown-event": lines(good, {"event": "\x1b[2Jx", "time_ms": 1}),
        "f-huge-line": lines(good) + b'{"event": "' + b"x" * (1 << 24) + b'"}\n',
        "g-step-out-of-range": lines(good, metrics(step=1 << 70)),
        "h-session-is-a-path": lines(start(store, "h", session="../../../h")),
        "i-deep": lines(good) + b'{"event": "start", "params": ' + b"[" * 100_000 + b"\n",
        "j-empty": b"",
        "k-junk-in-the-middle": lines(good, metrics()) + b"\x00\xff\n" + lines(finish),
    }


@dataclass
class Delivered:
    spool: Path
    runs: dict[str, object]
    warnings: list[str]


@pytest.fixture(scope="module")
def delivered(tmp_path_factory) -> Delivered:
    """What became of spools that lay there when a stage ran."""
    project = tmp_path_factory.mktemp("project")
    store, spool = make_store(project / "mlflow.db"), project / ".acclimate" / "spool"
    spool.mkdir(parents=True)
    for name, content in damaged(store).items():
        (spool / f"{name}.jsonl").write_bytes(content)
    (spool / "l-directory.jsonl").mkdir()
    os.mkfifo(spool / "m-pipe.jsonl")  # opening it would wait for a writer
    (spool / "n-link.jsonl").symlink_to("nowhere")
    finish = {"event": "finish", "time_ms": 1_700_000_002_000, "status": "FINISHED", "message": ""}
    (spool / "y-other.jsonl").write_bytes(lines(start("http://127.0.0.1:9", "other"), metrics(), finish))
    (spool / "z-sent.jsonl").write_bytes(lines(start(store, "sent"), metrics(), finish))
    (spool / "z-torn.jsonl").write_bytes(lines(start(store, "torn"), metrics()) + b'{"event": "metr')
    warnings = Warnings()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        patch.setenv("ACCLIMATE_SESSION", "one-run")
        patch.setenv("MLFLOW_TRACKING_URI", store)
        for session in ("one-run", "earlier"):
            tracking.session_path(session, store, "acclimate").write_text('{"parent_id": 7, "stages": []}')  # damaged as well
        logging.getLogger("acclimate").addHandler(warnings)
        with Tracker(TrackingConfig(), stage="own", params={}, inputs={}) as tracker:
            assert tracker.run_id()
        logging.getLogger("acclimate").removeHandler(warnings)
        return Delivered(spool, runs(store), warnings.messages)


class Warnings(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def test_damaged_spools_are_set_aside_in_one_warning(delivered):
    names = [*damaged(""), "l-directory", "m-pipe", "n-link"]
    assert sorted(path.stem for path in delivered.spool.glob("*.rejected")) == names
    (warning,) = delivered.warnings
    assert [name for name in names if f"{name}.jsonl (" not in warning] == []
    assert "\x1b" not in warning


def test_spools_that_are_whole_are_sent_beside_damaged_ones(delivered):
    assert {name: delivered.runs[name].info.status for name in ("own", "sent", "torn")} == {
        "own": "FINISHED",
        "sent": "FINISHED",
        "torn": "KILLED",
    }
    assert "RUNNING" not in {run.info.status for run in delivered.runs.values()}


def test_a_spool_is_never_sent_to_another_store(delivered):
    """What was recorded for one store, perhaps a private one, must not appear in the next one that answers."""
    assert "other" not in delivered.runs
    assert [path.name for path in delivered.spool.glob("*.jsonl")] == ["y-other.jsonl"]


STAGE = """
import sys, logging, resource
logging.basicConfig(format="%(message)s")
from pathlib import Path
from acclimate.adapters.tracking import Tracker
from acclimate.adapters.options import TrackingConfig
fill, free = sys.argv[1] == "fill", Path(".acclimate/filler")
with Tracker(TrackingConfig(), stage="trained", params={}, inputs={}) as tracker:
    tracker.log(1, {"loss": 1.0})
    tracker.run_id()
    if fill:
        with free.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass
    for step in range(2, 400):
        tracker.log(step, {"loss": 1.0 / step})
print("the stage's result")
"""


def stage(*arguments: str, before: str = "", **options) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", STAGE, *arguments]
    if before:
        command = ["unshare", "-m", "sh", "-c", f'{before} && exec "$@"', "sh", *command]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=200, **options)


def may_mount() -> bool:
    return os.geteuid() == 0 and subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode == 0


@pytest.mark.skipif(not may_mount(), reason="needs root and `unshare -m` to mount a small file system")
def test_a_disk_that_fills_up_does_not_end_the_stage(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    make_store(tmp_path / "mlflow.db")
    (tmp_path / ".acclimate").mkdir()
    done = stage("fill", cwd=tmp_path, before="mount -t tmpfs -o size=64k tmpfs .acclimate")
    assert (done.returncode, done.stdout) == (0, "the stage's result\n")
    warnings = [line for line in done.stderr.splitlines() if "incomplete" in line]
    assert warnings == [".acclimate/spool: No space left on device; the stage continues, its record is incomplete"]
    deadline = time.monotonic() + 30
    while runs(f"sqlite:///{tmp_path}/mlflow.db")["trained"].info.status == "RUNNING" and time.monotonic() < deadline:
        time.sleep(0.5)
    run = runs(f"sqlite:///{tmp_path}/mlflow.db")["trained"]
    assert (run.info.status, run.data.tags["ended"]) == ("FINISHED", "the record is incomplete: No space left on device")


@pytest.mark.skipif(not may_mount(), reason="needs root and `unshare -m` to mount a file system")
@pytest.mark.parametrize("options", ["size=64k,nr_inodes=1", "ro"])
def test_a_spool_that_cannot_be_made_does_not_end_the_stage(options, tmp_path):
    (tmp_path / ".acclimate").mkdir()
    done = stage("-", cwd=tmp_path, before=f"mount -t tmpfs -o {options} tmpfs .acclimate")
    assert (done.returncode, done.stdout) == (0, "the stage's result\n")
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.endswith("the stage continues, its record is incomplete\n")


def test_a_write_that_fails_halfway_leaves_whole_lines(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    tracker = Tracker(TrackingConfig(), stage="limited", params={}, inputs={})
    path = tracker._open_spool()
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, limits[1]))
        for step in range(200):
            tracker.log(step, {"loss": 1.0})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    tracker._finish("FINISHED", "")
    tracker._close()
    *_, last = map(json.loads, path.read_text().splitlines())
    assert last["message"] == "the record is incomplete: File too large"
    assert 8192 - 200 < path.stat().st_size < 8192 + 200
    assert [record.message for record in caplog.records] == [
        ".acclimate/spool: File too large; the stage continues, its record is incomplete"
    ]


def test_no_mutation_of_a_spool_gives_more_than_one_line(tmp_path):
    """Bytes changed, cut, doubled and exchanged; seeds are the numbers of the inputs."""
    store = "sqlite:////srv/mlflow.db"
    valid = lines(start(store, "s"), metrics(), {"event": "outputs", "time_ms": 1, "md5": {"a": "b"}}, metrics(step=None))
    spool, refused, wrong = tmp_path / "spool.jsonl", 0, []
    for seed in range(NUM_INPUTS):
        draw, content = random.Random(seed), bytearray(valid)
        for _ in range(draw.randint(1, 4)):
            at = draw.randrange(len(content))
            kind = draw.randrange(4)
            if kind == 0:
                content[at] = draw.randrange(256)
            elif kind == 1:
                del content[at : at + draw.randint(1, 40)]
            elif kind == 2:
                content[at:at] = content[at : at + draw.randint(1, 40)]
            else:
                content[at:at] = draw.choice([b"null", b"1e999", b"-1", b"[", b'"\\ud800"', b"\x00", b"NaN", b"{}"])
            content = content or bytearray(b"\n")
        spool.write_bytes(content)
        try:
            read_start(spool)
            read_events(spool, 0)
        except DeliveryError as error:
            refused += 1
            wrong += [seed] if "\n" in str(error) or len(str(error)) > 300 or not error.permanent else []
    assert wrong == []
    assert refused > NUM_INPUTS // 2
