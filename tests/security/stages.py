"""A real stage for the attacks: it waits while a file `hold` is there and writes thirteen files. And what starts it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
NUM_FILES = 13
STAGE = f"""\
import time
from pathlib import Path
from acclimate.settings import Options
from stages.command import Out, StageContext, main

class Params(Options):
    seed: int

def run(params: Params, *, out: Out, context: StageContext) -> None:
    print("begun", flush=True)
    while Path("hold").exists():
        time.sleep(0.05)
    scratch = context.checkpoint_directory
    scratch.mkdir(parents=True, exist_ok=True)
    for number in range({NUM_FILES}):
        time.sleep(0.01)
        (scratch / f"{{number}}").write_text(f"{{params.seed}} {{number}}")
        (out / f"{{number}}").write_text((scratch / f"{{number}}").read_text())

if __name__ == "__main__":
    main(run, Params)
"""
COMMAND = (sys.executable, "-m", "own_stage", "--out", "artifacts/own", "--record", "records/own.json")


def checkout(directory: Path) -> Path:
    """A directory with params.yaml and the stage."""
    directory.mkdir(parents=True, exist_ok=True)
    without_mlflow(directory)
    shutil.copyfile(ROOT / "params.yaml", directory / "params.yaml")
    (directory / "own_stage.py").write_text(STAGE)
    return directory


def without_mlflow(directory: Path) -> None:
    """The process that sends a stage's record ends at once; importing MLflow would take most of these tests' time."""
    (directory / "no-mlflow").mkdir()
    (directory / "no-mlflow" / "mlflow.py").write_text("raise ImportError('not in this test')")


def environment(directory: Path, store: Path | None = None) -> dict[str, str]:
    """What a stage of the checkout finds; without a store MLflow is away."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("DVC", "ACCLIMATE"))}
    return {
        **inherited,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": f"{'' if store else directory / 'no-mlflow'}:{directory}:{ROOT / 'src'}:{ROOT}",
        "MLFLOW_TRACKING_URI": f"sqlite:///{store or directory / 'mlflow.db'}",
    }


def start(directory: Path, *command: str, store: Path | None = None, **more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command, cwd=directory, env={**environment(directory, store), **more}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def contents(directory: Path) -> dict[str, bytes]:
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()}
