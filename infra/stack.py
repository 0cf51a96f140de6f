"""Prefect, MLflow, work pools and workers on this machine, on loopback: `python -m infra.stack up|down|status`.

State lies in .acclimate/stack, for its owner only: the key of both servers, `client.env` for terminals, and for each
service its process and its log. Ports: `--prefect-port`, `--mlflow-port`, or the variables PREFECT_PORT and MLFLOW_PORT.
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
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from acclimate.adapters.tracking import artifact_root
from acclimate.artifacts import read_json, write_json
from acclimate.config import load_config
from acclimate.errors import AcclimateError, EnvironmentUnfitError
from acclimate.runtime import STATE_DIRECTORY, prepare_environment
from infra.gate import ARTIFACTS_VARIABLE, HOST, KEY_VARIABLE, STORE_VARIABLE

ROOT = Path(__file__).parents[1]
HEALTHY_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 30.0
STACK_DIRECTORY = ROOT / STATE_DIRECTORY / "stack"
KEY_USER = "acclimate"
MARK = "ACCLIMATE_STACK"
"""Set in every service's environment and so in all that it starts, however far down: `down` finds processes by it."""


@dataclass(frozen=True)
class Ports:
    """Where the servers listen."""

    prefect: int
    mlflow: int

    @property
    def prefect_api(self) -> str:
        """What clients of Prefect's server use."""
        return f"http://{HOST}:{self.prefect}/api"

    @property
    def mlflow_uri(self) -> str:
        """What clients of MLflow's server use."""
        return f"http://{HOST}:{self.mlflow}"


@dataclass(frozen=True)
class Service:
    """One process of the stack."""

    name: str
    command: list[str]
    environment: dict[str, str]
    healthy: Callable[[], bool]
    address: str
    port: int | None = None


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
        _write_private(path, f"{KEY_USER}:{secrets.token_urlsafe(32)}\n")
    home = Path(os.environ["PREFECT_HOME"])
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o700)
    database = Path(_local_store().removeprefix("sqlite:///"))
    for file in (*STACK_DIRECTORY.iterdir(), *home.glob("*.db*"), *database.parent.glob(f"{database.name}*")):
        if file.is_file():
            file.chmod(0o600)


def client_environment(ports: Ports) -> dict[str, str]:
    """What a client of the two servers needs: their addresses and the key. Empty without a key."""
    path = STACK_DIRECTORY / "key"
    if not path.exists():
        return {}
    user, _, password = (key := path.read_text(encoding="utf-8").strip()).partition(":")
    return {
        "PREFECT_API_URL": ports.prefect_api,
        "PREFECT_API_AUTH_STRING": key,
        "MLFLOW_TRACKING_URI": ports.mlflow_uri,
        "MLFLOW_TRACKING_USERNAME": user,
        "MLFLOW_TRACKING_PASSWORD": password,
    }


def services(ports: Ports) -> list[Service]:
    """What runs, in the order of starting; stopping goes the other way, so workers end before their server."""
    store = _local_store()
    client = client_environment(ports)
    key = client.get("PREFECT_API_AUTH_STRING", "")
    prefect_origin = f"http://{HOST}:{ports.prefect}"
    prefect_server = {
        # The page asks this address; without it, it asks port 4200 wherever it was loaded from.
        "PREFECT_SERVER_UI_API_URL": ports.prefect_api,
        "PREFECT_API_URL": ports.prefect_api,
        "PREFECT_API_AUTH_STRING": key,
        "PREFECT_SERVER_API_AUTH_STRING": key,
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": prefect_origin,
        KEY_VARIABLE: key,
    }
    # No proxy for artifacts: what a run without servers wrote, and what it writes later, is read by both under one address.
    mlflow_server = {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        STORE_VARIABLE: store,
        ARTIFACTS_VARIABLE: artifact_root(store) or "",
        KEY_VARIABLE: key,
    }
    worker = {
        **client,
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "180",  # infra.prefect_objects: a run that misses three is dead
        "ACCLIMATE_ROOT": str(ROOT),
        "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}",
    }
    found = [
        Service(
            "prefect-server",
            _module("infra.gate", "prefect", str(ports.prefect)),
            prefect_server,
            lambda: _answers(f"{ports.prefect_api}/health"),
            prefect_origin,
            ports.prefect,
        ),
        Service(
            "mlflow-server",
            _module("infra.gate", "mlflow", str(ports.mlflow)),
            mlflow_server,
            lambda: _answers(f"{ports.mlflow_uri}/health"),
            ports.mlflow_uri,
            ports.mlflow,
        ),
    ]
    for pool in ["cpu", *(["gpu"] if _nvidia_driver_answers() else [])]:
        command = [*_module("prefect", "worker", "start"), "--pool", pool, "--type", "process", "--name", pool]
        found.append(Service(f"worker-{pool}", command, worker, _worker_check(ports, pool), f"work pool `{pool}`"))
    return found


def up(ports: Ports) -> None:
    """Start what does not run yet, wait until all are healthy, and say where they are.

    Raises:
        EnvironmentUnfitError: a port is taken, or a service does not get healthy.
    """
    make_key()
    _write_private(STACK_DIRECTORY / "client.env", _as_shell(client_environment(ports)))
    wanted = services(ports)
    missing = [service for service in wanted if _process(service.name) is None]
    marked = {process.pid for process in _marked()}
    old = [service.name for service in wanted if (process := _process(service.name)) and process.pid not in marked]
    if old:
        raise EnvironmentUnfitError(f"{', '.join(old)}: started by an older version, which asks for no key; `make stack-down` first")
    if not missing:
        print("stack: already up")
    for service in missing:
        _require_port(service)
    servers = [service for service in missing if service.port is not None]
    workers = [service for service in missing if service.port is None]
    for group in (servers, workers):
        if group is workers and workers:
            _configure_prefect(ports)
        for service in group:
            _start(service)
        for service in group:
            _wait_until_healthy(service)
    _print_addresses(wanted, ports)


def down() -> None:
    """Stop every flow run, then every service, the last one started first."""
    names = [path.stem for path in STACK_DIRECTORY.glob("*.json")]
    _stop_marked(spare={process.pid for name in names if (process := _process(name)) is not None})
    order = ["mlflow-server", "prefect-server"]
    for name in sorted(names, key=lambda each: order.index(each) if each in order else -1):
        process = _process(name)
        if process is not None:
            _stop(name, process)
        (STACK_DIRECTORY / f"{name}.json").unlink(missing_ok=True)
    _stop_marked(spare=set())
    print("stack: down" if names else "stack: was not up")


def status(ports: Ports) -> bool:
    """Say of each service whether it runs and is healthy; True when all are."""
    healthy = []
    for service in services(ports):
        process = _process(service.name)
        healthy.append(process is not None and service.healthy())
        state = "healthy" if healthy[-1] else "does not answer" if process else "down"
        print(f"{service.name:15} {state:16} {f'pid {process.pid}' if process else '':12} {service.address}")
    return all(healthy)


def _local_store() -> str:
    """The database of params.yaml; MLFLOW_TRACKING_URI does not count here, as it may name the very server to start."""
    uri = load_config(ROOT / "params.yaml").tracking.uri
    path = uri.removeprefix("sqlite:///")
    if path == uri:
        raise EnvironmentUnfitError(f"tracking.uri is {uri}; the stack serves a sqlite store, as in sqlite:///mlflow.db")
    return f"sqlite:///{ROOT / path}"


def _write_private(path: Path, text: str) -> None:
    """Write by rename a file that its owner alone may read, whatever the umask."""
    temporary = path.with_name(f".{path.name}.partial")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    temporary.replace(path)


def _as_shell(environment: dict[str, str]) -> str:
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in environment.items())


def _start(service: Service) -> None:
    paths = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    environment = {**os.environ, "PATH": paths, **service.environment, MARK: str(STACK_DIRECTORY)}
    with _log(service.name).open("ab") as log:
        process = subprocess.Popen(
            service.command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    # A process number comes back after a while; with its start time it is this process.
    write_json(STACK_DIRECTORY / f"{service.name}.json", {"pid": process.pid, "created": psutil.Process(process.pid).create_time()})


def _wait_until_healthy(service: Service) -> None:
    print(f"stack: waiting for {service.name}", flush=True)
    deadline = time.monotonic() + HEALTHY_TIMEOUT_S
    while time.monotonic() < deadline:
        if _process(service.name) is None:
            raise EnvironmentUnfitError(f"{service.name} ended at once; the end of {_log(service.name)}:\n{_tail(service.name)}")
        if service.healthy():
            return
        time.sleep(0.5)
    raise EnvironmentUnfitError(
        f"{service.name} is not healthy after {HEALTHY_TIMEOUT_S:.0f} s; the end of {_log(service.name)}:\n{_tail(service.name)}"
    )


def _stop_marked(*, spare: set[int]) -> None:
    """End all that carries our mark, but those: first let each stage save its state and leave, then kill.

    The mark also finds what lost its parent, such as the training of a flow run that was killed with -9.
    """
    asked: set[int] = set()
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while (left := [process for process in _marked() if process.pid not in spare]) and time.monotonic() < deadline:
        pids = {process.pid for process in left}
        for process in left:
            # A parent passes the signal on to its children, and a sender ends by itself once it has sent a stage's record.
            if process.pid not in asked and not _has_parent_in(process, pids) and not _is_sender(process):
                print(f"stack: stopping process {process.pid} of a flow run", flush=True)
                _signal(process, signal.SIGTERM)
                asked.add(process.pid)
        time.sleep(0.2)
    for process in left:
        _signal(process, signal.SIGKILL)
    psutil.wait_procs(left, timeout=5)


def _marked() -> list[psutil.Process]:
    """Every process that carries our mark; of systems without /proc, psutil reads environments on macOS and Windows only."""
    found = []
    for process in psutil.process_iter():
        try:
            ours = process.pid != os.getpid() and process.environ().get(MARK) == str(STACK_DIRECTORY)
            if ours and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):  # another user's, or gone
            continue
    return found


def _has_parent_in(process: psutil.Process, pids: set[int]) -> bool:
    try:
        return process.ppid() in pids
    except psutil.NoSuchProcess:
        return True


def _is_sender(process: psutil.Process) -> bool:
    try:
        return "acclimate.adapters.tracking_worker" in process.cmdline()
    except psutil.NoSuchProcess:
        return True


def _signal(process: psutil.Process, number: int) -> None:
    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)


def _stop(name: str, process: psutil.Process) -> None:
    print(f"stack: stopping {name}", flush=True)
    family = [process, *process.children(recursive=True)]
    process.send_signal(signal.SIGTERM)
    _, alive = psutil.wait_procs(family, timeout=STOP_TIMEOUT_S)
    for each in alive:
        each.kill()
    psutil.wait_procs(alive, timeout=5)


def _process(name: str) -> psutil.Process | None:
    """The running process of a service; None when there is none."""
    path = STACK_DIRECTORY / f"{name}.json"
    if not path.exists():
        return None
    known = read_json(path)
    try:
        process = psutil.Process(known["pid"])
        same = abs(process.create_time() - known["created"]) < 1.0
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None


def _configure_prefect(ports: Ports) -> None:
    """Work pools, the automation and the deployment; in a process of its own, as Prefect reads its address on import."""
    environment = {**os.environ, **client_environment(ports)}
    for command in ([sys.executable, "-m", "infra.prefect_objects"], [*_module("prefect", "--no-prompt", "deploy"), "--all"]):
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise EnvironmentUnfitError(f"{' '.join(command[1:])} failed: {(done.stderr or done.stdout).strip()[-800:]}")


def _require_port(service: Service) -> None:
    if service.port is None:
        return
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, service.port))
        except OSError:
            variable = "PREFECT_PORT" if service.name == "prefect-server" else "MLFLOW_PORT"
            raise EnvironmentUnfitError(
                f"port {service.port} is taken by another program, so {service.name} cannot start; choose another: {variable}=<port>"
            ) from None


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def _worker_check(ports: Ports, pool: str) -> Callable[[], bool]:
    """Whether the server has heard from a worker of the pool."""

    def check() -> bool:
        url = f"{ports.prefect_api}/work_pools/{pool}/workers/filter"
        key = base64.b64encode(client_environment(ports).get("PREFECT_API_AUTH_STRING", "").encode()).decode()
        headers = {"Content-Type": "application/json", "Authorization": f"Basic {key}"}
        request = urllib.request.Request(url, data=b"{}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=5) as response:
                return any(worker["status"] == "ONLINE" for worker in json.load(response))
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    return check


def _nvidia_driver_answers() -> bool:
    return shutil.which("nvidia-smi") is not None and subprocess.run(["nvidia-smi", "-L"], capture_output=True, check=False).returncode == 0


def _module(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", name, *arguments]


def _log(name: str) -> Path:
    return STACK_DIRECTORY / f"{name}.log"


def _tail(name: str, lines: int = 15) -> str:
    return "\n".join(_log(name).read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def _print_addresses(wanted: list[Service], ports: Ports) -> None:
    for service in wanted:
        print(f"  {service.name:15} {service.address}")
    print(f"  deployment      http://{HOST}:{ports.prefect}/deployments (acclimate/default: Run, Custom run)")
    directory = STACK_DIRECTORY.relative_to(ROOT)
    print(f"  logs            {directory}/")
    print("Both servers ask for the key. To see it:")
    print(f"  cat {directory}/key     # Prefect's page takes the whole line; MLflow's takes user and password, around the colon")
    print("To send runs from a terminal there too:")
    print(f"  source {directory}/client.env")


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
