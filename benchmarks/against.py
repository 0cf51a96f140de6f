"""The stages of an earlier commit against those of this checkout, in turns: does a change cost speed?

    python -m benchmarks.against COMMIT [--rounds 5] [--stages ingest,tokenize,pretrain@mlm] [--json FILE]

Both sides run the default data with the profile `tiny` in work trees of their own and share this environment. The first run of each is
not counted. Then both take turns with each stage; `pretrain=pretrain@mlm` is one that the earlier commit calls `pretrain`. Prints, for
each stage, the median of the ratios of equal rounds, new over old: processor seconds of the stage with its children, which other work on
the machine disturbs less, and wall time.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from acclimate.params_file import read_yaml

ROOT = Path(__file__).parents[1]
_SET_CHILD_SUBREAPER = 36
"""Processes that lose their parent become children of this one (Linux), and their time is counted."""
STAGES = "ingest,tokenize,pretrain@mlm,finetune@section-base-full-0"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commit")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--stages", default=STAGES)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    stages = [dict(zip(("old", "new"), (*spec.split("="), spec), strict=False)) for spec in given.stages.split(",")]
    ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1)
    with ExitStack() as stack:
        sides = {name: stack.enter_context(checkout(commit)) for name, commit in (("old", given.commit), ("new", "HEAD"))}
        for name, side in sides.items():
            print(f"{name}: the whole of the profile, not counted", flush=True)
            run(side, "acclimate check --profile tiny")
            run(side, f"dvc repro -q {' '.join(stage[name] for stage in stages)}")
        results = {stage["new"]: compare(sides, stage, given.rounds) for stage in stages}
    if given.json:
        given.json.write_text(json.dumps(results, indent=1))


def compare(sides: dict[str, Path], stage: dict[str, str], rounds: int) -> dict[str, dict[str, float]]:
    """Run one stage, by its name on each side, in turns; medians over the rounds."""
    taken = []
    for number in range(rounds):
        order = list(sides.items()) if number % 2 else list(reversed(sides.items()))
        taken.append({name: measure(side, read_yaml(side / "dvc.lock")["stages"][stage[name]]["cmd"]) for name, side in order})
    found = {}
    for unit in ("processor_s", "wall_s"):
        ratios = [each["new"][unit] / each["old"][unit] for each in taken]
        found[unit] = {name: statistics.median(each[name][unit] for each in taken) for name in sides}
        found[unit] |= {"ratio": statistics.median(ratios), "low": min(ratios), "high": max(ratios)}
        old, new = found[unit]["old"], found[unit]["new"]
        print(f"{stage['new']:30} {unit:12} old {old:7.1f}  new {new:7.1f}  new/old {found[unit]['ratio']:.3f}", end="  ")
        print(f"({min(ratios):.3f} to {max(ratios):.3f})", flush=True)
    return found


def measure(side: Path, command: str) -> dict[str, float]:
    """Processor and wall seconds of a command with all that it starts and waits for."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    run(side, command)
    wall_s = time.monotonic() - started
    with suppress(ChildProcessError):  # what the stage left behind, such as the sender of its record
        while True:
            os.wait()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"processor_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, "wall_s": wall_s}


def run(side: Path, command: str) -> None:
    """Run a command in a checkout, with its code."""
    own = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": f"{side / 'src'}{os.pathsep}{side}"}
    settings = {
        "DVC_NO_ANALYTICS": "1",
        "DVC_SITE_CACHE_DIR": str(side / ".acclimate" / "dvc"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{side}/mlflow.db",
    }
    done = subprocess.run(command, cwd=side, env={**os.environ, **own, **settings}, shell=True, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{side.name}: {command}: exit code {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


@contextmanager
def checkout(commit: str) -> Iterator[Path]:
    """A work tree of a commit with a DVC cache of its own, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="against-") as directory:
        tree = Path(directory) / "tree"
        subprocess.run(["git", "worktree", "add", "-q", "--detach", str(tree), commit], cwd=ROOT, check=True)
        try:
            yield tree
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(tree)], cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
