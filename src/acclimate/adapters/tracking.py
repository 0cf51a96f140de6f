"""The record of a stage: written to a spool file at once, sent to MLflow by another process.

Importing MLflow costs seconds, and its server may be away; neither may slow or stop a stage. So the stage
appends events to a spool file, and `tracking_worker` sends them: one process for all stages of a pipeline run.
What could not be sent stays in the spool and goes out with the next stage that reaches the server.
"""

from __future__ import annotations

import fcntl
import getpass
import hashlib
import json
import logging
import os
import re
import select
import socket
import sqlite3
import stat
import subprocess
import sys
import tempfile
import time
import typing
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote, urlsplit

from acclimate import lifeline
from acclimate.errors import EnvironmentUnfitError
from acclimate.redaction import redact
from acclimate.runtime import STATE_DIRECTORY, StoppedError

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from acclimate.adapters.options import TrackingConfig

RUN_ID_TIMEOUT_S = 60.0
CLOSE_TIMEOUT_S = 30.0
CLOSE_TIMEOUT_AWAY_S = 5.0
LOCK_TIMEOUT_S = 60.0
"""How long to wait for a locked database, or for another promotion."""
_SETTINGS = {
    # MLflow's own are 7 retries that double: four minutes until it says that a server is away.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # it prints the URL with its token
}
STATE_VARIABLE = "ACCLIMATE_TRACKING_STATE"
"""Directory of spools and sessions; set where a stage runs in a work tree that goes away."""
SESSION_VARIABLE = "ACCLIMATE_SESSION"
"""Stages with an equal value are children of one pipeline run."""
TRIAL_VARIABLE = "ACCLIMATE_TRIAL"
"""Id of a flow run with other values than params.yaml; its models get no alias."""
IN_TAG, OUT_TAG = "dvc.in.", "dvc.out."
_STOPPED_EXIT_CODES = (75, 128 + 2, 128 + 15)
_USER_INFO = re.compile(r"(?<=://)(?:[^/?#]*@|[^:/@]*:[^@]*@)")
"""As browsers read it, or as SQLAlchemy does, where a password may hold a slash."""
_SQLITE = "sqlite:///"

logger = logging.getLogger(__name__)


class Tracker:
    """Records one stage instance as a child run of the pipeline's run. A `Sink`.

    Args:
        stage: the stage instance, such as `finetune@section-base-0`.
        params: the sections of params.yaml that the stage reads.
        inputs: DVC's md5 of each dep that the stage was given, by path.
    """

    def __init__(self, config: TrackingConfig, *, stage: str, params: dict[str, Any], inputs: dict[str, str]) -> None:
        self.uri = public_uri(configured_uri(config))
        self.git_commit = git("rev-parse", "--verify", "-q", "HEAD")
        self._config = config
        self._stage = stage
        self._params = params
        self._inputs = inputs
        self._spool: int | None = None
        self._worker: socket.socket | None = None
        self._closed = False
        self._unread = b""
        self._run_id: str | None = None
        self._warning: str | None = None
        self._lost: str | None = None

    def __enter__(self) -> Tracker:
        try:
            path = self._open_spool()
            self._worker = _join_worker(resolve_uri(configured_uri(self._config)), self._config.experiment)
            self._worker.sendall(json.dumps({"spool": path.name}).encode() + b"\n")
        except OSError as error:
            self._lose(error)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._finish(*_ending(error))
        self._close()

    def _open_spool(self) -> Path:
        """Start the spool. It gets its name only when it is locked and holds a whole event, so no worker takes it for a damaged one."""
        directory = private_directory(state_directory() / "spool")
        path = directory / f"{self._stage}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{os.getpid()}.jsonl"
        temporary = path.with_suffix(".new")
        self._spool = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            # The lock tells a spool in use from one left behind; the kernel drops it however this process ends.
            fcntl.flock(self._spool, fcntl.LOCK_SH)
            self._append(_line("start", self._start_event()))
            temporary.rename(path)
        except OSError:
            os.close(self._spool)
            self._spool = None
            temporary.unlink(missing_ok=True)
            raise
        return path

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
        if self._worker is None:
            return None
        self._read_worker(0.0)
        while self._run_id is None and self._warning is None:
            left = deadline - time.monotonic()
            if left <= 0:
                self._warn(f"no answer within {RUN_ID_TIMEOUT_S:.0f} s")
            elif not self._read_worker(left):
                break
        return self._run_id

    def _start_event(self) -> dict[str, Any]:
        return {
            "stage": self._stage,
            "uri": public_uri(resolve_uri(configured_uri(self._config))),
            "experiment": self._config.experiment,
            "session": session_id(),
            "project": str(Path.cwd()),
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
        """Append an event; where that fails the stage continues."""
        try:
            self._append(_line(event, content))
        except OSError as error:
            self._lose(error)

    def _finish(self, status: str, message: str) -> None:
        """Say how the stage ended: in the spool, or to the worker where the disk is full."""
        for write in (self._append, self._tell_worker):
            gaps = [f"the record is incomplete: {self._lost}"] if self._lost else []
            try:
                write(_line("finish", {"status": status, "message": "; ".join([*filter(None, [message]), *gaps])}))
                break
            except OSError as error:
                self._lose(error)

    def _tell_worker(self, line: bytes) -> None:
        if self._worker is not None:
            self._worker.sendall(line)

    def _append(self, line: bytes) -> None:
        """Write a line whole or not at all."""
        if self._spool is None:
            return
        end, written = os.fstat(self._spool).st_size, 0
        try:
            while written < len(line):
                written += os.write(self._spool, line[written:])
        except OSError:
            os.ftruncate(self._spool, end)
            raise

    def _lose(self, error: OSError) -> None:
        """Say once that the record has gaps."""
        problem = error.strerror or type(error).__name__
        if self._lost is None:
            logger.warning("%s: %s; the stage continues, its record is incomplete", state_directory() / "spool", problem)
        self._lost = problem

    def _read_worker(self, timeout_s: float) -> bool:
        """Take in what the worker says within the timeout; False once it has said all or has ended."""
        assert self._worker is not None
        ready, _, _ = select.select([self._worker], [], [], timeout_s)
        if not ready:
            return True
        try:
            block = self._worker.recv(1 << 16)
        except OSError:  # it was killed
            return False
        *lines, self._unread = (self._unread + block).split(b"\n")
        for line in lines:
            said = json.loads(line)
            self._run_id = said.get("run_id", self._run_id)
            self._closed = self._closed or "closed" in said
            if "problem" in said:
                self._warn(said["problem"])
            if "rejected" in said:
                logger.warning("%s", said["rejected"])
        return bool(block)

    def _warn(self, problem: str) -> None:
        """Say once that the record is late; the stage goes on."""
        if self._warning is None:
            logger.warning(
                "MLflow at %s: %s; the record is kept in %s and sent by a later stage that uses this store",
                self.uri,
                problem,
                state_directory() / "spool",
            )
        self._warning = problem

    def _close(self) -> None:
        """Let the worker send the rest, for a bounded time; it goes on by itself after that."""
        if self._worker is not None:
            self._close_worker(self._worker)
        if self._spool is not None:
            try:
                os.close(self._spool)
            except OSError as error:  # a network file system says only now that the disk is full
                self._lose(error)

    def _close_worker(self, worker: socket.socket) -> None:
        timeout_s = CLOSE_TIMEOUT_AWAY_S if self._warning is not None and self._run_id is None else CLOSE_TIMEOUT_S
        deadline = time.monotonic() + timeout_s
        with worker:
            with suppress(OSError):  # the worker has ended; reading tells
                worker.shutdown(socket.SHUT_WR)
            while is_there := self._read_worker(max(0.0, deadline - time.monotonic())):
                if time.monotonic() >= deadline:
                    break
        if is_there:
            self._warn(f"still sending after {timeout_s:.0f} s")
        elif not self._closed:
            self._warn("the tracking process ended early")


def _line(event: str, content: Mapping[str, Any]) -> bytes:
    return (json.dumps({"event": event, "time_ms": int(time.time() * 1000), **redacted(content)}) + "\n").encode()


def redacted(value: Any) -> Any:
    """The same value with the secrets of each URL in it hidden."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {redacted(key): redacted(each) for key, each in value.items()}
    return [redacted(each) for each in value] if isinstance(value, list | tuple) else value


def _join_worker(uri: str, experiment: str) -> socket.socket:
    """Connect to the process that sends the records of this pipeline run to this store. The first stage starts it.

    The listening socket is made here and handed over, so a stage never waits for the process to start.
    """
    path = session_path(session_id(), uri, experiment).with_suffix(".sock")
    with sessions_locked("sockets"):  # two stages must not start one each, nor join one that is about to leave
        worker = socket.socket(socket.AF_UNIX)
        try:
            with _short(path) as address:
                try:
                    worker.connect(address)
                except (FileNotFoundError, ConnectionRefusedError):  # none was started, or it was killed
                    path.unlink(missing_ok=True)
                    with socket.socket(socket.AF_UNIX) as listener, _bound(listener, address) as bound:
                        _start_worker(listener, path, uri, lifeline.run_above() if bound == address else None)
                        worker.connect(bound)
        except BaseException:
            worker.close()
            raise
    return worker


@contextmanager
def _bound(listener: socket.socket, address: str) -> Iterator[str]:
    """Listen there. A file system without sockets, such as a Windows drive in WSL: elsewhere, where no other stage looks."""
    with ExitStack() as stack:
        try:
            listener.bind(address)
        except OSError:
            address = f"{stack.enter_context(tempfile.TemporaryDirectory())}/socket"
            listener.bind(address)
        listener.listen()
        yield address


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """A name of at most 100 bytes for a socket, which the system asks for, however deep the project lies."""
    descriptors = Path("/proc/self/fd")
    if not descriptors.exists():
        yield min(str(path), os.path.relpath(path), key=len)
        return
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield str(descriptors / str(directory) / path.name)
    finally:
        os.close(directory)


@contextmanager
def sessions_locked(what: Literal["runs", "sockets"]) -> Iterator[None]:
    """Keep other processes from a session's `runs` in MLflow, or from its worker's `sockets`, while one changes them."""
    with (private_directory(state_directory() / "sessions") / f".{what}.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _start_worker(listener: socket.socket, path: Path, uri: str, run: int | None) -> None:
    """Start the sender in a session of its own, so that Ctrl-C leaves it alive to close the runs.

    It takes the store from its environment: the spools name it without its password. It does not stand in this directory,
    which may be a work tree that goes away before it does.
    """
    arguments = [str(listener.fileno()), str(path.absolute()), str(run or "")]
    with os.fdopen(os.open(path.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "acclimate.adapters.tracking_worker", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[listener.fileno()],
            start_new_session=True,
            cwd=path.parent,
            env={**os.environ, "MLFLOW_TRACKING_URI": uri, STATE_VARIABLE: str(state_directory().absolute())},
        )
    process.returncode = 0  # it outlives this process, of which Popen would warn


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
    return "FAILED", redact(f"{type(error).__name__}: {error}")[:500]  # a secret that is cut is not recognised


def state_directory() -> Path:
    """Where spools and sessions lie."""
    return Path(os.environ.get(STATE_VARIABLE) or STATE_DIRECTORY)


def configured_uri(config: TrackingConfig) -> str:
    """The store of params.yaml, unless MLFLOW_TRACKING_URI names another."""
    return os.environ.get("MLFLOW_TRACKING_URI") or config.uri


def resolve_uri(uri: str) -> str:
    """Make a relative sqlite path absolute, so that the store does not depend on where a process stands."""
    return _SQLITE + str(Path(uri.removeprefix(_SQLITE)).absolute()) if uri.startswith(_SQLITE) else uri


def public_uri(uri: str) -> str:
    """A store's URI without user, password and query values: what files, logs and messages may hold."""
    return redact(_USER_INFO.sub("", uri))


def database_of(uri: str) -> Path | None:
    """The file of a store in a local database; None of a server."""
    resolved = resolve_uri(uri)
    return Path(resolved.removeprefix(_SQLITE).partition("?")[0]) if resolved.startswith(_SQLITE) else None


def artifact_root(uri: str) -> str | None:
    """Where a store in a local database keeps its artifacts: `mlruns` beside the database; None where a server decides."""
    database = database_of(uri)
    return (database.parent / "mlruns").as_uri() if database else None


def private_directory(path: Path) -> Path:
    """Make a directory that only its owner may enter; one that is there already becomes so.

    The setgid bit says that a group shares it (docs/operate.md); then the group keeps its access, as in `runtime.keep_private`.
    """
    path.mkdir(parents=True, exist_ok=True, mode=0o770)
    mode = stat.S_IMODE(path.stat().st_mode)
    others = 0o007 if mode & stat.S_ISGID else 0o077
    if mode & others:
        path.chmod(mode & ~others)
    return path


@contextmanager
def store_lock(uri: str) -> Iterator[None]:
    """Hold the lock that every process on this machine shares for one store. The kernel drops it when its holder ends.

    It lies beside a local database. For a server it lies in the user's own state directory, so two users do not share it.

    Raises:
        EnvironmentUnfitError: another process holds it too long, or it cannot be made.
    """
    path = _lock_path(uri)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise EnvironmentUnfitError(f"{path}: {error.strerror}; it is needed to keep two processes apart") from None
    try:
        deadline = time.monotonic() + LOCK_TIMEOUT_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise EnvironmentUnfitError(f"{path}: held by another process for {LOCK_TIMEOUT_S:.0f} s; try again") from None
                time.sleep(0.05)
        yield
    finally:
        os.close(descriptor)


def _lock_path(uri: str) -> Path:
    database = database_of(uri)
    if database:
        return database.with_name(f"{database.name}.lock")
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    digest = hashlib.sha256(public_uri(uri).rstrip("/").encode()).hexdigest()[:16]
    try:
        return private_directory(state / "acclimate") / f"{digest}.lock"
    except OSError as error:
        raise EnvironmentUnfitError(f"{state}: {error.strerror}; set XDG_STATE_HOME to a directory that you may write") from None


def git(*arguments: str) -> str | None:
    """What git answers, without the final newline; None outside a repository or before the first commit."""
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False, timeout=20)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def connect(uri: str) -> MlflowClient:
    """A client that gives up within half a minute when its server is away.

    Raises:
        EnvironmentUnfitError: a local database stays locked, or is none.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    # MLflow would write MLFLOW_TRACKING_USERNAME, which may be a token, into the tags of a logged model.
    os.environ.setdefault("MLFLOW_RUN_CONTEXT", json.dumps({"mlflow.user": _user()}))
    import mlflow

    # They print tracebacks and retries of an error that is raised all the same.
    for name in ("mlflow.store.db.utils", "urllib3.connectionpool"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    uri = _without_credentials(uri)
    mlflow.set_tracking_uri(uri)  # artifact, registry and system-metric code of MLflow looks here
    database = database_of(uri)
    if database is None:
        return mlflow.MlflowClient(uri)
    lock = _lock_path(uri)
    try:
        _prepare_database(database, lock)
        if not _is_created(database, lock):
            with store_lock(uri):  # MLflow creates a database in steps that two processes must not mix
                if not _is_created(database, lock):
                    _open_database(database, uri)
                    lock.write_text(_creation(database), encoding="utf-8")
    except PermissionError:  # a store that is only read
        logger.debug("%s may not be written", lock)
    return _open_database(database, uri)


def _without_credentials(uri: str) -> str:
    """Hand user and password of a server over to MLflow's variables, so that no URL of a request holds them."""
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https") or not (parts.username and parts.password):
        return uri
    os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(parts.username), unquote(parts.password)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _prepare_database(database: Path, lock: Path) -> None:
    """Close a store to other users when it is first used; whoever opens it to a group later keeps it open."""
    if lock.exists() and database.exists():
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    os.close(os.open(database, os.O_RDWR | os.O_CREAT, 0o600))
    with suppress(PermissionError):  # of another owner
        for file in (database, *database.parent.glob(f"{database.name}-*")):
            file.chmod(0o600)
        private_directory(database.parent / "mlruns")


def _creation(database: Path) -> str:
    """Names the file and the MLflow that created its tables."""
    import mlflow

    return f"{mlflow.__version__} {database.stat().st_ino}"


def _is_created(database: Path, lock: Path) -> bool:
    return lock.exists() and lock.read_text(encoding="utf-8") == _creation(database)


def _open_database(database: Path, uri: str) -> MlflowClient:
    """Wait until nobody locks the database, or is about to create it; MLflow by itself gives up after five seconds."""
    import mlflow
    from sqlalchemy.exc import SQLAlchemyError

    deadline = time.monotonic() + LOCK_TIMEOUT_S
    while True:
        try:
            with closing(sqlite3.connect(database, timeout=LOCK_TIMEOUT_S)) as connection:
                connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            return mlflow.MlflowClient(uri)
        except sqlite3.Error as error:
            raise EnvironmentUnfitError(f"{database}: {first_line(error)}") from None
        except SQLAlchemyError as error:
            if time.monotonic() > deadline or not re.search("locked|already exists|duplicate column", str(error)):
                raise EnvironmentUnfitError(f"{database}: {first_line(error)}") from None
            time.sleep(0.5)


@contextmanager
def store_errors(uri: str) -> Iterator[None]:
    """Turn what MLflow raises into one line for the user."""
    from mlflow.exceptions import MlflowException
    from requests import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, RequestException, SQLAlchemyError) as error:
        raise EnvironmentUnfitError(f"MLflow at {public_uri(uri)}: {first_line(error)}") from None


def first_line(error: Exception) -> str:
    """An error of MLflow in a line without secrets; of a refused connection or a locked database only that."""
    text = " ".join(redact(str(error)).split())
    if "failed with exception" in text or "Max retries" in text:
        return "cannot be reached"
    return "the database is locked by another process" if "database is locked" in text else text[:300]


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
    store = hashlib.sha256(f"{public_uri(uri)} {experiment}".encode()).hexdigest()[:8]
    return private_directory(state_directory() / "sessions") / f"{session}-{store}.json"


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
    from acclimate.adapters.options import TrackingConfig

    config = config or TrackingConfig()
    uri = resolve_uri(configured_uri(config))
    wanted = f"tags.`{OUT_TAG}{Path(out).as_posix()}` = '{md5}' and attributes.status = 'FINISHED'"
    with store_errors(uri):
        client = connect(uri)
        experiment = client.get_experiment_by_name(config.experiment)
        ids = [experiment.experiment_id] if experiment else []
        found = client.search_runs(ids, filter_string=wanted, order_by=["attributes.start_time ASC"], max_results=1) if ids else []
    if not found:
        return None
    run = found[0]
    return Origin(run.info.run_id, run.info.run_name, run.info.status, typing.cast(int, run.info.start_time))
