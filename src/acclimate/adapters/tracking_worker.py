"""Sends the spools of a pipeline run's stages to MLflow: `python -m acclimate.adapters.tracking_worker LISTENER SOCKET [PID]`.

Each stage connects to the socket and keeps its connection open while it lives. When that closes, the stage has ended; without
a `finish` event in the spool it was killed, and its run is closed as KILLED. So no run is left active. This process leaves when
no stage is connected and the run's own process (PID) has ended.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import select
import socket
import stat
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from acclimate import artifacts, lifeline
from acclimate.adapters import tracking
from acclimate.errors import AcclimateError
from acclimate.runtime import configure_logging, prepare_environment

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

SEND_EVERY_S = 2.0
MAX_PARAM_CHARS = 500
MAX_EVENT_BYTES = 1 << 24
_EVENTS_AT_ONCE = 1000
_BATCH_METRICS, _BATCH_OTHERS = 1000, 100  # MLflow's limits for one log_batch
_MAX_DIGEST_CHARS = 36
_PERMANENT_ERRORS = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "MALFORMED_REQUEST", "INVALID_STATE")

logger = logging.getLogger(__name__)


class DeliveryError(Exception):
    """MLflow could not take something; `permanent` when it never will."""

    def __init__(self, message: str, *, permanent: bool) -> None:
        super().__init__(message)
        self.permanent = permanent


Whole = Annotated[int, Field(ge=0, lt=1 << 53)]


class Event(BaseModel):
    """One line of a spool. Other lines are damage."""

    model_config = ConfigDict(frozen=True)

    time_ms: Whole


class Start(Event):
    """What the stage is; the first line."""

    event: Literal["start"]
    stage: str
    uri: str = Field(description="of the store that this spool belongs to, without secrets")
    experiment: str
    session: Annotated[str, Field(pattern=r"^[\w.-]{1,100}$")]
    project: str = Field(default="", description="the directory that the stage runs in")
    params: dict[str, Any]
    inputs: dict[str, str]
    git_commit: str | None
    git_dirty: bool
    user: str
    source: str
    command: str
    system_metrics_every_s: Annotated[float, Field(gt=0)]


class Metrics(Event):
    """Values at a step, or at the last one."""

    event: Literal["metrics"]
    step: Whole | None
    values: dict[str, float]


class Artifact(Event):
    """A file or a directory, as it was then."""

    event: Literal["artifact"]
    path: str
    bytes: int
    mtime_ns: int


class Outputs(Event):
    """DVC's md5 of each out."""

    event: Literal["outputs"]
    md5: dict[str, str]


class Finish(Event):
    """How the stage ended."""

    event: Literal["finish"]
    status: Literal["FINISHED", "FAILED", "KILLED"]
    message: str


_EVENT: TypeAdapter[Event] = TypeAdapter(Annotated[Start | Metrics | Artifact | Outputs | Finish, Field(discriminator="event")])


class Progress(BaseModel):
    """How much of a spool a store has."""

    run_id: str
    parent_id: str
    offset: Whole
    last_step: Whole


class Session(BaseModel):
    """The parent run of a pipeline run, and how its stages stand."""

    parent_id: str
    stages: dict[str, str] = {}
    latest_ms: Whole = 0


Saved = TypeVar("Saved", bound=BaseModel)


def _read(path: Path, kind: type[Saved]) -> Saved | None:
    """What an earlier worker saved; None where it is missing or damaged."""
    try:
        return kind.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


class Delivery:
    """One spool on its way to one store. How far it came is kept beside the spool, so that another process can go on."""

    def __init__(self, spool: Path, *, uri: str) -> None:
        self.spool = spool
        self.uri = uri
        self.run_id = ""  # until connected
        self.finish: Finish | None = None
        self._progress_path = spool.with_suffix(".sent.json")
        self._offset = 0
        self._last_step = 0
        self.start = read_start(spool)
        self.experiment = self.start.experiment

    def connect(self) -> str:
        """Create the parent and the child run, or find those of an earlier attempt. Returns the child's id."""
        with _mlflow_errors(), tracking.sessions_locked("runs"):
            self._client = tracking.connect(self.uri)
            experiment_id = _experiment_id(self._client, self.uri, self.experiment)
            run_id = self._earlier_run()
            if run_id is None:
                run_id = self._create_run(experiment_id)
            else:
                self._client.update_run(run_id, status="RUNNING")
            self._set_parent_status("RUNNING", self.start.time_ms)
        self.run_id = run_id
        return run_id

    def send(self) -> None:
        """Send the events that were written since the last call."""
        with _mlflow_errors():
            while events := read_events(self.spool, self._offset):
                self._send_metrics([event for event, _ in events if isinstance(event, Metrics)])
                for event, _ in events:
                    self._send_event(event)
                self._offset = events[-1][1]
                self._write_progress()

    def close_damaged(self, problem: str) -> None:
        """Leave no run active whose record cannot be read to its end."""
        with suppress(DeliveryError), _mlflow_errors():
            self._client.set_tag(self.run_id, "ended", f"the record is damaged: {problem}")
            self._client.set_terminated(self.run_id, "KILLED", end_time=int(self.spool.stat().st_mtime * 1000))
            with tracking.sessions_locked("runs"):
                self._set_parent_status("KILLED", int(self.spool.stat().st_mtime * 1000))

    def end(self) -> None:
        """Close the run with the status that the stage wrote; KILLED when it wrote none."""
        with _mlflow_errors():
            finish = self.finish or killed("the process was killed", int(self.spool.stat().st_mtime * 1000))
            if finish.message:
                self._client.set_tag(self.run_id, "ended", finish.message)
            self._client.set_terminated(self.run_id, finish.status, end_time=max(finish.time_ms, self.start.time_ms))
            with tracking.sessions_locked("runs"):
                self._set_parent_status(finish.status, finish.time_ms)
            self.spool.unlink(missing_ok=True)  # first: without its progress it would be sent as another run
            self._progress_path.unlink(missing_ok=True)

    def _earlier_run(self) -> str | None:
        """The run of an earlier attempt, when this store knows it."""
        from mlflow.exceptions import MlflowException

        progress = _read(self._progress_path, Progress)
        if progress is None:
            return None
        try:
            self._client.get_run(progress.run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None
        self._offset, self._last_step, self._parent_id = progress.offset, progress.last_step, progress.parent_id
        return progress.run_id

    def _write_progress(self) -> None:
        progress = Progress(run_id=self.run_id, parent_id=self._parent_id, offset=self._offset, last_step=self._last_step)
        artifacts.write_json(self._progress_path, progress.model_dump())

    def _create_run(self, experiment_id: str) -> str:
        start = self.start
        self._parent_id = self._find_parent() or self._create_parent(experiment_id)
        tags = {
            **_source_tags(start),
            "mlflow.parentRunId": self._parent_id,
            "stage": start.stage,
            **{tracking.IN_TAG + path: md5 for path, md5 in start.inputs.items()},
        }
        run = self._client.create_run(experiment_id, start_time=start.time_ms, run_name=start.stage, tags=tags)
        self.run_id = str(run.info.run_id)
        self._write_progress()
        return self.run_id

    def _session_path(self) -> Path:
        return tracking.session_path(self.start.session, self.uri, self.experiment)

    def _find_parent(self) -> str | None:
        """The session's parent run, unless somebody deleted it."""
        from mlflow.exceptions import MlflowException

        session = _read(self._session_path(), Session)
        if session is None:
            return None
        try:
            return session.parent_id if self._client.get_run(session.parent_id).info.lifecycle_stage == "active" else None
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None

    def _create_parent(self, experiment_id: str) -> str:
        start = self.start
        name = f"pipeline-{_utc(start.time_ms)}-{(start.git_commit or 'no-commit')[:7]}"
        tags = {**_source_tags(start), "mlflow.source.name": "dvc.yaml", "command": "dvc repro", "session": start.session}
        parent = self._client.create_run(experiment_id, start_time=start.time_ms, run_name=name, tags=tags)
        artifacts.write_json(self._session_path(), {"parent_id": parent.info.run_id})
        if start.project and (params := Path(start.project) / "params.yaml").is_file():
            self._client.log_artifact(parent.info.run_id, str(params))
        return str(parent.info.run_id)

    def _set_parent_status(self, status: str, time_ms: int) -> None:
        """The parent runs while a stage runs; it failed when the last attempt of any stage did."""
        path = self._session_path()
        session = _read(path, Session) or Session(parent_id=self._parent_id)
        session.stages[self.start.stage] = status
        session.latest_ms = max(session.latest_ms, time_ms)
        artifacts.write_json(path, session.model_dump())
        present = set(session.stages.values())
        if "RUNNING" in present:
            self._client.update_run(self._parent_id, status="RUNNING")
        else:
            worst = next((each for each in ("FAILED", "KILLED") if each in present), "FINISHED")
            self._client.set_terminated(self._parent_id, worst, end_time=session.latest_ms)

    def _send_event(self, event: Event) -> None:
        if isinstance(event, Start):
            self._send_params(event.params)
            self._send_inputs(event.inputs)
        elif isinstance(event, Artifact):
            self._send_artifact(event)
        elif isinstance(event, Outputs):
            self._send_tags({tracking.OUT_TAG + path: md5 for path, md5 in event.md5.items()})
        elif isinstance(event, Finish):
            self.finish = event

    def _send_params(self, params: dict[str, Any]) -> None:
        from mlflow.entities import Param

        entities = [Param(name, value[:MAX_PARAM_CHARS]) for name, value in flatten(params).items()]
        for first in range(0, len(entities), _BATCH_OTHERS):
            self._client.log_batch(self.run_id, params=entities[first : first + _BATCH_OTHERS])
        self._client.log_dict(self.run_id, params, "params.json")

    def _send_inputs(self, inputs: dict[str, str]) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        sets = [
            DatasetInput(
                Dataset(name=path, digest=md5[:_MAX_DIGEST_CHARS], source_type="local", source=json.dumps({"uri": path})),
                [InputTag("mlflow.data.context", "input")],
            )
            for path, md5 in inputs.items()
        ]
        if sets:
            self._client.log_inputs(self.run_id, sets)

    def _send_metrics(self, events: list[Metrics]) -> None:
        from mlflow.entities import Metric

        entities = []
        for event in events:
            self._last_step = step = self._last_step if event.step is None else event.step
            entities += [Metric(_allowed(name), value, event.time_ms, step) for name, value in event.values.items()]
        for first in range(0, len(entities), _BATCH_METRICS):
            self._client.log_batch(self.run_id, metrics=entities[first : first + _BATCH_METRICS])

    def _send_artifact(self, event: Artifact) -> None:
        """Copy a file, unless another run has written it anew since."""
        path = Path(event.path)
        if not path.exists() or (path.stat().st_size, path.stat().st_mtime_ns) != (event.bytes, event.mtime_ns):
            self._client.set_tag(self.run_id, f"artifact.missing.{_allowed(path.name)}", "was written anew before it could be sent")
        elif path.is_dir():
            self._client.log_artifacts(self.run_id, str(path), path.name)
        else:
            self._client.log_artifact(self.run_id, str(path))

    def _send_tags(self, tags: dict[str, str]) -> None:
        from mlflow.entities import RunTag

        entities = [RunTag(_allowed(name), value) for name, value in tags.items()]
        for first in range(0, len(entities), _BATCH_OTHERS):
            self._client.log_batch(self.run_id, tags=entities[first : first + _BATCH_OTHERS])


def read_events(spool: Path, offset: int) -> list[tuple[Event, int]]:
    """The next whole events, each with the offset of its end; none where the rest is not written yet.

    Raises:
        DeliveryError: a line is no event of ours.
    """
    events: list[tuple[Event, int]] = []
    with spool.open("rb") as file:
        file.seek(offset)
        while len(events) < _EVENTS_AT_ONCE and (line := file.readline(MAX_EVENT_BYTES)).endswith(b"\n"):
            try:
                events.append((_EVENT.validate_json(line), file.tell()))
            except ValidationError as error:
                raise DeliveryError(f"byte {file.tell() - len(line)}: {_problem(error)}", permanent=True) from None
        if len(line) == MAX_EVENT_BYTES:
            raise DeliveryError(f"byte {file.tell() - len(line)}: a line of {MAX_EVENT_BYTES} bytes or more", permanent=True)
    return events  # the last line of a killed stage may be torn


def _problem(error: ValidationError) -> str:
    """The first one, without what stands in the file."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(str(part) for part in first["loc"][:2])
    return "".join(character for character in f"{where}: {first['msg']}".removeprefix(": ") if character.isprintable())[:200]


def read_start(spool: Path) -> Start:
    """The first event of a spool.

    Raises:
        DeliveryError: there is none.
    """
    with spool.open("rb") as file:
        line = file.readline(MAX_EVENT_BYTES)
    if not line.endswith(b"\n"):
        raise DeliveryError("no whole event in it", permanent=True)
    try:
        return Start.model_validate_json(line)
    except ValidationError as error:
        raise DeliveryError(f"first line: {_problem(error)}", permanent=True) from None


def killed(message: str, time_ms: int) -> Finish:
    """The ending of a stage that wrote none."""
    return Finish(event="finish", status="KILLED", message=message, time_ms=time_ms)


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested sections as dotted names; lists as JSON."""
    flat: dict[str, str] = {}
    for name, value in values.items():
        dotted = _allowed(f"{prefix}{name}")
        if isinstance(value, dict) and value:
            flat |= flatten(value, f"{dotted}.")
        else:
            flat[dotted] = value if isinstance(value, str) else json.dumps(value)
    return flat


def _allowed(name: str) -> str:
    """A name with the characters that MLflow refuses replaced, at most as long as it takes."""
    return re.sub(r"[^\w./ :-]", "_", name)[:250]


def _utc(time_ms: int) -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(time_ms / 1000))


def _source_tags(start: Start) -> dict[str, str]:
    tags = {
        "mlflow.user": start.user,
        "mlflow.source.name": start.source,
        "mlflow.source.type": "LOCAL",
        "command": start.command,
        "git.dirty": str(start.git_dirty).lower(),
    }
    return {**tags, "mlflow.source.git.commit": start.git_commit} if start.git_commit else tags


def _experiment_id(client: MlflowClient, uri: str, name: str) -> str:
    """Find or create the experiment; in a local database its artifacts get an absolute place, not one relative to here."""
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    root = tracking.artifact_root(uri)
    return str(client.create_experiment(name, artifact_location=f"{root}/{name}" if root else None))


@contextmanager
def _mlflow_errors() -> Iterator[None]:
    """Tell what may pass next time from what never will."""
    from mlflow.exceptions import MlflowException
    from requests import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except MlflowException as error:
        raise DeliveryError(tracking.first_line(error), permanent=error.error_code in _PERMANENT_ERRORS) from None
    except (RequestException, SQLAlchemyError, AcclimateError) as error:
        raise DeliveryError(tracking.first_line(error), permanent=False) from None
    except (OSError, ImportError) as error:  # a driver of a database that is not installed
        raise DeliveryError(f"{type(error).__name__}: {tracking.first_line(error)}", permanent=False) from None
    except (ValueError, TypeError, ArithmeticError) as error:  # MLflow's client chokes on a value
        raise DeliveryError(f"{type(error).__name__}: {tracking.first_line(error)}", permanent=True) from None


def deliver_left_over(directory: Path, *, uri: str) -> list[str]:
    """Send the spools of this store that nobody holds any more: of stages whose server was away.

    Returns:
        What was damaged and is set aside.
    """
    rejected = []
    for spool in sorted(directory.glob("*.jsonl")):
        try:
            with _unheld(spool) as free:
                if free:
                    _deliver_one(spool, uri)
        except FileNotFoundError:  # another worker sent it since the listing
            continue
        except (DeliveryError, OSError) as error:
            problem = str(error) if isinstance(error, DeliveryError) else f"cannot be read: {error.strerror}"
            logger.warning("%s: %s", spool, problem)
            if not isinstance(error, DeliveryError) or error.permanent:
                rejected.append(f"{spool.name} ({problem})")
                with suppress(OSError):
                    spool.rename(spool.with_suffix(".rejected"))
    return rejected


@contextmanager
def _unheld(spool: Path) -> Iterator[bool]:
    """Lock a spool; False while its stage lives, or another worker sends it."""
    if not stat.S_ISREG(spool.lstat().st_mode):  # opening a pipe would wait for ever
        raise DeliveryError("not a file", permanent=True)
    with spool.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield spool.exists()


def _deliver_one(spool: Path, uri: str) -> None:
    delivery = Delivery(spool, uri=uri)
    if tracking.public_uri(delivery.start.uri) != tracking.public_uri(uri):
        return  # another store's: it waits for a stage that uses that one
    delivery.connect()
    try:
        delivery.send()
    except DeliveryError as error:
        if error.permanent:
            delivery.close_damaged(str(error))
        raise
    delivery.end()


class Follower:
    """Follows the spool of a stage that lives."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.ended = False
        self._heard = b""
        self._problem = ""
        self._delivery: Delivery | None = None
        self._monitor: SystemMetricsMonitor | None = None

    def hear(self) -> None:
        """Take in what the stage says: the name of its spool, then perhaps its last event; `ended` once it closes its end."""
        try:
            block = self.connection.recv(1 << 16)
        except OSError:
            block = b""
        self._heard += block
        self.ended = not block
        if self._delivery is None and b"\n" in self._heard:
            line, _, self._heard = self._heard.partition(b"\n")
            try:
                self._open(tracking.state_directory() / "spool" / Path(json.loads(line)["spool"]).name)
            except (OSError, ValueError, LookupError, TypeError, DeliveryError) as error:
                self.fail(f"the spool cannot be read: {error}")
                self.ended = True

    def _open(self, spool: Path) -> None:
        self._held = spool.open("rb")
        fcntl.flock(self._held, fcntl.LOCK_SH)  # nobody takes it for one left behind
        self._delivery = Delivery(spool, uri=os.environ["MLFLOW_TRACKING_URI"])

    def step(self) -> None:
        """Connect when that has not worked yet, and send what is new; a failure is told to the stage."""
        delivery = self._delivery
        if delivery is None:
            return
        try:
            if not delivery.run_id:
                self._say(run_id=delivery.connect())
                self._start_monitor(delivery)
                if not os.getpriority(os.PRIO_PROCESS, 0):
                    os.nice(5)  # from here on the stages' own work goes first
                delivery.send()
                if rejected := deliver_left_over(delivery.spool.parent, uri=delivery.uri):
                    self._say(rejected=f"{delivery.spool.parent}: damaged records are set aside as .rejected: {', '.join(rejected)}")
            delivery.send()
        except DeliveryError as error:
            self.fail(str(error))

    def fail(self, problem: str) -> None:
        """Tell the stage once. It reads at its end, so a line for each try would fill the socket and hold up the other stages."""
        if problem != self._problem:
            self._problem = problem
            self._say(problem=problem)

    def close(self) -> bool:
        """Send the rest and close the run; on failure the spool stays. Says whether all was sent."""
        if self._monitor is not None:
            self._monitor.finish()  # type: ignore[no-untyped-call]
        self.step()
        with self.connection:
            if self._delivery is None:
                return True
            with self._held:
                sent = bool(self._delivery.run_id) and self._end(self._delivery)
            self._say(closed="all is sent" if sent else "the spool stays")
            return sent

    def _end(self, delivery: Delivery) -> bool:
        if self._heard.endswith(b"\n"):  # the last event of a stage that could not write it to its spool
            delivery.finish = Finish.model_validate_json(self._heard)
        try:
            delivery.end()
        except DeliveryError as error:
            self.fail(str(error))
            return False
        return True

    def _start_monitor(self, delivery: Delivery) -> None:
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        self._monitor = SystemMetricsMonitor(  # type: ignore[no-untyped-call]
            delivery.run_id, sampling_interval=delivery.start.system_metrics_every_s, tracking_uri=delivery.uri
        )
        self._monitor.start()  # type: ignore[no-untyped-call]

    def _say(self, **message: str) -> None:
        """One line of JSON to the stage, which may be gone."""
        logger.info("%s", message)
        with suppress(OSError):
            self.connection.sendall((json.dumps(message) + "\n").encode())


def serve(listener: socket.socket, path: Path, run_ended: threading.Event) -> None:
    """Follow every stage that connects, until the run has ended and none is left."""
    followers: dict[int, Follower] = {}
    all_sent = True
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    while True:
        for descriptor, _ in poll.poll(SEND_EVERY_S * 1000):
            if descriptor == listener.fileno():
                follower = Follower(listener.accept()[0])
                followers[follower.connection.fileno()] = follower
                poll.register(follower.connection, select.POLLIN)
            else:
                followers[descriptor].hear()
        for descriptor, follower in list(followers.items()):
            try:
                if not follower.ended:
                    follower.step()
                    continue
                poll.unregister(descriptor)
                del followers[descriptor]
                all_sent = follower.close() and all_sent
            except Exception as error:  # one stage must not end the records of the others
                logger.exception("%s", type(error).__name__)
                follower.fail(f"{type(error).__name__} in the tracking process; see {path.with_suffix('.log')}")
                all_sent = False
        if not followers and run_ended.is_set():
            with tracking.sessions_locked("sockets"):
                if not _is_waiting(listener):
                    path.unlink(missing_ok=True)
                    if all_sent:
                        path.with_suffix(".log").unlink(missing_ok=True)
                    return


def _is_waiting(listener: socket.socket) -> bool:
    """Whether a stage has connected and nobody has answered yet."""
    return bool(select.select([listener], [], [], 0.0)[0])


def main(descriptor: int, path: Path, run: int | None) -> None:
    """Serve until the run has ended; one that is no process ends with its last stage."""
    prepare_environment()
    configure_logging()
    run_ended = threading.Event()

    def watch() -> None:
        if run is not None:
            lifeline.wait_for_one([run])
        run_ended.set()

    threading.Thread(target=watch, daemon=True).start()
    with socket.socket(fileno=descriptor) as listener:
        serve(listener, path, run_ended)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) if sys.argv[3] else None)
