"""`make stack`: Prefect, MLflow, work pools and workers on loopback, started in order, healthy, and stopped in order."""

from __future__ import annotations

import argparse
import contextlib
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
from dataclasses import dataclass
from pathlib import Path

from acclimate.errors import AcclimateError, EnvironmentUnfitError
from acclimate.runtime import STATE_DIRECTORY, prepare_environment

ROOT = Path(__file__).parents[1]
STATE = ROOT / STATE_DIRECTORY / "stack"
HOST = "127.0.0.1"
_HEALTHY_WITHIN_S = 180.0
_STOPPED_WITHIN_S = 30.0
_HEARTBEAT_S, _ZOMBIE_AFTER_S = 180, 540


@dataclass(frozen=True)
class Service:
    """One long-running process of the stack."""

    name: str
    command: list[str]
    health_url: str | None = None


@dataclass(frozen=True)
class Ports:
    """Where the servers listen."""

    prefect: int
    mlflow: int

    @property
    def prefect_api(self) -> str:
        """Address of Prefect's API."""
        return f"http://{HOST}:{self.prefect}/api"

    @property
    def mlflow_uri(self) -> str:
        """Address of the tracking server."""
        return f"http://{HOST}:{self.mlflow}"


def stack_environment(ports: Ports) -> dict[str, str]:
    """What every process of the stack sees, and what a shell must set to talk to it."""
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}",
        "PREFECT_API_URL": ports.prefect_api,
        "PREFECT_SERVER_UI_API_URL": ports.prefect_api,
        "PREFECT_RUNNER_HEARTBEAT_FREQUENCY": str(_HEARTBEAT_S),
        "MLFLOW_TRACKING_URI": ports.mlflow_uri,
        "ACCLIMATE_ROOT": str(ROOT),
    }


def servers(ports: Ports) -> list[Service]:
    """The two servers. MLflow keeps its records and artifacts where a run without servers does."""
    store = ["--backend-store-uri", f"sqlite:///{ROOT / 'mlflow.db'}", "--artifacts-destination", str(ROOT / "mlruns")]
    return [
        Service("prefect-server", ["prefect", "server", "start", "--host", HOST, "--port", str(ports.prefect)], f"{ports.prefect_api}/health"),
        Service("mlflow-server", ["mlflow", "server", "--host", HOST, "--port", str(ports.mlflow), "--workers", "1", *store], f"{ports.mlflow_uri}/health"),
    ]


def workers() -> list[Service]:
    """A worker on `cpu`, and one on `gpu` where an NVIDIA driver answers."""
    pools = ["cpu", *(["gpu"] if _gpu_answers() else [])]
    return [Service(f"worker-{pool}", ["prefect", "worker", "start", "--pool", pool, "--name", f"{socket.gethostname()}-{pool}"]) for pool in pools]


def up(ports: Ports) -> None:
    """Start what is not running, wait until it is healthy, create pools, automation and deployment, and print the addresses.

    Raises:
        EnvironmentUnfitError: a port is taken, or a service does not become healthy in time.
    """
    environment = stack_environment(ports)
    if _running("prefect-server") and _running("mlflow-server") and _running("worker-cpu"):
        print("The stack is already up.")
        _print_addresses(ports)
        return
    STATE.mkdir(parents=True, exist_ok=True)
    started = [service for service in servers(ports) if not _running(service.name)]
    for service, port in zip(servers(ports), (ports.prefect, ports.mlflow), strict=True):
        if service in started:
            _require_free(port)
    for service in started:
        _start(service, environment)
    for service in servers(ports):
        _wait_healthy(service)
        print(f"  {service.name} is healthy")
    _configure(environment)
    for service in workers():
        if not _running(service.name):
            _start(service, environment)
    _wait_for_worker(ports)
    (STATE / "ports.json").write_text(json.dumps({"prefect": ports.prefect, "mlflow": ports.mlflow}), encoding="utf-8")
    _print_addresses(ports)


def down() -> None:
    """Stop workers before servers, so that a worker can still say goodbye."""
    names = [path.stem for path in STATE.glob("*.pid")]
    for name in sorted(names, key=lambda name: not name.startswith("worker")):
        if _running(name):
            _stop(name)
            print(f"  {name} is stopped")
        _pid_file(name).unlink(missing_ok=True)
    print("The stack is down.")


def status() -> int:
    """Print which service runs; 0 when all do."""
    names = ["prefect-server", "mlflow-server", *(service.name for service in workers())]
    for name in names:
        print(f"  {name}: {'up' if _running(name) else 'down'}")
    return 0 if all(_running(name) for name in names) else 1


def _configure(environment: dict[str, str]) -> None:
    """Pools, the automation that fails dead runs, and the deployment of prefect.yaml."""
    for pool in ("cpu", "gpu"):
        _call(["prefect", "work-pool", "create", pool, "--type", "process", "--overwrite"], environment)
        _call(["prefect", "work-pool", "set-concurrency-limit", pool, "1"], environment)
    _call([sys.executable, "-m", "infra.automation", str(_ZOMBIE_AFTER_S)], environment)
    _call(["prefect", "--no-prompt", "deploy", "--all"], environment)


def _call(command: list[str], environment: dict[str, str]) -> None:
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise EnvironmentUnfitError(f"{' '.join(command)}: exited with {done.returncode}: {(done.stderr or done.stdout).strip()[-800:]}")


def _start(service: Service, environment: dict[str, str]) -> None:
    with (STATE / f"{service.name}.log").open("ab") as log:
        process = subprocess.Popen(
            service.command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True
        )
    _pid_file(service.name).write_text(str(process.pid), encoding="utf-8")


def _stop(name: str) -> None:
    """SIGINT to the whole group (what Ctrl-C sends), SIGKILL when it does not go."""
    pid = int(_pid_file(name).read_text(encoding="utf-8"))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, number)
        deadline = time.monotonic() + _STOPPED_WITHIN_S
        while time.monotonic() < deadline:
            if not _running(name):
                return
            time.sleep(0.2)


def _running(name: str) -> bool:
    """Whether the process of a pid file lives and is ours (a pid may have been given to another since)."""
    import psutil

    try:
        process = psutil.Process(int(_pid_file(name).read_text(encoding="utf-8")))
        return process.status() != psutil.STATUS_ZOMBIE and any(part in " ".join(process.cmdline()) for part in ("prefect", "mlflow"))
    except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
        return False


def _pid_file(name: str) -> Path:
    return STATE / f"{name}.pid"


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        if probe.connect_ex((HOST, port)) == 0:
            raise EnvironmentUnfitError(f"port {port} on {HOST} is taken; stop what listens there or give another (--prefect-port, --mlflow-port)")


def _wait_healthy(service: Service) -> None:
    assert service.health_url is not None
    deadline = time.monotonic() + _HEALTHY_WITHIN_S
    while time.monotonic() < deadline:
        if not _running(service.name):
            break
        with contextlib.suppress(urllib.error.URLError, OSError), urllib.request.urlopen(service.health_url, timeout=5) as answer:
            if answer.status == 200:
                return
        time.sleep(0.5)
    raise EnvironmentUnfitError(f"{service.name} is not healthy after {_HEALTHY_WITHIN_S:.0f} s; see {STATE / service.name}.log")


def _wait_for_worker(ports: Ports) -> None:
    """Until the `cpu` pool has seen a heartbeat."""
    deadline = time.monotonic() + _HEALTHY_WITHIN_S
    while time.monotonic() < deadline:
        request = urllib.request.Request(
            f"{ports.prefect_api}/work_pools/cpu/workers/filter", data=b"{}", headers={"Content-Type": "application/json"}, method="POST"
        )
        with contextlib.suppress(urllib.error.URLError, OSError), urllib.request.urlopen(request, timeout=5) as answer:
            if any(worker["status"] == "ONLINE" for worker in json.load(answer)):
                print("  worker-cpu is online")
                return
        time.sleep(0.5)
    raise EnvironmentUnfitError(f"no worker came online after {_HEALTHY_WITHIN_S:.0f} s; see {STATE}/worker-cpu.log")


def _gpu_answers() -> bool:
    return shutil.which("nvidia-smi") is not None and subprocess.run(["nvidia-smi"], capture_output=True).returncode == 0


def _print_addresses(ports: Ports) -> None:
    print(
        f"""
  Prefect  http://{HOST}:{ports.prefect}   deployment pipeline/default, pools cpu and gpu
  MLflow   {ports.mlflow_uri}
  Logs     {STATE.relative_to(ROOT)}/*.log

  To use them from a shell:
    export PREFECT_API_URL={ports.prefect_api} MLFLOW_TRACKING_URI={ports.mlflow_uri}
  To stop: make stack-down"""
    )


def main() -> None:
    """Command line."""
    prepare_environment()
    parser = argparse.ArgumentParser(prog="python -m infra.stack", description=__doc__)
    parser.add_argument("action", choices=["up", "down", "status"])
    parser.add_argument("--prefect-port", type=int, default=int(os.environ.get("PREFECT_PORT", "4200")))
    parser.add_argument("--mlflow-port", type=int, default=int(os.environ.get("MLFLOW_PORT", "5000")))
    arguments = parser.parse_args()
    try:
        if arguments.action == "up":
            up(Ports(arguments.prefect_port, arguments.mlflow_port))
        elif arguments.action == "down":
            down()
        else:
            sys.exit(status())
    except AcclimateError as error:
        print(f"stack: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
