"""The record of a stage: written to a spool file at once, sent to MLflow by a process of its own.

Importing MLflow costs seconds, and its server may be away; neither may slow or stop a stage. So the stage
appends events to a spool file, and `tracking_worker` sends them. What could not be sent stays in the spool
and goes out with the next stage that reaches the server.
"""

from __future__ import annotations

import fcntl
import getpass
import hashlib
import json
import logging
import os
import select
import subprocess
import sys
import time
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

from acclimate.errors import EnvironmentUnfitError
from acclimate.runtime import STATE_DIRECTORY, StoppedError

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from acclimate.config import TrackingConfig

RUN_ID_TIMEOUT_S = 60.0
CLOSE_TIMEOUT_S = 30.0
CLOSE_TIMEOUT_AWAY_S = 5.0
_HTTP_SETTINGS = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1"}
"""MLflow's own are 7 retries that double: four minutes until a server that is away is said to be away."""
STATE_VARIABLE = "ACCLIMATE_TRACKING_STATE"
"""Directory of spools and sessions; set where a stage runs in a work tree that goes away."""
SESSION_VARIABLE = "ACCLIMATE_SESSION"
"""Stages with an equal value are children of one pipeline run."""
IN_TAG, OUT_TAG = "dvc.in.", "dvc.out."
_STOPPED_EXIT_CODES = (75, 128 + 2, 128 + 15)

logger = logging.getLogger(__name__)


class Tracker:
    """Records one stage instance as a child run of the pipeline's run. A `Sink`.

    Args:
        stage: the stage instance, such as `finetune@section-base-0`.
        params: the sections of params.yaml that the stage reads.
        inputs: DVC's md5 of each dep that the stage was given, by path.
    """

    def __init__(self, config: TrackingConfig, *, stage: str, params: dict[str, Any], inputs: dict[str, str]) -> None:
        self.uri = configured_uri(config)
        self.git_commit = git("rev-parse", "--verify", "-q", "HEAD")
        self._config = config
        self._stage = stage
        self._params = params
        self._inputs = inputs
        self._spool: IO[str] | None = None
        self._worker: subprocess.Popen[bytes] | None = None
        self._unread = b""
        self._run_id: str | None = None
        self._warning: str | None = None

    def __enter__(self) -> Tracker:
        path = state_directory() / "spool" / f"{self._stage}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{os.getpid()}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        self._spool = path.open("a", encoding="utf-8")
        # The lock tells a spool in use from one left behind; the kernel drops it however this process ends.
        fcntl.flock(self._spool, fcntl.LOCK_SH)
        self._write("start", **self._start_event())
        self._worker = _start_worker(path)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        status, message = _ending(error)
        self._write("finish", status=status, message=message)
        self._close()

    def log(self, step: int, metrics: Mapping[str, float], *, timing: Mapping[str, float] | None = None) -> None:
        """Record values at a step; timing under `timing/`."""
        values = {**metrics, **{f"timing/{name}": value for name, value in (timing or {}).items()}}
        self._write("metrics", step=step, values={name: float(value) for name, value in values.items()})

    def log_final(self, metrics: Mapping[str, float]) -> None:
        """Record values of the whole stage, at the last step logged."""
        self._write("metrics", step=None, values={name: float(value) for name, value in metrics.items()})

    def log_artifact(self, path: Path) -> None:
        """Copy a file or a directory, which must exist, to the run."""
        stat = path.stat()
        self._write("artifact", path=str(path.absolute()), bytes=stat.st_size, mtime_ns=stat.st_mtime_ns)

    def set_outputs(self, outputs: Mapping[str, str]) -> None:
        """Record DVC's md5 of each out, by path; `lineage` finds the run by them."""
        self._write("outputs", md5=dict(outputs))

    def run_id(self) -> str | None:
        """Wait for the id of this stage's run; None when MLflow cannot be reached."""
        deadline = time.monotonic() + RUN_ID_TIMEOUT_S
        self._read_worker(0.0)
        while self._run_id is None and self._warning is None and self._worker is not None:
            left = deadline - time.monotonic()
            if left <= 0:
                self._warn(f"no answer within {RUN_ID_TIMEOUT_S:.0f} s")
            elif not self._read_worker(left):
                break
        return self._run_id

    def _start_event(self) -> dict[str, Any]:
        return {
            "stage": self._stage,
            "uri": resolve_uri(self.uri),
            "experiment": self._config.experiment,
            "session": session_id(),
            "params": self._params,
            "inputs": self._inputs,
            "git_commit": self.git_commit,
            "git_dirty": bool(git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!dvc.lock", ":!records")),
            "user": _user(),
            "source": _source(),
            "command": " ".join(["python", *sys.orig_argv[1:]]),
            "system_metrics_every_s": self._config.system_metrics_every_s,
        }

    def _write(self, event: str, **content: Any) -> None:
        assert self._spool is not None, "a Tracker is used as a context manager"
        self._spool.write(json.dumps({"event": event, "time_ms": int(time.time() * 1000), **content}) + "\n")
        self._spool.flush()

    def _read_worker(self, timeout_s: float) -> bool:
        """Take in what the worker says within the timeout; False once it has ended."""
        assert self._worker is not None
        assert self._worker.stdout is not None
        ready, _, _ = select.select([self._worker.stdout], [], [], timeout_s)
        if not ready:
            return True
        block = os.read(self._worker.stdout.fileno(), 1 << 16)
        *lines, self._unread = (self._unread + block).split(b"\n")
        for line in lines:
            said = json.loads(line)
            self._run_id = said.get("run_id", self._run_id)
            if "problem" in said:
                self._warn(said["problem"])
        return bool(block)

    def _warn(self, problem: str) -> None:
        """Say once that the record is late; the stage goes on."""
        if self._warning is None:
            logger.warning(
                "MLflow at %s: %s; the record is kept in %s and sent by a later stage", self.uri, problem, state_directory() / "spool"
            )
        self._warning = problem

    def _close(self) -> None:
        """Let the worker send the rest, for a bounded time; it goes on by itself after that."""
        assert self._spool is not None
        assert self._worker is not None
        assert self._worker.stdin is not None
        assert self._worker.stdout is not None
        try:
            self._worker.stdin.close()
        except BrokenPipeError:  # the worker gave up earlier and has said so
            logger.debug("the tracking worker ended before its stage")
        timeout_s = CLOSE_TIMEOUT_AWAY_S if self._warning is not None and self._run_id is None else CLOSE_TIMEOUT_S
        deadline = time.monotonic() + timeout_s
        while self._read_worker(max(0.0, deadline - time.monotonic())) and time.monotonic() < deadline:
            pass
        try:
            self._worker.wait(timeout=max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._warn(f"still sending after {timeout_s:.0f} s")
        else:
            if self._worker.returncode:
                self._warn(f"the tracking worker ended with exit code {self._worker.returncode}")
        self._worker.stdout.close()
        self._spool.close()


def _start_worker(spool: Path) -> subprocess.Popen[bytes]:
    """Start the sender in a session of its own, so that Ctrl-C leaves it alive to close the run."""
    with spool.with_suffix(".log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "acclimate.adapters.tracking_worker", str(spool.absolute())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )


def _source() -> str:
    """The stage's file, relative to the project where it lies in it."""
    script = Path(sys.argv[0])
    return script.relative_to(Path.cwd()).as_posix() if script.is_relative_to(Path.cwd()) else script.name


def _user() -> str:
    """Who runs the stage; a container may have a user id without a name."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return str(os.getuid())


def _ending(error: BaseException | None) -> tuple[str, str]:
    """MLflow's status for how a stage ended, and why in a line."""
    if error is None or (isinstance(error, SystemExit) and not error.code):
        return "FINISHED", ""
    if isinstance(error, KeyboardInterrupt | StoppedError) or (isinstance(error, SystemExit) and error.code in _STOPPED_EXIT_CODES):
        return "KILLED", "stopped; the next run goes on from the last checkpoint"
    return "FAILED", f"{type(error).__name__}: {error}"[:500]


def state_directory() -> Path:
    """Where spools and sessions lie."""
    return Path(os.environ.get(STATE_VARIABLE) or STATE_DIRECTORY)


def configured_uri(config: TrackingConfig) -> str:
    """The store of params.yaml, unless MLFLOW_TRACKING_URI names another."""
    return os.environ.get("MLFLOW_TRACKING_URI") or config.uri


def resolve_uri(uri: str) -> str:
    """Make a relative sqlite path absolute, so that the store does not depend on where a process stands."""
    prefix = "sqlite:///"
    return prefix + str(Path(uri.removeprefix(prefix)).absolute()) if uri.startswith(prefix) else uri


def artifact_root(uri: str) -> str | None:
    """Where a store in a local database keeps its artifacts: `mlruns` beside the database; None where a server decides."""
    prefix = "sqlite:///"
    resolved = resolve_uri(uri)
    return (Path(resolved.removeprefix(prefix)).parent / "mlruns").as_uri() if resolved.startswith(prefix) else None


def git(*arguments: str) -> str | None:
    """What git answers, without the final newline; None outside a repository or before the first commit."""
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False, timeout=20)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def connect(uri: str) -> MlflowClient:
    """A client that gives up within half a minute when its server is away."""
    for name, value in _HTTP_SETTINGS.items():
        os.environ.setdefault(name, value)
    # MLflow would write MLFLOW_TRACKING_USERNAME, which may be a token, into the tags of a logged model.
    os.environ.setdefault("MLFLOW_RUN_CONTEXT", json.dumps({"mlflow.user": _user()}))
    import mlflow

    mlflow.set_tracking_uri(uri)  # artifact, registry and system-metric code of MLflow looks here
    return mlflow.MlflowClient(uri)


def first_line(error: Exception) -> str:
    """An error of MLflow in a line; of a refused connection only that."""
    text = " ".join(str(error).split())
    return "cannot be reached" if "failed with exception" in text or "Max retries" in text else text[:300]


def session_id() -> str:
    """Name the pipeline run that this process belongs to: given, or the `dvc` above it, or itself."""
    given = os.environ.get(SESSION_VARIABLE)
    if given:
        return "".join(character if character.isalnum() or character in "-_." else "-" for character in given)[:100]
    import psutil

    for process in psutil.Process().parents():
        try:
            if any(Path(word).name == "dvc" for word in process.cmdline()[:3]):
                return f"dvc-{process.pid}-{process.create_time():.0f}"
        except psutil.Error:
            continue
    return f"process-{os.getpid()}-{time.time():.0f}"


def session_path(session: str, uri: str, experiment: str) -> Path:
    """The file that holds a session's parent run; one for each store, as the ids of one mean nothing to another."""
    store = hashlib.sha256(f"{uri} {experiment}".encode()).hexdigest()[:8]
    return state_directory() / "sessions" / f"{session}-{store}.json"


@dataclass(frozen=True)
class Origin:
    """The run that made some bytes."""

    run_id: str
    stage: str
    status: str
    started_at_ms: int


def lineage(out: Path | str, md5: str, *, config: TrackingConfig | None = None) -> Origin | None:
    """Find the run that made an out's bytes, also when DVC restored them from its cache.

    Args:
        out: path as in dvc.yaml.
        md5: of the out, as in dvc.lock.

    Returns:
        The earliest finished run that recorded this md5 for this path; None when there is none.

    Raises:
        EnvironmentUnfitError: MLflow does not answer.
    """
    from mlflow.exceptions import MlflowException

    from acclimate.config import TrackingConfig

    config = config or TrackingConfig()
    uri = resolve_uri(configured_uri(config))
    client = connect(uri)
    wanted = f"tags.`{OUT_TAG}{Path(out).as_posix()}` = '{md5}' and attributes.status = 'FINISHED'"
    try:
        experiment = client.get_experiment_by_name(config.experiment)
        ids = [experiment.experiment_id] if experiment else []
        found = client.search_runs(ids, filter_string=wanted, order_by=["attributes.start_time ASC"], max_results=1) if ids else []
    except MlflowException as error:
        raise EnvironmentUnfitError(f"MLflow at {uri}: {first_line(error)}") from None
    if not found:
        return None
    run = found[0]
    return Origin(run.info.run_id, run.info.run_name, run.info.status, typing.cast(int, run.info.start_time))
