"""Another user plants code in DVC's site directory: DVC alone runs it at `dvc checkout`, DVC as we start it does not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from acclimate.runtime import SITE_VARIABLE
from tests.security.stages import ROOT

pytestmark = pytest.mark.skipif(
    os.getuid() != 0 or not Path("/var/tmp").is_dir(), reason="only root can act as another user, who plants the code"
)
DEFAULT = Path("/var/tmp/dvc/repo")
BIN = Path(sys.executable).parent
PYTHON = (sys.executable, "-c")


class Planted:
    """Leaves a file where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.system, (f"touch {self._mark}",))


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    """A repository, and code that `nobody` has planted for it in /var/tmp/dvc."""
    root, mark = tmp_path / "project", tmp_path / "it-ran"
    root.mkdir()
    shutil.copyfile(ROOT / "params.yaml", root / "params.yaml")
    shutil.copyfile(ROOT / "Makefile", root / "Makefile")
    (root / ".gitignore").write_text(".acclimate/\n")
    (root / "dvc.yaml").write_text("stages: {}\n")
    (root / ".dvc").mkdir()
    (root / ".dvc" / "config").write_text("[core]\n    analytics = false\n")
    (root / ".dvc" / ".gitignore").write_text("/config.local\n/tmp\n/cache\n")
    for command in ("git init -q", "git add .", "git -c user.name=t -c user.email=t@e.org commit -q -m s"):
        run(root, *command.split())
    token = run(root, *PYTHON, "from dvc.repo import Repo; print(Repo('.').site_cache_dir)").strip().rsplit("/", 1)[1]
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        staged = Path(directory)
        plant(staged / "links", mark)
        for path in (staged, *staged.rglob("*")):
            path.chmod(0o755)
        move = f"mkdir -p {DEFAULT} && if [ -e {DEFAULT / token} ]; then mv {DEFAULT / token} {DEFAULT / token}.away; fi"
        as_nobody(f"umask 0; {move} && cp -r {staged} {DEFAULT / token} && chmod -R a+rwX {DEFAULT / token}")
    assert DEFAULT.joinpath(token, "links", "cache.db").stat().st_uid != 0
    yield root
    for left in DEFAULT.glob(f"{token}*"):
        shutil.rmtree(left)


def plant(links: Path, mark: Path) -> None:
    import diskcache

    with diskcache.Cache(str(links)) as cache:
        cache["params.yaml"] = Planted(mark)  # DVC reads the entry of every file that is there and no out


def as_nobody(script: str) -> None:
    subprocess.run(["/bin/sh", "-c", script], user="nobody", group="nogroup", extra_groups=[], cwd="/", check=True)


def run(root: Path, *command: str, **more: str) -> str:
    """Without what this test run itself has set for DVC."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("DVC")}
    given = {**inherited, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", **more}
    done = subprocess.run(command, cwd=root, env=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_no_way_in_which_we_start_dvc_runs_what_another_user_planted(project: Path) -> None:
    mark = project.parent / "it-ran"
    run(project, "dvc", "checkout", "-q")
    assert mark.exists(), "the attack itself"
    mark.unlink()

    run(project, sys.executable, "-m", "flows.dvc_process", "checkout", "-q")
    run(project, *PYTHON, "import flows; from dvc.repo import Repo; Repo('.').checkout()")  # as flows/graph.py starts it
    add = "from pathlib import Path; from uuid import uuid4; from flows import worktree; print(worktree.add(Path.cwd(), uuid4()))"
    kept = Path(run(project, *PYTHON, add).strip())
    run(kept, "dvc", "checkout", "-q")  # by hand, in the work tree of a run that failed
    prepare_by_make(project)
    run(project, "dvc", "checkout", "-q")  # by hand, at the root and below it
    (project / "below").mkdir()
    run(project / "below", "dvc", "checkout", "-q")
    assert not mark.exists()
    assert not (project / "below" / ".acclimate").exists()
    site = project / ".acclimate" / "dvc"
    assert site.stat().st_mode & 0o777 == 0o700
    assert (site / "repo").is_dir()


def prepare_by_make(project: Path) -> None:
    """What each target of the Makefile does first, with an environment that is there already."""
    (project / "infra").mkdir()
    setup = project / "infra" / "setup.sh"
    setup.write_text("#!/bin/sh\n")
    setup.chmod(0o755)
    (project / ".venv").mkdir()
    (project / ".venv" / "bin").symlink_to(BIN)
    run(project, "make", "-s", "setup")
    assert (project / ".dvc" / "config.local").exists()
    run(project, "make", "-s", "setup")


def test_a_site_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    os.chown(theirs, 65534, 65534)
    given = {**os.environ, SITE_VARIABLE: str(theirs), "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    done = subprocess.run([*PYTHON, "import flows"], cwd=tmp_path, env=given, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "belongs to another user" in done.stderr
