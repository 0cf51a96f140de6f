"""Sends one stage's spool to MLflow while the stage runs: `python -m acclimate.adapters.tracking_worker SPOOL`.

The stage holds this process's standard input open. When it closes, the stage has ended; without a `finish`
event in the spool it was killed, and its run is closed as KILLED. So no run is left active.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import select
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acclimate import artifacts
from acclimate.adapters import tracking
from acclimate.runtime import configure_logging, prepare_environment

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

SEND_EVERY_S = 2.0
MAX_PARAM_CHARS = 500
_BATCH_METRICS, _BATCH_OTHERS = 1000, 100  # MLflow's limits for one log_batch
_MAX_DIGEST_CHARS = 36
_PERMANENT_ERRORS = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "MALFORMED_REQUEST", "INVALID_STATE")

logger = logging.getLogger(__name__)


class DeliveryError(Exception):
    """MLflow could not take something; `permanent` when it never will."""

    def __init__(self, message: str, *, permanent: bool) -> None:
        super().__init__(message)
        self.permanent = permanent


class Delivery:
    """One spool on its way to one store. How far it came is kept beside the spool, so that another process can go on."""

    def __init__(self, spool: Path, *, uri: str, experiment: str) -> None:
        self.spool = spool
        self.uri = uri
        self.experiment = experiment
        self.run_id = ""  # until connected
        self.finish: dict[str, Any] | None = None
        self._progress_path = spool.with_suffix(".sent.json")
        self._offset = 0
        self._last_step = 0
        self.start = read_start(spool)

    def connect(self) -> str:
        """Create the parent and the child run, or find those of an earlier attempt. Returns the child's id."""
        with _mlflow_errors(), _locked(tracking.state_directory() / "tracking.lock"):
            self._client = tracking.connect(self.uri)
            experiment_id = _experiment_id(self._client, self.uri, self.experiment)
            run_id = self._earlier_run()
            if run_id is None:
                run_id = self._create_run(experiment_id)
            else:
                self._client.update_run(run_id, status="RUNNING")
            self._set_parent_status("RUNNING", self.start["time_ms"])
        self.run_id = run_id
        return run_id

    def send(self) -> None:
        """Send the events that were written since the last call."""
        with self.spool.open("rb") as file:
            file.seek(self._offset)
            block = file.read()
        whole = block[: block.rfind(b"\n") + 1]  # the last line of a killed stage may be torn
        if not whole:
            return
        events = [json.loads(line) for line in whole.splitlines()]
        with _mlflow_errors():
            self._send_metrics([event for event in events if event["event"] == "metrics"])
            for event in events:
                self._send_event(event)
        self._offset += len(whole)
        self._write_progress()

    def end(self) -> None:
        """Close the run with the status that the stage wrote; KILLED when it wrote none."""
        finish = self.finish or {"status": "KILLED", "message": "the process was killed", "time_ms": int(self.spool.stat().st_mtime * 1000)}
        with _mlflow_errors():
            if finish["message"]:
                self._client.set_tag(self.run_id, "ended", finish["message"])
            self._client.set_terminated(self.run_id, finish["status"], end_time=max(finish["time_ms"], self.start["time_ms"]))
            with _locked(tracking.state_directory() / "tracking.lock"):
                self._set_parent_status(finish["status"], finish["time_ms"])
        for path in (self._progress_path, self.spool.with_suffix(".log"), self.spool):
            path.unlink(missing_ok=True)

    def _earlier_run(self) -> str | None:
        """The run of an earlier attempt, when this store knows it."""
        from mlflow.exceptions import MlflowException

        if not self._progress_path.exists():
            return None
        progress = artifacts.read_json(self._progress_path)
        try:
            self._client.get_run(progress["run_id"])
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None
        self._offset, self._last_step, self._parent_id = progress["offset"], progress["last_step"], progress["parent_id"]
        return str(progress["run_id"])

    def _write_progress(self) -> None:
        progress = {"run_id": self.run_id, "parent_id": self._parent_id, "offset": self._offset, "last_step": self._last_step}
        artifacts.write_json(self._progress_path, progress)

    def _create_run(self, experiment_id: str) -> str:
        start = self.start
        self._parent_id = self._find_parent() or self._create_parent(experiment_id)
        tags = {
            **_source_tags(start),
            "mlflow.parentRunId": self._parent_id,
            "stage": start["stage"],
            **{tracking.IN_TAG + path: md5 for path, md5 in start["inputs"].items()},
        }
        run = self._client.create_run(experiment_id, start_time=start["time_ms"], run_name=start["stage"], tags=tags)
        self.run_id = str(run.info.run_id)
        self._write_progress()
        return self.run_id

    def _session_path(self) -> Path:
        return tracking.session_path(self.start["session"], self.uri, self.experiment)

    def _find_parent(self) -> str | None:
        """The session's parent run, unless somebody deleted it."""
        from mlflow.exceptions import MlflowException

        path = self._session_path()
        if not path.exists():
            return None
        parent_id = str(artifacts.read_json(path)["parent_id"])
        try:
            return parent_id if self._client.get_run(parent_id).info.lifecycle_stage == "active" else None
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None

    def _create_parent(self, experiment_id: str) -> str:
        start = self.start
        name = f"pipeline-{_utc(start['time_ms'])}-{(start['git_commit'] or 'no-commit')[:7]}"
        tags = {**_source_tags(start), "mlflow.source.name": "dvc.yaml", "command": "dvc repro", "session": start["session"]}
        parent = self._client.create_run(experiment_id, start_time=start["time_ms"], run_name=name, tags=tags)
        artifacts.write_json(self._session_path(), {"parent_id": parent.info.run_id})
        if Path("params.yaml").exists():
            self._client.log_artifact(parent.info.run_id, "params.yaml")
        return str(parent.info.run_id)

    def _set_parent_status(self, status: str, time_ms: int) -> None:
        """The parent runs while a stage runs; it failed when the last attempt of any stage did."""
        path = self._session_path()
        session = {"parent_id": self._parent_id, "stages": {}, "latest_ms": 0, **(artifacts.read_json(path) if path.exists() else {})}
        session["stages"][self.start["stage"]] = status
        session["latest_ms"] = max(session["latest_ms"], time_ms)
        artifacts.write_json(path, session)
        present = set(session["stages"].values())
        if "RUNNING" in present:
            self._client.update_run(self._parent_id, status="RUNNING")
        else:
            worst = next((each for each in ("FAILED", "KILLED") if each in present), "FINISHED")
            self._client.set_terminated(self._parent_id, worst, end_time=session["latest_ms"])

    def _send_event(self, event: dict[str, Any]) -> None:
        kind = event["event"]
        if kind == "start":
            self._send_params(event["params"])
            self._send_inputs(event["inputs"])
        elif kind == "artifact":
            self._send_artifact(event)
        elif kind == "outputs":
            self._send_tags({tracking.OUT_TAG + path: md5 for path, md5 in event["md5"].items()})
        elif kind == "finish":
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

    def _send_metrics(self, events: list[dict[str, Any]]) -> None:
        from mlflow.entities import Metric

        entities = []
        for event in events:
            self._last_step = step = self._last_step if event["step"] is None else event["step"]
            entities += [Metric(_allowed(name), value, event["time_ms"], step) for name, value in event["values"].items()]
        for first in range(0, len(entities), _BATCH_METRICS):
            self._client.log_batch(self.run_id, metrics=entities[first : first + _BATCH_METRICS])

    def _send_artifact(self, event: dict[str, Any]) -> None:
        """Copy a file, unless another run has written it anew since."""
        path = Path(event["path"])
        if not path.exists() or (path.stat().st_size, path.stat().st_mtime_ns) != (event["bytes"], event["mtime_ns"]):
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


def read_start(spool: Path) -> dict[str, Any]:
    """The first event of a spool.

    Raises:
        DeliveryError: the stage was killed before it had written it whole.
    """
    with spool.open(encoding="utf-8") as file:
        line = file.readline()
    if not line.endswith("\n"):
        raise DeliveryError(f"{spool}: no whole event in it", permanent=True)
    start: dict[str, Any] = json.loads(line)
    return start


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


def _source_tags(start: dict[str, Any]) -> dict[str, str]:
    tags = {
        "mlflow.user": start["user"],
        "mlflow.source.name": start["source"],
        "mlflow.source.type": "LOCAL",
        "command": start["command"],
        "git.dirty": str(start["git_dirty"]).lower(),
    }
    return {**tags, "mlflow.source.git.commit": start["git_commit"]} if start["git_commit"] else tags


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
        raise DeliveryError(tracking.first_line(error), permanent=error.error_code in _PERMANENT_ERRORS) from error
    except (RequestException, SQLAlchemyError, OSError) as error:
        raise DeliveryError(" ".join(f"{type(error).__name__}: {error}".split())[:300], permanent=False) from error


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def deliver_left_over(own: Path, *, uri: str, experiment: str) -> int:
    """Send the spools that nobody holds any more: of stages whose server was away. Returns how many went out."""
    sent = 0
    for spool in sorted(own.parent.glob("*.jsonl")):
        if spool == own:
            continue
        with spool.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            sent += _deliver_one(spool, uri=uri, experiment=experiment)
    return sent


def _deliver_one(spool: Path, *, uri: str, experiment: str) -> bool:
    if not spool.exists():  # another worker sent it between the listing and the lock
        return False
    try:
        delivery = Delivery(spool, uri=uri, experiment=experiment)
        delivery.connect()
        delivery.send()
        delivery.end()
    except DeliveryError as error:
        logger.warning("%s: %s", spool, error)
        if error.permanent:
            spool.rename(spool.with_suffix(".rejected"))
        return False
    return True


class Follower:
    """Follows the spool of a stage that lives."""

    def __init__(self, spool: Path, answer: int) -> None:
        start = read_start(spool)
        self._delivery = Delivery(spool, uri=start["uri"], experiment=start["experiment"])
        self._answer = answer
        self._monitor: SystemMetricsMonitor | None = None

    def step(self) -> None:
        """Connect when that has not worked yet, and send what is new; a failure is told to the stage."""
        try:
            if not self._delivery.run_id:
                self._say(run_id=self._delivery.connect())
                self._start_monitor()
                os.nice(5)  # from here on the stage's own work goes first
                self._delivery.send()
                deliver_left_over(self._delivery.spool, uri=self._delivery.uri, experiment=self._delivery.experiment)
            self._delivery.send()
        except DeliveryError as error:
            self._say(problem=str(error))

    def close(self) -> None:
        """Send the rest and close the run; on failure the spool stays."""
        if self._monitor is not None:
            self._monitor.finish()  # type: ignore[no-untyped-call]
        self.step()
        if not self._delivery.run_id:
            return
        try:
            self._delivery.end()
        except DeliveryError as error:
            self._say(problem=str(error))

    def _start_monitor(self) -> None:
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        interval_s = self._delivery.start["system_metrics_every_s"]
        self._monitor = SystemMetricsMonitor(  # type: ignore[no-untyped-call]
            self._delivery.run_id, sampling_interval=interval_s, tracking_uri=self._delivery.uri
        )
        self._monitor.start()  # type: ignore[no-untyped-call]

    def _say(self, **message: str) -> None:
        """One line of JSON to the stage, which may be gone."""
        logger.info("%s", message)
        with suppress(BrokenPipeError):
            os.write(self._answer, (json.dumps(message) + "\n").encode())


def stage_lives(timeout_s: float) -> bool:
    """Wait a while; False as soon as the stage's end of the pipe is closed."""
    ready, _, _ = select.select([sys.stdin], [], [], timeout_s)
    return not ready or bool(os.read(sys.stdin.fileno(), 4096))


def main(spool: Path) -> None:
    """Follow a spool to its end."""
    # What libraries print must not get among the answers to the stage.
    answer = os.dup(1)
    os.dup2(2, 1)
    prepare_environment()
    configure_logging()
    with spool.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        follower = Follower(spool, answer)
        follower.step()
        while stage_lives(SEND_EVERY_S):
            follower.step()
        follower.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
