"""Ray runs functions for whoever reaches its ports or its files: only our own process may."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

RUN = """
import json, os, stat, subprocess, sys
from pathlib import Path
from acclimate.data.engines import run_parts

results = run_parts(json.dumps, [3, 2, 1], engine="ray", workers=2)
first = next(results)
import ray
session = Path(ray._private.worker._global_node.get_session_dir_path())
found = [path for path in (session.parent, *session.rglob("*")) if path.is_dir() and path.stat().st_mode & stat.S_IWOTH]
root = session.parent
reachable = [str(path) for path in found if all(p.stat().st_mode & stat.S_IXOTH for p in (root, *root.parents))]
STRANGER = "from ray._raylet import GcsClient; print(GcsClient(address=%r).cluster_id)" % ray.get_runtime_context().gcs_address
for name, token in (("ours", {}), ("another", {"RAY_AUTH_TOKEN": "0" * 64}), ("no", {"RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN": ""})):
    done = subprocess.run([sys.executable, "-c", STRANGER], env={**os.environ, **token}, capture_output=True, text=True)
    assert ("AuthenticationError" in done.stderr) == (done.returncode != 0), done.stderr
    reachable += [f"with {name} token"] if done.returncode == 0 else []
commands = b"".join(path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.parent.exists())
reachable += ["token in a process list"] if os.environ["RAY_AUTH_TOKEN"].encode() in commands else []
print(json.dumps({"results": [first, *results], "reachable": reachable, "left": root.exists()}))
"""


@pytest.fixture
def planted(tmp_path: Path) -> tuple[dict[str, str], socket.socket]:
    """Where Ray looks for the newest cluster of this machine, another user has written an address of theirs."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.2)
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text(f"127.0.0.1:{listener.getsockname()[1]}")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return {**environment, "RAY_TMPDIR": str(tmp_path), "TMPDIR": "/tmp"}, listener


def test_ray_serves_no_stranger_and_joins_no_planted_cluster(planted: tuple[dict[str, str], socket.socket]) -> None:
    environment, listener = planted
    done = subprocess.run([sys.executable, "-c", RUN], env=environment, capture_output=True, text=True, timeout=120)
    with listener, pytest.raises(TimeoutError):
        listener.accept()
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["results"] == ["3", "2", "1"]
    assert found["reachable"] == ["with ours token"]
    assert not found["left"]
