"""Prefect, MLflow, work pools and workers on this machine, on loopback: `python -m infra.stack up|down|status`.

supervisord starts them, restarts what crashes, keeps their logs and stops them in order. Its settings, its socket and the logs are in
.acclimate/stack with the key of both servers and `client.env` for terminals. Only the owner may enter this directory.
Ports: `--prefect-port`, `--mlflow-port`, or the variables PREFECT_PORT and MLFLOW_PORT.
"""

from __future__ import annotations

import argparse
import base64
import fcntl
import json
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from xmlrpc.client import ServerProxy

import psutil
from supervisor.states import RUNNING_STATES
from supervisor.xmlrpc import SupervisorTransport

from acclimate.adapters.tracking import artifact_root
from acclimate.artifacts import write_text
from acclimate.config import load_config
from acclimate.errors import AcclimateError, EnvironmentUnfitError
from acclimate.runtime import STATE_DIRECTORY, prepare_environment
from infra.gate import ARTIFACTS_VARIABLE, HOST, STORE_VARIABLE

ROOT = Path(__file__).parents[1]
HEALTHY_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 30.0
STACK_DIRECTORY = ROOT / STATE_DIRECTORY / "stack"
KEY_USER = "acclimate"
MARK = "ACCLIMATE_STACK"
"""Set in every service's environment and so in all that it starts, however far down: `down` finds processes by it."""
# Paths are relative to ROOT, and commands name none: supervisor would read `%` and ` #` in them as its own signs.
_SETTINGS = """\
[supervisord]
logfile = .acclimate/stack/supervisord.log
pidfile = .acclimate/stack/supervisord.pid
umask = 077

[unix_http_server]
file = {root}/.acclimate/stack/socket

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface

[supervisorctl]
serverurl = unix://{root}/.acclimate/stack/socket
"""
_PROGRAM = """
[program:{name}]
command = python -m {command}
priority = {priority}
autostart = {autostart}
autorestart = true
startsecs = 10
redirect_stderr = true
stdout_logfile = .acclimate/stack/{name}.log
stdout_logfile_maxbytes = 10MB
stdout_logfile_backups = 3
"""
_WHERE = """\
deployment      {prefect}/deployments (acclimate/default: Run, Custom run)
logs            {directory}/
Both servers ask for the key. To see it:
  cat {directory}/key     # Prefect's page takes the whole line; MLflow's takes user and password, around the colon
To send runs from a terminal there too:
  source {directory}/client.env"""


@dataclass(frozen=True)
class Ports:
    """Where the servers listen."""

    prefect: int
    mlflow: int


@dataclass(frozen=True)
class Service:
    """One process of the stack."""

    name: str
    command: str
    healthy: Callable[[], object]
    address: str


@contextmanager
def locked() -> Iterator[None]:
    """Hold the stack's directory, which only its owner may enter: two starts at once make one key and one stack."""
    STACK_DIRECTORY.mkdir(parents=True, exist_ok=True)
    STACK_DIRECTORY.chmod(0o700)
    descriptor = os.open(STACK_DIRECTORY, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def make_key() -> None:
    """Make the key of both servers at the first start, and take from others the right to read what is there already."""
    path = STACK_DIRECTORY / "key"
    if not path.exists():
        write_text(path, f"{KEY_USER}:{secrets.token_urlsafe(32)}\n")
    home = Path(os.environ["PREFECT_HOME"])
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o700)
    database = Path(_local_store().removeprefix("sqlite:///"))
    for file in (*STACK_DIRECTORY.iterdir(), *home.glob("*.db*"), *database.parent.glob(f"{database.name}*")):
        if file.is_file():
            file.chmod(0o600)


def client_environment(ports: Ports) -> dict[str, str]:
    """What a client of the two servers needs: their addresses and the key, which is empty before the first start."""
    path = STACK_DIRECTORY / "key"
    key = path.read_text(encoding="utf-8").strip() if path.exists() else ""
    user, _, password = key.partition(":")
    return {
        "PREFECT_API_URL": f"http://{HOST}:{ports.prefect}/api",
        "PREFECT_API_AUTH_STRING": key,
        "MLFLOW_TRACKING_URI": f"http://{HOST}:{ports.mlflow}",
        "MLFLOW_TRACKING_USERNAME": user,
        "MLFLOW_TRACKING_PASSWORD": password,
    }


def service_environment(ports: Ports) -> dict[str, str]:
    """What all services inherit from supervisord, the key too: its settings hold none."""
    store = _local_store()
    client = client_environment(ports)
    return {
        **client,
        MARK: str(STACK_DIRECTORY),
        "ACCLIMATE_ROOT": str(ROOT),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}",
        "PREFECT_SERVER_API_AUTH_STRING": client["PREFECT_API_AUTH_STRING"],
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": f"http://{HOST}:{ports.prefect}",
        # The page asks this address; without it, it asks port 4200 wherever it was loaded from.
        "PREFECT_SERVER_UI_API_URL": client["PREFECT_API_URL"],
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "180",  # infra.prefect_objects: a run that misses three is dead
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        # No proxy for artifacts: what a run without servers wrote, and what it writes later, is read by both under one address.
        STORE_VARIABLE: store,
        ARTIFACTS_VARIABLE: artifact_root(store) or "",
    }


def services(ports: Ports) -> list[Service]:
    """What runs, in the order of starting. supervisord stops them in the other order: workers end before their server."""
    client = client_environment(ports)
    prefect, mlflow = client["PREFECT_API_URL"], client["MLFLOW_TRACKING_URI"]
    found = [
        Service("prefect-server", f"infra.gate prefect {ports.prefect}", partial(_answer, f"{prefect}/health"), prefect[: -len("/api")]),
        Service("mlflow-server", f"infra.gate mlflow {ports.mlflow}", partial(_answer, f"{mlflow}/health"), mlflow),
    ]
    for pool in ("cpu", *(["gpu"] if _nvidia_driver_answers() else [])):
        command = f"prefect worker start --pool {pool} --type process --name {pool}"
        found.append(Service(f"worker-{pool}", command, partial(_is_online, pool, client), f"work pool `{pool}`"))
    return found


def settings(wanted: list[Service]) -> str:
    """The settings of supervisord. It starts the servers by itself; workers wait until their pools are there."""
    programs = [
        _PROGRAM.format(name=service.name, command=service.command, priority=priority, autostart=service.name.endswith("-server"))
        for priority, service in enumerate(wanted)
    ]
    short = Path("/proc/self/cwd")  # ROOT, however deep it lies: a socket's path has at most 107 bytes
    return "".join([_SETTINGS.format(root=short if short.exists() else ROOT), *programs])


def up(ports: Ports) -> None:
    """Start what does not run yet, wait until all are healthy, and say where they are.

    Raises:
        EnvironmentUnfitError: a port is taken, or a service does not get healthy.
    """
    make_key()
    wanted = services(ports)
    supervisor = _supervisor() or _start_supervisor(settings(wanted), ports)
    if (STACK_DIRECTORY / "supervisord.conf").read_text(encoding="utf-8") != settings(wanted):
        raise EnvironmentUnfitError("the stack is up with other settings, such as other ports; `make stack-down` first")
    for service in wanted:
        if supervisor.getProcessInfo(service.name)["state"] not in RUNNING_STATES:
            if service.name == "worker-cpu":  # needs pools, automation and deployment
                _run(["infra.prefect_objects"], client_environment(ports))
                _run(["prefect", "--no-prompt", "deploy", "--all"], client_environment(ports))
            supervisor.startProcess(service.name, False)
        _wait_until_healthy(service, supervisor)
    status(ports)
    print(_WHERE.format(prefect=wanted[0].address, directory=STACK_DIRECTORY.relative_to(ROOT)))


def down() -> None:
    """Stop every flow run, then every service, the last one started first."""
    supervisor = _supervisor()
    process = psutil.Process(supervisor.getPID()) if supervisor else None
    family = {each.pid for each in (process, *process.children())} if process else set()
    _end_marked(spare=family)
    if supervisor:
        print("stack: stopping the services", flush=True)
        supervisor.shutdown()
        while family & {each.pid for each in _marked()}:  # supervisord kills what does not stop within 10 s
            time.sleep(0.2)
    _end_marked(spare=set())
    print("stack: down" if supervisor else "stack: was not up")


def status(ports: Ports) -> bool:
    """Say of each service whether it runs and is healthy; True when all are."""
    supervisor = _supervisor()
    pids = {each["name"]: each["pid"] for each in supervisor.getAllProcessInfo()} if supervisor else {}
    healthy = []
    for service in services(ports):
        pid = pids.get(service.name)
        healthy.append(bool(pid and service.healthy()))
        state = "healthy" if healthy[-1] else "does not answer" if pid else "down"
        print(f"{service.name:15} {state:16} {f'pid {pid}' if pid else '':12} {service.address}")
    return all(healthy)


def _local_store() -> str:
    """The database of params.yaml; MLFLOW_TRACKING_URI does not count here, as it may name the very server to start."""
    uri = load_config(ROOT / "params.yaml", components=False).tracking.uri
    path = uri.removeprefix("sqlite:///")
    if path == uri:
        raise EnvironmentUnfitError(f"tracking.uri is {uri}; the stack serves a sqlite store, as in sqlite:///mlflow.db")
    return f"sqlite:///{ROOT / path}"


def _supervisor() -> Any:
    """The calls that supervisord answers on its socket; None where it does not run."""
    transport = SupervisorTransport(None, None, f"unix://{os.path.relpath(STACK_DIRECTORY / 'socket')}")
    supervisor = ServerProxy(f"http://{HOST}", transport=transport).supervisor
    try:
        supervisor.getPID()
    except OSError:
        transport.close()
        return None
    return supervisor


def _start_supervisor(wanted: str, ports: Ports) -> Any:
    """Start supervisord with these settings, and with it the servers."""
    _end_marked(spare=set())  # services whose supervisord was killed
    for variable, port in (("PREFECT_PORT", ports.prefect), ("MLFLOW_PORT", ports.mlflow)):
        _require_port(port, variable)
    exports = (f"export {name}={shlex.quote(value)}\n" for name, value in client_environment(ports).items())
    write_text(STACK_DIRECTORY / "client.env", "".join(exports))
    write_text(STACK_DIRECTORY / "supervisord.conf", wanted)
    _run(["supervisor.supervisord", "--configuration", str(STACK_DIRECTORY / "supervisord.conf")], service_environment(ports))
    return _supervisor()


def _run(command: list[str], environment: dict[str, str]) -> None:
    """Run a module in a process of its own: Prefect, for one, reads its address on import."""
    environment = {**os.environ, **environment}
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise EnvironmentUnfitError(f"{' '.join(command)} failed: {(done.stderr or done.stdout).strip()[-800:]}")


def _wait_until_healthy(service: Service, supervisor: Any) -> None:
    print(f"stack: waiting for {service.name}", flush=True)
    deadline = time.monotonic() + HEALTHY_TIMEOUT_S
    while not service.healthy():
        ended = supervisor.getProcessInfo(service.name)["statename"] not in ("STARTING", "RUNNING")
        if ended or time.monotonic() > deadline:
            how = "ended at once" if ended else f"is not healthy after {HEALTHY_TIMEOUT_S:.0f} s"
            log = STACK_DIRECTORY / f"{service.name}.log"
            tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
            raise EnvironmentUnfitError(f"{service.name} {how}; the end of {log}:\n{tail}")
        time.sleep(0.5)


def _end_marked(*, spare: set[int]) -> None:
    """End all that carries our mark, but those: first let each stage save its state and leave, then kill.

    The mark also finds what lost its parent, such as the training of a flow run that was killed with -9.
    """
    asked: set[int] = set()
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while (left := [process for process in _marked() if process.pid not in spare]) and time.monotonic() < deadline:
        pids = {process.pid for process in left}
        for process in left:
            with suppress(psutil.NoSuchProcess):
                # A parent passes the signal on to its children, and a sender ends by itself once it has sent a stage's record.
                is_sender = "acclimate.adapters.tracking_worker" in process.cmdline()
                if process.pid not in asked and process.ppid() not in pids and not is_sender:
                    print(f"stack: stopping process {process.pid}", flush=True)
                    process.send_signal(signal.SIGTERM)
                    asked.add(process.pid)
        time.sleep(0.2)
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, timeout=5)


def _marked() -> list[psutil.Process]:
    """Every other process that carries our mark; of systems without /proc, psutil reads environments on macOS and Windows only."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):  # another user's, or gone
            if process.environ().get(MARK) == str(STACK_DIRECTORY) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return [process for process in found if process.pid != os.getpid()]


def _require_port(port: int, variable: str) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            raise EnvironmentUnfitError(f"port {port} is taken by another program; choose another: {variable}=<port>") from None


def _answer(url: str, data: bytes | None = None, key: str = "") -> bytes | None:
    """What a server answers; None where it does not."""
    headers = {"Content-Type": "application/json", "Authorization": "Basic " + base64.b64encode(key.encode()).decode()}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=5) as response:
            return bytes(response.read())
    except OSError:  # urllib's errors are some
        return None


def _is_online(pool: str, client: dict[str, str]) -> bool:
    """Whether Prefect's server has heard from a worker of the pool."""
    workers = _answer(f"{client['PREFECT_API_URL']}/work_pools/{pool}/workers/filter", b"{}", client["PREFECT_API_AUTH_STRING"])
    return any(worker["status"] == "ONLINE" for worker in json.loads(workers or b"[]"))


def _nvidia_driver_answers() -> bool:
    return shutil.which("nvidia-smi") is not None and subprocess.run(["nvidia-smi", "-L"], capture_output=True, check=False).returncode == 0


def main(argv: list[str]) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m infra.stack", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("command", choices=["up", "down", "status"])
    parser.add_argument("--prefect-port", type=int, default=int(os.environ.get("PREFECT_PORT", "4200")))
    parser.add_argument("--mlflow-port", type=int, default=int(os.environ.get("MLFLOW_PORT", "5000")))
    arguments = parser.parse_args(argv)
    ports = Ports(arguments.prefect_port, arguments.mlflow_port)
    os.chdir(ROOT)  # the environment's defaults are made for the directory that a process stands in
    os.umask(0o077)  # databases and logs hold what is nobody else's business
    prepare_environment()
    try:
        if arguments.command == "status":
            return 0 if status(ports) else 1
        with locked():
            up(ports) if arguments.command == "up" else down()
    except AcclimateError as error:
        print(f"stack: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
