"""A byte that flipped in DVC's cache: DVC restores it and calls it up to date; the next stage refuses it and says what to do."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.security.stages import ROOT, environment, without_mlflow

READER = """\
from pathlib import Path
from acclimate.settings import Options
from stages.command import Out, StageContext, main

class Params(Options):
    seed: int

def run(params: Params, *, made: Path, data: Path, out: Out, context: StageContext) -> None:
    (out / "rows").write_text((data / "rows").read_text())

if __name__ == "__main__":
    main(run, Params)
"""
READS = {"above": "made", "exact": "made/of", "inside": "made/of/b"}
"""A dep above an out, an out, and a file of an out."""


def test_bytes_that_dvc_did_not_record_are_refused_with_a_command_that_helps(tmp_path: Path) -> None:
    project = repository(tmp_path)
    dvc(project, "import-url", "-q", str(tmp_path / "rows"), "data/rows")
    dvc(project, "repro", "-q", "make")
    wanted = (project / "made/of/b").read_text()
    damaged = flip(project, "made/of", member="b")

    # What DVC does by itself.
    assert (project / "made/of/b").read_text() != wanted
    assert "up to date" in dvc(project, "status", "make")

    refusals = refused(project, "repro", "--single-item", "--keep-going", *READS)
    assert len(refusals) == len(READS)
    for line in refusals:
        assert "made/of/b is not what dvc.lock records of make, and DVC's cache holds no better copy" in line
        assert damaged.relative_to(project).as_posix() in line

    # An out that no stage reads, or whose readers are up to date.
    (line,) = verify(project, fails=True)
    assert line.startswith("  made/of/b is not what dvc.lock records of make, and DVC's cache holds no better copy")

    follow(project, refusals[0])
    assert verify(project) == []
    assert (project / "made/of/b").read_text() == wanted

    # The same for a file that another place gave.
    flip(project, "data/rows")
    (line,) = refused(project, "repro", "--single-item", "exact")
    assert "data/rows is not what data/rows.dvc records, and DVC's cache holds no better copy" in line
    follow(project, line, alternative=1)
    assert (project / "data/rows").read_text() == "rows\n"

    # The cache is whole, the file was changed.
    (project / "made/of/b").unlink()
    (project / "made/of/b").write_text("mine")
    (line,) = refused(project, "repro", "--single-item", "exact")
    assert "made/of/b is not what dvc.lock records of make; `rm -rf made/of && dvc checkout made/of` brings it back" in line
    follow(project, line)

    definition = (project / "dvc.yaml").read_text()
    (project / "dvc.yaml").write_text(definition.replace("echo bbb", "echo ccc"))
    dvc(project, "repro", "-q", "exact")  # both stages run, and the second is given what the first has just made
    assert (project / "out/exact/rows").read_text() == "rows\n"

    # By hand a stage may be given what was made by hand: it says so and runs.
    (project / "made/of/b").unlink()
    command = [sys.executable, "-m", "reader", *["--made", "made/of", "--data", "data", "--out", "own", "--record", "own.json"]]
    done = subprocess.run(command, cwd=project, env=environment(project), capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "WARNING stages.command  made/of/b is not what dvc.lock records of make; `rm -rf made/of && dvc checkout made/of`" in done.stderr


def verify(project: Path, *, fails: bool = False) -> list[str]:
    """What `acclimate verify` says of each out that differs."""
    command = [sys.executable, "-m", "acclimate", "verify"]
    done = subprocess.run(command, cwd=project, env=environment(project), capture_output=True, text=True, check=False)
    assert (done.returncode != 0) is fails, done.stderr
    return done.stderr.splitlines()[1:]


def repository(directory: Path) -> Path:
    project = directory / "project"
    (project / "data").mkdir(parents=True)
    (directory / "rows").write_text("rows\n")
    shutil.copyfile(ROOT / "params.yaml", project / "params.yaml")
    without_mlflow(project)
    (project / "reader.py").write_text(READER)
    stages = {"make": {"cmd": "mkdir -p made/of && echo aaa > made/of/a && echo bbb > made/of/b", "outs": ["made/of"]}}
    for name, dep in READS.items():
        cmd = f"python -m reader --made {dep} --data data --out out/{name} --record {name}.json"
        stages[name] = {"cmd": cmd, "deps": [dep, "data"], "outs": [f"out/{name}", f"{name}.json"]}
    (project / "dvc.yaml").write_text(json.dumps({"stages": stages}))
    subprocess.run(["git", "init", "-q"], cwd=project, check=True)
    (project / ".dvc").mkdir()
    (project / ".dvc" / "config").write_text("[core]\n    analytics = false\n")
    return project


def dvc(project: Path, *arguments: str, fails: bool = False) -> str:
    command = [sys.executable, "-m", "flows.dvc_process", *arguments]
    done = subprocess.run(command, cwd=project, env=environment(project), capture_output=True, text=True, check=False)
    assert (done.returncode != 0) is fails, done.stdout + done.stderr
    return done.stdout + done.stderr


def flip(project: Path, out: str, member: str = "") -> Path:
    """Change one byte of a cached file, of the size and the time that it had, and have DVC restore the out; gives the cached file."""
    from acclimate.artifacts import file_md5

    path = project / out / member
    md5 = file_md5(path)
    cached = project / ".dvc/cache/files/md5" / md5[:2] / md5[2:]
    content = bytearray(cached.read_bytes())
    content[0] ^= 1
    cached.chmod(0o644)
    cached.write_bytes(content)
    cached.chmod(0o444)
    shutil.rmtree(project / out) if member else path.unlink()
    dvc(project, "checkout", "-q", out)
    return cached


def refused(project: Path, *arguments: str) -> list[str]:
    said = dvc(project, *arguments, fails=True)
    assert "Traceback" not in said
    return [line for line in said.splitlines() if line.startswith("reader: ")]


def follow(project: Path, line: str, *, alternative: int | None = None) -> None:
    """Do what the message says: the commands between backticks; of the last two only one where they are alternatives."""
    commands = re.findall("`([^`]+)`", line)
    if alternative is not None:
        commands = [*commands[:-2], commands[-2:][alternative]]
    for command in commands:
        done = subprocess.run(command, shell=True, cwd=project, env=environment(project), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
