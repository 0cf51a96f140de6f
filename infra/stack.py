"""Prefect, MLflow, work pools and workers on this machine, on loopback: `python -m infra.stack up|down|status`.

State lies in .acclimate/stack: for each service its process and its log. Ports: `--prefect-port`, `--mlflow-port`, or the
variables PREFECT_PORT and MLFLOW_PORT.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from acclimate.adapters.tracking import artifact_root
from acclimate.artifacts import read_json, write_json
from acclimate.config import load_config
from acclimate.errors import AcclimateError, EnvironmentUnfitError
from acclimate.runtime import STATE_DIRECTORY, prepare_environment

ROOT = Path(__file__).parents[1]
HOST = "127.0.0.1"
HEALTHY_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 30.0
STACK_DIRECTORY = ROOT / STATE_DIRECTORY / "stack"


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


def services(ports: Ports) -> list[Service]:
    """What runs, in the order of starting; stopping goes the other way, so workers end before their server."""
    store = _local_store()
    server = {
        # The page asks this address; without it, it asks port 4200 wherever it was loaded from.
        "PREFECT_SERVER_UI_API_URL": ports.prefect_api,
        "PREFECT_API_URL": ports.prefect_api,
    }
    worker = {
        "PREFECT_API_URL": ports.prefect_api,
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "180",  # infra.prefect_objects: a run that misses three is dead
        "MLFLOW_TRACKING_URI": ports.mlflow_uri,
        "ACCLIMATE_ROOT": str(ROOT),
        "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}",
    }
    # No proxy for artifacts: what a run without servers wrote, and what it writes later, is read by both under one address.
    mlflow_command = [
        *_module("mlflow", "server"),
        *("--backend-store-uri", store, "--default-artifact-root", artifact_root(store) or "", "--no-serve-artifacts"),
        *("--host", HOST, "--port", str(ports.mlflow), "--workers", "1"),
    ]
    found = [
        Service(
            "prefect-server",
            [*_module("prefect", "server", "start"), "--host", HOST, "--port", str(ports.prefect)],
            server,
            lambda: _answers(f"{ports.prefect_api}/health"),
            f"http://{HOST}:{ports.prefect}",
            ports.prefect,
        ),
        Service(
            "mlflow-server",
            mlflow_command,
            {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
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
    wanted = services(ports)
    missing = [service for service in wanted if _process(service.name) is None]
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
    """Stop every service, the last one started first."""
    names = [path.stem for path in STACK_DIRECTORY.glob("*.json")]
    order = ["mlflow-server", "prefect-server"]
    for name in sorted(names, key=lambda each: order.index(each) if each in order else -1):
        process = _process(name)
        if process is not None:
            _stop(name, process)
        (STACK_DIRECTORY / f"{name}.json").unlink(missing_ok=True)
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


def _start(service: Service) -> None:
    STACK_DIRECTORY.mkdir(parents=True, exist_ok=True)
    paths = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    environment = {**os.environ, "PATH": paths, **service.environment}
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


def _stop(name: str, process: psutil.Process) -> None:
    print(f"stack: stopping {name}", flush=True)
    # A worker leaves its flow runs alone when it is told to go. They come first: each lets its stage save and leave.
    runs = [child for child in process.children(recursive=True) if "prefect.engine" in " ".join(child.cmdline())]
    for run in runs:
        run.terminate()
    psutil.wait_procs(runs, timeout=STOP_TIMEOUT_S)
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
    environment = {**os.environ, "PREFECT_API_URL": ports.prefect_api, "MLFLOW_TRACKING_URI": ports.mlflow_uri}
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
        request = urllib.request.Request(url, data=b"{}", headers={"Content-Type": "application/json"})
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
    print(f"  logs            {STACK_DIRECTORY.relative_to(ROOT)}/")
    print("To send runs from this terminal there too:")
    print(f"  export PREFECT_API_URL={ports.prefect_api} MLFLOW_TRACKING_URI={ports.mlflow_uri}")


def main(argv: list[str]) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m infra.stack", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("command", choices=["up", "down", "status"])
    parser.add_argument("--prefect-port", type=int, default=int(os.environ.get("PREFECT_PORT", "4200")))
    parser.add_argument("--mlflow-port", type=int, default=int(os.environ.get("MLFLOW_PORT", "5000")))
    arguments = parser.parse_args(argv)
    ports = Ports(arguments.prefect_port, arguments.mlflow_port)
    os.chdir(ROOT)  # the environment's defaults are made for the directory that a process stands in
    prepare_environment()
    try:
        if arguments.command == "up":
            up(ports)
        elif arguments.command == "down":
            down()
        else:
            return 0 if status(ports) else 1
    except AcclimateError as error:
        print(f"stack: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
