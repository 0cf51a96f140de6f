"""Every stage on a disk that is full, read-only or another user's: one line, nothing lost, and with room the same bytes.

By default five stages at three points each; ACCLIMATE_WHOLE (`make test-security WHOLE=1`) tries every stage, at up to six.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.security.full_disk import COMMANDS

ROOT = Path(__file__).parents[2]
EVERY_STAGE = "ACCLIMATE_WHOLE" in os.environ
SHARES = {stage: [0, 0.02, 0.2, 0.35, 0.45, 0.7] for stage in COMMANDS} | {"export": [0.05, 0.4], "register": [0.4]}
if not EVERY_STAGE:
    SHARES = {stage: [0.05, 0.3, 0.45] for stage in ("ingest", "backbone", "validate", "tokenize", "finetune-base")}
NO_ROOM = "no space left on device; make room and run the same command again"


@pytest.fixture(scope="module")
def tried() -> dict[str, Any]:
    if os.geteuid() or not shutil.which("unshare"):
        pytest.skip("a file system that fills up is mounted in a namespace of its own, which takes root and unshare (Linux)")
    command = ["unshare", "--mount", "--propagation", "private", sys.executable, "-m", "tests.security.full_disk", json.dumps(SHARES)]
    environment = {name: value for name, value in os.environ.items() if name not in ("DVC_STAGE", "ACCLIMATE_SESSION")}
    environment["PYTHONPATH"] = f"{ROOT / 'src'}:{ROOT}"
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=900)
    if done.returncode and ("unshare failed" in done.stderr or "mount: " in done.stderr):
        pytest.skip(f"this machine allows no mounts: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("stage", SHARES)
def test_a_full_disk_is_one_line_and_what_was_there_stays(stage: str, tried: dict[str, Any]) -> None:
    failed = [found for found in tried["stages"] if found["stage"] == stage and found["status"]]
    assert failed
    for found in failed:
        assert found["status"] == 1, found
        assert len(found["said"]) == 1, found["said"]
        assert found["said"][0].startswith(f"{stage.partition('-')[0]}: "), found
        assert found["said"][0].endswith(NO_ROOM) or stage == "register", found
        assert found["untouched"] and not found["left"], found


@pytest.mark.parametrize("stage", SHARES)
def test_with_room_the_same_command_gives_the_same_bytes(stage: str, tried: dict[str, Any]) -> None:
    for found in tried["stages"]:
        if found["stage"] == stage and found["status"]:
            assert found["same_bytes"], found


def test_every_library_that_writes_for_us_is_understood(tried: dict[str, Any]) -> None:
    assert tried["libraries"] == dict.fromkeys(tried["libraries"], "No space left on device")


def test_a_disk_that_may_not_be_written_is_one_line(tried: dict[str, Any]) -> None:
    (read_only,), (forbidden,) = tried["not writable"]["read-only"], tried["not writable"]["another user"]
    assert read_only.startswith("backbone: ") and "read-only file system; make it writable" in read_only
    assert forbidden == "backbone: params.yaml: cannot be read (Permission denied)"
