"""The stack as `make stack` starts it, in a project of its own: who gets an answer, what a run may bring, what is left behind."""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

ROOT = Path(__file__).parents[2]
HOST = "127.0.0.1"
DVC_YAML = """\
stages:
  first:
    cmd: python stage.py artifacts/first
    deps: [stage.py]
    outs: [artifacts/first]
"""
# Its child is in a session of its own, as training processes can be, and outlives it.
STAGE = """\
import subprocess, sys, time
from pathlib import Path
out, turn = Path(sys.argv[1]), Path("turn")
out.mkdir(parents=True)
child = subprocess.Popen(["sleep", "600"], start_new_session=True)
turn.write_text(str(child.pid))
while turn.exists():
    time.sleep(0.1)
child.kill()
"""
PREFECT_ROUTES = [
    "/docs",
    "/docs/oauth2-redirect",
    "/redoc",
    "/openapi.json",
    "/api/docs",
    "/api/openapi.json",
    "/api/static/prefect-logo.svg",
]
MLFLOW_ROUTES = [
    "/",
    "/version",
    "/static-files/index.html",
    "/get-artifact?run_uuid=0&path=x",
    "/model-versions/get-artifact?name=x&version=1&path=x",
    "/graphql",
    "/api/2.0/mlflow/experiments/search",
    "/ajax-api/2.0/mlflow/runs/search",
    "/api/2.0/mlflow/registered-models/alias",
    "/api/3.0/mlflow/server-info",
    "/ajax-api/3.0/mlflow/assistant/config",
    "/api/2.0/mlflow-artifacts/artifacts/x",
    "/gateway/x/mlflow/invocations",
    "/v1/traces",
    "/ajax-api/3.0/jobs/x",
]
SOCKETS = [
    "/api/events/in",
    "/api/events/out",
    "/api/logs/out",
    "/api/task_runs/subscriptions/scheduled",
    "/api/work_pools/cpu/workers/connect",
]


@dataclass
class Stack:
    """A running stack: where it is, and its key."""

    root: Path
    prefect: int
    mlflow: int
    environment: dict[str, str]
    key: str = ""
    first_run: str = ""
    client: dict[str, str] = field(default_factory=dict)

    def call(self, command: str) -> subprocess.CompletedProcess[str]:
        """`python -m infra.stack up|down|status`."""
        return subprocess.run(
            [sys.executable, "-m", "infra.stack", command], cwd=self.root, env=self.environment, capture_output=True, text=True, check=False
        )

    def api(self, method: str, path: str, body: Any = None, **options: Any) -> tuple[int, Any]:
        """Ask Prefect with the key; again where its database was locked (503), as Prefect's own client does."""
        for _ in range(20):
            status, text = ask(self.prefect, f"/api{path}", method=method, body=body, key=self.key, **options)
            if status != 503:
                break
            time.sleep(0.5)
        return status, json.loads(text) if text else None

    def start_run(self, **content: Any) -> str:
        """Start the deployment; the run's one stage waits until `end_turn`."""
        deployment = self.api("GET", "/deployments/name/acclimate/default")[1]["id"]
        body = {"parameters": {"targets": ["first"], "force": True}, **content}
        status, run = self.api("POST", f"/deployments/{deployment}/create_flow_run", body)
        assert status == 201, run
        return str(run["id"])

    def start_run_with_command(self, command: str) -> str:
        """The same past the deployment's check of what a run brings: straight into the pool."""
        deployment = self.api("GET", "/deployments/name/acclimate/default")[1]
        body = {"flow_id": deployment["flow_id"], "deployment_id": deployment["id"], "work_pool_name": "cpu"}
        content = {"parameters": {"targets": ["first"], "force": True}, "job_variables": {"command": command}}
        status, run = self.api("POST", "/flow_runs/", {**body, **content, "state": {"type": "SCHEDULED"}})
        assert status == 201, run
        return str(run["id"])

    def wait_for_stage(self) -> int:
        """The process number of the child of the running stage."""
        path = self.root / "turn"
        return int(until(lambda: path.exists() and path.read_text(), 120))

    def end_turn(self) -> None:
        """Let the stage end."""
        (self.root / "turn").unlink()

    def state(self, run_id: str) -> str:
        """The state of a flow run."""
        return str(self.api("GET", f"/flow_runs/{run_id}")[1]["state_type"])

    def processes(self) -> list[psutil.Process]:
        """The services' supervisor, and all below it."""
        supervisor = psutil.Process(int((self.root / ".acclimate/stack/supervisord.pid").read_text()))
        return [supervisor, *supervisor.children(recursive=True)]

    def worker(self) -> psutil.Process:
        """The worker that runs."""
        return next(process for process in self.processes() if "worker" in process.cmdline())


def ask(
    port: int, path: str, *, method: str = "GET", body: Any = None, key: str = "", host: str = "", headers: dict[str, str] | None = None
) -> tuple[int, str]:
    """The status and text of one request, sent as a program sends it unless `headers` say otherwise."""
    connection = http.client.HTTPConnection(HOST, port, timeout=20)
    data = b"" if body is None else json.dumps(body).encode()
    sent = {"Host": host or f"{HOST}:{port}", "Content-Type": "application/json", "Content-Length": str(len(data)), **(headers or {})}
    if key:
        sent["Authorization"] = "Basic " + base64.b64encode(key.encode()).decode()
    try:
        connection.request(method, path, data, sent)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace") + (" CORS" if answer.getheader("Access-Control-Allow-Origin") else "")
    finally:
        connection.close()


def until(condition: Callable[[], Any], timeout_s: float) -> Any:
    """What the condition gives once it is true."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not true within {timeout_s} s"
        time.sleep(0.2)
    return value


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def make_project(root: Path) -> dict[str, str]:
    """A checkout with one stage, nothing run yet. Returns the environment of its commands."""
    for name in ("infra", "flows"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("params.yaml", "prefect.yaml"):
        shutil.copyfile(ROOT / name, root / name)
    (root / "src").symlink_to(ROOT / "src")
    (root / "dvc.yaml").write_text(DVC_YAML)
    (root / "stage.py").write_text(STAGE)
    (root / ".gitignore").write_text(".acclimate/\n/artifacts/\n/turn\n/mlflow.db*\n/mlruns/\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_", "ACCLIMATE_"))}
    environment["PYTHONPATH"] = f"{root / 'src'}{os.pathsep}{root}"
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    environment["PREFECT_WORKER_QUERY_SECONDS"] = "1"
    environment["PREFECT_SERVER_EVENTS_PROACTIVE_GRANULARITY"] = "PT1S"
    for command in ("git init -q", "dvc init -q", "git add .", "git -c user.name=t -c user.email=t@example.org commit -q -m start"):
        subprocess.run(command.split(), cwd=root, env=environment, check=True, capture_output=True)
    return environment


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The stack, started twice at once by someone whose files are open to all; a flow run stands in its stage."""
    root = tmp_path_factory.mktemp("project")
    environment = make_project(root)
    stack = Stack(root, free_port(), free_port(), environment)
    environment.update({"PREFECT_PORT": str(stack.prefect), "MLFLOW_PORT": str(stack.mlflow)})
    starts = [
        subprocess.Popen(
            [sys.executable, "-m", "infra.stack", "up"],
            cwd=root,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            umask=0,
        )
        for _ in range(2)
    ]
    said = [start.communicate(timeout=500)[0].decode() for start in starts]
    try:
        assert [start.returncode for start in starts] == [0, 0], said
        directory = root / ".acclimate" / "stack"
        if (directory / "key").exists():  # otherwise every test below says what is open
            stack.key = (directory / "key").read_text().strip()
            assert stack.key not in "".join(said)
            stack.client = dict(line.removeprefix("export ").split("=", 1) for line in (directory / "client.env").read_text().splitlines())
        stack.first_run = stack.start_run_with_command(f"touch {root / 'owned'}")
        yield stack
    finally:
        stack.call("down")


def test_every_listening_port_refuses_without_the_key(stack: Stack) -> None:
    stack.wait_for_stage()
    listening = {
        connection.laddr
        for process in stack.processes()
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert {address.ip for address in listening} == {HOST}
    assert {stack.prefect, stack.mlflow} <= {address.port for address in listening}
    status, schema = stack.api("GET", "/openapi.json")
    assert status == 200
    paths = {
        (re.sub(r"\{.*?\}", str(uuid.UUID(int=0)), f"/api{path}"), verb.upper())
        for path, verbs in schema["paths"].items()
        for verb in verbs
    }
    assert len(paths) > 150
    routes = {
        stack.prefect: paths - {("/api/health", "GET"), ("/api/ready", "GET")} | {(path, "GET") for path in PREFECT_ROUTES},
        stack.mlflow: {(path, verb) for path in MLFLOW_ROUTES for verb in ("GET", "POST")},
    }
    every = {address.port: set().union(*routes.values()) for address in listening if speaks_http(address.port)}
    answered = [
        (port, verb, path, status)
        for port in every
        for path, verb in sorted(routes.get(port, every[port]))
        if (status := ask(port, path, method=verb, body=None if verb == "GET" else {})[0]) < 400
    ]
    assert answered == []
    for path, port in (("/api/flows/filter", stack.prefect), ("/api/2.0/mlflow/experiments/search", stack.mlflow)):
        assert ask(port, path, method="POST", body={})[0] == 401
        assert ask(port, path, method="POST", body={}, key="acclimate:wrong")[0] == 401
        assert ask(port, path, method="POST", body={"limit": 1} if port == stack.prefect else {"max_results": 1}, key=stack.key)[0] == 200
    assert '<div id="root"' in ask(stack.mlflow, "/", key=stack.key)[1]


def speaks_http(port: int) -> bool:
    """False where nothing is answered to a stranger: a worker's control channel closes without a word."""
    with socket.create_connection((HOST, port), timeout=3) as connection:
        connection.sendall(f"GET /api/flows HTTP/1.1\r\nHost: {HOST}:{port}\r\nConnection: close\r\n\r\n".encode())
        with suppress(TimeoutError, ConnectionResetError):
            return bool(connection.recv(1))
    return False


def test_sockets_refuse_without_the_key_and_open_with_it(stack: Stack) -> None:
    for path in SOCKETS:
        assert [greet(stack.prefect, path, token) for token in (None, "", "acclimate:wrong")] == ["closed"] * 3, path
        assert greet(stack.prefect, path, stack.key) == "auth_success"
        assert greet(stack.prefect, path, stack.key, origin="https://evil.example") == "refused"
        assert greet(stack.prefect, path, stack.key, origin=f"http://{HOST}:{stack.mlflow}") == "refused"
        assert greet(stack.mlflow, path, stack.key) == "refused"
        with pytest.raises((InvalidStatus, ConnectionClosed)), connect(f"ws://{HOST}:{stack.prefect}{path}") as older:
            older.recv(timeout=5)


def greet(port: int, path: str, token: str | None, origin: str | None = None) -> str:
    """What a socket says to this token: its answer, `closed`, or `refused` where it does not open at all."""
    try:
        with connect(f"ws://{HOST}:{port}{path}", subprotocols=["prefect"], origin=origin) as connection:  # type: ignore[arg-type,list-item]
            connection.send(json.dumps({"type": "auth", "token": token}))
            return str(json.loads(connection.recv(timeout=5))["type"])
    except InvalidStatus:
        return "refused"
    except ConnectionClosed:
        return "closed"


def test_a_page_of_another_origin_gets_nothing_even_with_the_key(stack: Stack) -> None:
    """A browser sends MLflow's password by itself, so a page that makes it ask must be refused all the same."""
    for port, path in ((stack.prefect, "/api/flows/filter"), (stack.mlflow, "/api/2.0/mlflow/experiments/search")):
        foreign = [
            *(
                {"Origin": origin}
                for origin in ("https://evil.example", "null", f"http://{HOST}:{free_port()}", f"http://localhost:{port}")
            ),
            {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
            {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"},
            {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
        ]
        for headers in foreign:
            for content_type in ("application/json", "text/plain"):
                for method, target in (("POST", path), ("OPTIONS", path), ("GET", "/")):
                    status, text = ask(
                        port, target, method=method, body={}, key=stack.key, headers={**headers, "Content-Type": content_type}
                    )
                    assert (status, "CORS" in text) == (403, False), (port, method, headers, text)
        for host in ("evil.example", f"evil.example:{port}", f"127.0.0.1.evil.example:{port}", f"{HOST}:{port}.evil.example"):
            assert [ask(port, target, host=host, key=stack.key)[0] for target in ("/", "/health", "/api/health")] == [403] * 3
        followed_link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
        assert ask(port, "/", key=stack.key, headers=followed_link)[0] in (200, 307)


def test_the_pages_talk_to_their_own_server_only(stack: Stack) -> None:
    """Prefect's newer page would send a recording of the session to a third party."""
    for url in (f"http://{HOST}:{stack.prefect}/v2/", f"http://{HOST}:{stack.mlflow}/"):
        request = urllib.request.Request(url, headers={"Authorization": "Basic " + base64.b64encode(stack.key.encode()).decode()})
        with urllib.request.urlopen(request, timeout=20) as answer:
            policy = dict(each.split(" ", 1) for each in answer.headers["Content-Security-Policy"].split("; "))
        assert policy["default-src"].split()[0] == policy["frame-ancestors"] == "'self'"
        assert not policy.keys() & {"connect-src", "script-src"} and "http" not in policy["default-src"]


def test_nobody_reads_files_or_moves_the_champion_through_mlflow(stack: Stack) -> None:
    def mlflow(method: str, path: str, body: Any = None, key: str = stack.key) -> tuple[int, str]:
        return ask(stack.mlflow, f"/api/2.0/mlflow{path}", method=method, body=body, key=key)

    name = {"name": "acclimate-section"}
    run = json.loads(mlflow("POST", "/runs/create", {"experiment_id": "0"})[1])["run"]["info"]
    private = Path(run["artifact_uri"].removeprefix("file://")) / "private"
    private.parent.mkdir(parents=True)
    private.write_text("for my eyes only")
    private.chmod(0o600)
    assert mlflow("POST", "/registered-models/create", name)[0] == 200
    assert mlflow("POST", "/model-versions/create", {**name, "source": run["artifact_uri"], "run_id": run["run_id"]})[0] == 200
    wanted = f"/get-artifact?run_uuid={run['run_id']}&path=private"
    assert ask(stack.mlflow, wanted, key=stack.key) == (200, "for my eyes only")
    assert ask(stack.mlflow, wanted)[0] == 401
    assert mlflow("POST", "/registered-models/alias", {**name, "alias": "champion", "version": "1"}, key="")[0] == 401
    assert "champion" not in mlflow("GET", "/registered-models/get?name=acclimate-section")[1]


@pytest.mark.parametrize("variables", [{"command": "id"}, {"env": {"A": "b"}}, {"working_dir": "/"}, {"name": "n"}, {"labels": {"a": "b"}}])
def test_a_run_brings_no_command_of_its_own_even_with_the_key(stack: Stack, variables: dict[str, Any]) -> None:
    deployment = stack.api("GET", "/deployments/name/acclimate/default")[1]["id"]
    status, said = stack.api("POST", f"/deployments/{deployment}/create_flow_run", {"job_variables": variables})
    assert (status, "Additional properties are not allowed" in said["detail"]) == (422, True)


def test_the_key_is_in_no_command_line(stack: Stack) -> None:
    if stack.state(stack.first_run) == "RUNNING":
        stack.wait_for_stage()
    commands = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
    assert [command for command in commands if any(needle.decode() in command for needle in forms_of(stack.key))] == []


def forms_of(key: str) -> list[bytes]:
    """The password as it is, and the key as HTTP sends it."""
    password = key.partition(":")[2]
    assert len(password) > 40
    return [password.encode(), base64.b64encode(key.encode())]


def test_nobody_else_may_read_what_the_stack_writes(stack: Stack) -> None:
    assert stat_of(stack.root / ".acclimate" / "stack") == 0o700
    files = [path for path in (stack.root / ".acclimate").rglob("*") if path.is_file()] + list(stack.root.glob("mlflow.db*"))
    private = [path for path in files if path.parent.name in ("stack", "prefect") or path.name.startswith("mlflow.db")]
    wanted = {"key", "client.env", "prefect.db", "mlflow.db", "worker-cpu.log", "supervisord.conf", "supervisord.log"}
    assert wanted <= {path.name for path in private}
    assert stat_of(stack.root / ".acclimate/stack/socket") & 0o077 == 0
    assert {path.name: oct(stat_of(path)) for path in private if stat_of(path) != 0o600} == {}


def stat_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_the_worker_completes_a_run_with_the_key(stack: Stack) -> None:
    stack.wait_for_stage()
    stack.end_turn()
    until(lambda: stack.state(stack.first_run) not in ("SCHEDULED", "PENDING", "RUNNING"), 120)
    run = stack.api("GET", f"/flow_runs/{stack.first_run}")[1]
    assert (run["state"]["type"], run["state"]["message"]) == ("COMPLETED", "1 of 1 stages ran or were restored")
    assert run["job_variables"].keys() == {"command"}
    assert not (stack.root / "owned").exists()


def test_the_key_is_in_no_log_and_no_database(stack: Stack) -> None:
    files = [path for path in stack.root.rglob("*") if path.is_file() and not path.is_relative_to(stack.root / "src")]
    holders = {path.relative_to(stack.root).as_posix() for path in files if any(form in path.read_bytes() for form in forms_of(stack.key))}
    assert holders == {".acclimate/stack/key", ".acclimate/stack/client.env"}
    for name in ("deployments", "work_pools", "automations", "flow_runs", "logs"):
        status, said = stack.api("POST", f"/{name}/filter", {})
        assert status == 200 and said and not any(form.decode() in json.dumps(said) for form in forms_of(stack.key)), name
    assert not any(form.decode() in json.dumps(stack.api("GET", "/admin/settings")) for form in forms_of(stack.key))


def test_a_terminal_with_the_file_uses_the_store_that_runs_without_servers_use(stack: Stack) -> None:
    code = (
        "import os; from acclimate.adapters.tracking import connect\n"
        "made = connect(os.environ['MLFLOW_TRACKING_URI']).create_registered_model('both').name\n"
        "print(connect('sqlite:///mlflow.db').get_registered_model(made).name)"
    )
    command = ["bash", "-c", f'source .acclimate/stack/client.env && python -W ignore -c "{code}"']
    done = subprocess.run(command, cwd=stack.root, env=stack.environment, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1:] == ["both"], done.stderr


def test_what_an_older_version_made_is_mended(stack: Stack) -> None:
    """Its pool took a command, its deployment had a limit and an environment, its automation waited for a first heartbeat."""
    from prefect.workers.process import ProcessWorker

    deployment = stack.api("GET", "/deployments/name/acclimate/default")[1]["id"]
    old = {"base_job_template": ProcessWorker.get_default_base_job_template(), "concurrency_limit": None}
    assert stack.api("PATCH", "/work_pools/cpu", old)[0] == 204
    variables = {"env": {"MLFLOW_TRACKING_URI": "x"}}
    assert stack.api("PATCH", f"/deployments/{deployment}", {"concurrency_limit": 1, "job_variables": variables})[0] == 204
    stop = [sys.executable, "-m", "supervisor.supervisorctl", "-c", ".acclimate/stack/supervisord.conf", "stop", "worker-cpu"]
    subprocess.run(stop, cwd=stack.root, check=True, capture_output=True)
    assert stack.call("up").returncode == 0
    pool = stack.api("GET", "/work_pools/cpu")[1]
    assert (list(pool["base_job_template"]["variables"]["properties"]), pool["concurrency_limit"]) == (["stream_output"], 1)
    found = stack.api("GET", f"/deployments/{deployment}")[1]
    assert (found["job_variables"], found["global_concurrency_limit"]) == ({}, None)
    assert len(stack.api("POST", "/automations/filter", {})[1]) == 1


def test_a_killed_worker_is_replaced(stack: Stack) -> None:
    worker = stack.worker()
    worker.kill()
    worker.wait(20)
    assert until(lambda: any("worker" in process.cmdline() for process in stack.processes()), 20)


def test_a_run_that_dies_before_its_first_heartbeat_frees_its_slot(stack: Stack) -> None:
    code = (
        "from datetime import timedelta; from prefect.client.orchestration import get_client\n"
        "from infra.prefect_objects import ensure_automation, zombie_automation\n"
        "with get_client(sync_client=True) as client: ensure_automation(client, zombie_automation(timedelta(seconds=10)))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=stack.root, env={**stack.environment, **stack.client}, check=True)
    dead = []
    for state in ("PENDING", "RUNNING"):
        # In a time to come, so that no worker takes it; then as a worker leaves it that was killed at once.
        later = {"type": "SCHEDULED", "state_details": {"scheduled_time": "2099-01-01T00:00:00Z"}}
        dead.append(stack.start_run(state=later))
        assert stack.api("POST", f"/flow_runs/{dead[-1]}/set_state", {"state": {"type": state}, "force": True})[0] == 201
    waiting = stack.start_run()
    assert until(lambda: [stack.state(run) for run in dead] == ["CRASHED"] * 2, 90)
    stack.wait_for_stage()
    assert stack.state(waiting) == "RUNNING"


def test_down_leaves_no_process_of_a_flow_that_was_killed(stack: Stack) -> None:
    if not (stack.root / "turn").exists():
        stack.start_run()
    child = psutil.Process(stack.wait_for_stage())
    engines = [process for process in stack.processes() if "prefect.engine" in process.cmdline()]
    family = [child, *stack.processes()]
    assert engines
    for engine in engines:
        engine.send_signal(signal.SIGKILL)
    psutil.wait_procs(engines, timeout=5)
    assert child.is_running()
    done = stack.call("down")
    assert (done.returncode, done.stderr) == (0, "")
    assert [process for process in family if process.is_running() and process.status() != psutil.STATUS_ZOMBIE] == []


def test_a_flow_without_a_stack_asks_for_a_key_too(stack: Stack) -> None:
    """`make flow` starts Prefect's embedded server; its key is in the process alone."""
    (stack.root / "turn").unlink(missing_ok=True)
    environment = {**stack.environment, "PREFECT_HOME": str(stack.root / ".acclimate" / "alone")}
    command = [sys.executable, "-m", "flows.pipeline", "first", "--force"]
    process = subprocess.Popen(command, cwd=stack.root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        stack.wait_for_stage()
        tree = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        ports = {each.laddr.port for member in tree for each in member.net_connections(kind="inet") if each.status == psutil.CONN_LISTEN}
        assert ports
        answers = {
            ask(port, path, method="POST", body={})[0] for port in ports for path in ("/api/flows/filter", "/api/deployments/filter")
        }
        assert answers == {401}
        assert [greet(port, "/api/events/in", "") for port in ports] == ["closed"] * len(ports)
    finally:
        (stack.root / "turn").unlink(missing_ok=True)
        said = process.communicate(timeout=120)[0].decode()
    assert process.returncode == 0, said
    assert re.search(r"acclimate:\S{30}", said) is None
