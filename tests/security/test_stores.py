"""A store that is locked or being created is waited for, is private, and its password stays in the environment."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from acclimate.adapters import tracking
from acclimate.adapters.registry import main
from acclimate.adapters.tracking import connect, lineage, public_uri
from acclimate.errors import EnvironmentUnfitError
from tests.security.empty_store import RAM, make_store

# MLflow's own on importing it.
pytestmark = pytest.mark.filterwarnings("ignore:.*AnyType:UserWarning")

ROOT = Path(__file__).parents[2]
TOKEN = "plantedSecret7f3a"
MANY = "ACCLIMATE_WHOLE" in os.environ


@contextlib.contextmanager
def exclusively_locked(database: Path, seconds: float):
    """Another process holds the database for so long."""
    code = (
        "import sqlite3, sys, time; held = sqlite3.connect(sys.argv[1]); held.execute('BEGIN EXCLUSIVE');"
        "print('held', flush=True); time.sleep(float(sys.argv[2]))"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(database), str(seconds)], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    holder.stdout.readline()
    yield
    holder.kill()
    holder.wait()
    holder.stdout.close()


def test_a_locked_database_is_waited_for(tmp_path):
    store = make_store(tmp_path / "mlflow.db")
    started = time.monotonic()
    with exclusively_locked(tmp_path / "mlflow.db", 6.0):  # MLflow's first statement waits five seconds
        connect(store).create_experiment("after")
        assert time.monotonic() - started > 5.0


def test_a_database_that_stays_locked_is_one_line(tmp_path, monkeypatch, capfd):
    store = make_store(tmp_path / "mlflow.db")
    monkeypatch.setattr(tracking, "LOCK_TIMEOUT_S", 0.5)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    monkeypatch.chdir(ROOT)
    with exclusively_locked(tmp_path / "mlflow.db", 60.0):
        for command in ("history", "rollback"):
            assert main([command, "anything"]) == 1
        with pytest.raises(EnvironmentUnfitError, match="the database is locked by another process"):
            lineage("out", "md5")
    assert capfd.readouterr().err == f"registry: {tmp_path}/mlflow.db: the database is locked by another process\n" * 2


def test_a_file_that_is_no_database_is_one_line(tmp_path):
    (tmp_path / "mlflow.db").write_text("not a database, but long enough to be looked at" * 20)
    with pytest.raises(EnvironmentUnfitError, match=r"mlflow.db: file is not a database$"):
        connect(f"sqlite:///{tmp_path}/mlflow.db")


CREATE = """
import multiprocessing, sys, mlflow
from acclimate.adapters import tracking
fork = multiprocessing.get_context("fork")
for attempt in range(int(sys.argv[2])):
    barrier = fork.Barrier(8)
    def create(number):
        barrier.wait()
        tracking.connect(f"sqlite:///{sys.argv[1]}/{attempt}/mlflow.db").create_experiment(f"of {number}")
    processes = [fork.Process(target=create, args=(number,)) for number in range(8)]
    for process in processes: process.start()
    for process in processes: process.join()
    print([process.exitcode for process in processes])
"""


def test_eight_processes_create_one_store_at_once():
    attempts = 5 if MANY else 1
    with tempfile.TemporaryDirectory(dir=RAM) as directory:
        command = [sys.executable, "-c", CREATE, directory, str(attempts)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=290)
    assert done.stdout == "[0, 0, 0, 0, 0, 0, 0, 0]\n" * attempts, done.stderr[-2000:]


def test_a_store_is_closed_to_others_once_and_may_be_opened_to_a_group(tmp_path):
    def modes() -> list[str]:
        return [stat.filemode((tmp_path / name).stat().st_mode) for name in ("mlflow.db", "mlruns")]

    store = make_store(tmp_path / "mlflow.db")
    (tmp_path / "mlflow.db").chmod(0o644)
    (tmp_path / "mlruns").mkdir(mode=0o755)
    connect(store)
    assert modes() == ["-rw-------", "drwx------"]
    (tmp_path / "mlflow.db").chmod(0o660)
    (tmp_path / "mlruns").chmod(0o2770)
    connect(store)
    assert modes() == ["-rw-rw----", "drwxrws---"]


@pytest.mark.parametrize(
    ("uri", "public"),
    [
        ("sqlite:////srv/mlflow.db", "sqlite:////srv/mlflow.db"),
        (f"https://user:{TOKEN}@host:5000/base", "https://host:5000/base"),
        (f"https://{TOKEN}@host", "https://host"),
        (f"https://user:a@{TOKEN}@host", "https://host"),
        (f"postgresql://user:a/{TOKEN}@db/mlflow", "postgresql://db/mlflow"),
        (f"postgresql+psycopg2://db/mlflow?user=me&password={TOKEN}", "postgresql+psycopg2://db/mlflow?user=***&password=***"),
    ],
)
def test_the_public_name_of_a_store_holds_no_secret(uri, public):
    assert public_uri(uri) == public


SERVER = """
import sys
from werkzeug.serving import make_server
from mlflow.server import app
from mlflow.server.handlers import initialize_backend_stores
initialize_backend_stores(sys.argv[1], default_artifact_root=sys.argv[2])
@app.before_request
def note():
    from flask import request
    given = request.authorization
    open(sys.argv[3], "a").write(f"{given.username} {given.password == sys.argv[4]}\\n" if given else "nobody\\n")
server = make_server("127.0.0.1", 0, app, threaded=True)
print(server.port, flush=True)
server.serve_forever()
"""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A stage recorded by a server that asks for a password, another one by a server that is away; and all that was written."""
    outside, state = tmp_path_factory.mktemp("outside"), tmp_path_factory.mktemp("state")
    project = Path(tempfile.mkdtemp(prefix="acclimate-open-"))  # pytest's own directory is closed already
    project.chmod(0o755)
    store = make_store(project / "mlflow.db")
    (project / "mlflow.db").chmod(0o644)
    connect(store)
    command = [sys.executable, "-c", SERVER, store, (project / "mlruns").as_uri(), str(outside / "asked"), TOKEN]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (outside / "server.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=environment)
    assert server.stdout is not None
    port = int(server.stdout.readline())
    code = f"""
import os, sys
os.umask(0)
from acclimate.runtime import configure_logging
from acclimate.adapters.tracking import Tracker, lineage
from acclimate.adapters import registry
from acclimate.adapters.options import TrackingConfig
from acclimate.errors import AcclimateError
configure_logging()
uris = ["http://user:{TOKEN}@127.0.0.1:{port}", "http://user:{TOKEN}@127.0.0.1:9"]
for uri in uris:
    os.environ["MLFLOW_TRACKING_URI"] = uri
    try:
        params = {{"where": ["https://me:{TOKEN}@h/a?sig={TOKEN}"]}}
        params = {{"where": ["https://me:{TOKEN}@h/a?sig={TOKEN}"]}}
        with Tracker(TrackingConfig(), stage="s" + uri[-1], params=params, inputs={{}}) as tracker:
            print(tracker.uri, tracker.run_id())
            tracker.log(1, {{"loss": 1.0}})
            open("made.txt", "w").write("made")
            from pathlib import Path
            tracker.log_artifact(Path("made.txt"))
            raise ValueError("x" * 460 + " https://me:{TOKEN}@h/a")
    except ValueError:
        pass
for uri in uris:
    os.environ["MLFLOW_TRACKING_URI"] = uri
    registry.main(["history", "nothing"])
    os.environ["MLFLOW_TRACKING_URI"] = uri
    try:
        lineage("out", "md5")
    except AcclimateError as error:
        print(error)
"""
    (project / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    environment = {**os.environ, "XDG_STATE_HOME": str(state)}
    command = [sys.executable, "-c", code, f"https://me:{TOKEN}@h"]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False, timeout=280)
    server.terminate()
    server.wait()
    server.stdout.close()
    yield project, outside, state, done
    subprocess.run(["rm", "-rf", str(project)], check=True)


def test_the_password_of_a_store_is_written_nowhere(recorded):
    project, outside, _state, done = recorded
    assert done.returncode == 0, done.stderr
    holding = [path for root in recorded[:3] for path in root.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]
    assert holding == []
    assert TOKEN not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("MLflow at http://127.0.0.1:9: cannot be reached") == 2  # the stage's warning, and that of `history`
    assert set((outside / "asked").read_text().splitlines()) == {"user True"}
    assert len(list((project / ".acclimate" / "spool").glob("s9-*.jsonl"))) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_another_user_reads_no_database_artifact_spool_or_session(recorded):
    project = recorded[0]
    files = [path for path in project.rglob("*") if path.is_file() and path.name not in ("params.yaml", "made.txt")]
    places = {path.relative_to(project).parts[0] for path in files}
    assert places == {"mlflow.db", "mlflow.db.lock", "mlruns", ".acclimate"}
    readable = []
    os.seteuid(65534)
    try:
        for path in files:
            with contextlib.suppress(PermissionError), path.open("rb"):
                readable.append(path)
    finally:
        os.seteuid(0)
    assert readable == []
