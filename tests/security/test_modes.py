"""Who may read what a run leaves: rows that were rejected, records, checkpoints, and DVC's copies of them."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from acclimate.adapters.tracking import private_directory
from acclimate.runtime import prepare_environment
from tests.security.full_disk import ROOT, write_project

as_another_user = pytest.mark.skipif(
    bool(os.geteuid()) or not shutil.which("setpriv"), reason="becomes another user, which takes root and setpriv (Linux)"
)
_FINDS = """
import os
for top, _, files in os.walk("."):
    for path in (os.path.join(top, file) for file in files):
        if os.access(path, os.R_OK):
            print(path)
"""
_INGEST = "python -m stages.ingest --data data --out artifacts/ingest --record records/ingest.json"


@pytest.fixture(scope="module")
def project() -> Iterator[Path]:  # pytest's own directories are closed to others already
    """`dvc repro` of ingest by a user with the usual umask, in a directory that everybody may enter."""
    directory = Path(tempfile.mkdtemp(prefix="acclimate-modes-", dir="/var/tmp"))
    before = os.umask(0o022)
    try:
        directory.chmod(0o755)
        write_project(directory)
        (directory / ".acclimate").mkdir()  # of an earlier version
        (directory / "dvc.yaml").write_text(
            f"stages:\n  ingest:\n    cmd: {_INGEST}\n    deps: [data]\n    outs: [artifacts/ingest, records/ingest.json]\n"
        )
        for command in ("git init -q", "dvc init -q", "dvc config cache.type reflink,hardlink,copy", "dvc repro -q"):
            run(directory, command)
        yield directory
    finally:
        os.umask(before)
        shutil.rmtree(directory)


def run(directory: Path, command: str) -> None:
    bin_ = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{bin_}:{os.environ['PATH']}", "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    environment["MLFLOW_TRACKING_URI"] = "http://127.0.0.1:9"  # nobody answers: records stay in the spool
    done = subprocess.run(command.split(), cwd=directory, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr


def read_by_nobody(directory: Path) -> list[str]:
    """Files below a directory that another user can read."""
    command = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "/usr/bin/env", "python3", "-c", _FINDS]
    found = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=True, env={"PATH": "/usr/bin:/usr/local/bin:/bin"})
    return found.stdout.splitlines()


@as_another_user
def test_another_user_reads_none_of_the_rows_records_and_copies(project: Path) -> None:
    seen = read_by_nobody(project)
    assert "./params.yaml" in seen, "the other user sees nothing at all, so this test shows nothing"
    private = (".acclimate/", ".dvc/cache/", "artifacts/", "records/")
    assert [path for path in seen if path.removeprefix("./").startswith(private)] == []


@as_another_user
def test_rejected_rows_have_mode_0600(project: Path) -> None:
    files = [project / "artifacts/ingest/quarantine.parquet", *(project / ".acclimate").rglob("*.parquet")]
    assert {oct(stat.S_IMODE(file.stat().st_mode)) for file in files} == {"0o600"}


@as_another_user
def test_what_dvc_restores_stays_below_closed_directories(project: Path) -> None:
    shutil.rmtree(project / "artifacts/ingest")
    run(project, "dvc checkout -q artifacts/ingest")
    assert (project / "artifacts/ingest/quarantine.parquet").is_file()
    assert not [path for path in read_by_nobody(project) if path.startswith("./artifacts/")]


@pytest.mark.parametrize(("given", "kept"), [(0o022, 0o077), (0o077, 0o077), (0o002, 0o007), (0o000, 0o007)])
def test_a_umask_that_lets_the_group_write_keeps_the_group(given: int, kept: int) -> None:
    """More than once, as each process of a run narrows what it has inherited."""
    before = os.umask(given)
    try:
        prepare_environment()
        prepare_environment()
        assert os.umask(given) == kept
    finally:
        os.umask(before)


@pytest.mark.parametrize(("given", "kept"), [(0o2770, 0o2770), (0o2777, 0o2770), (0o755, 0o700), (0o777, 0o700)])
def test_a_directory_that_a_group_shares_stays_open_to_the_group(given: int, kept: int, tmp_path: Path) -> None:
    directory = tmp_path / "spool"
    directory.mkdir()
    directory.chmod(given)
    assert stat.S_IMODE(private_directory(directory).stat().st_mode) == kept
