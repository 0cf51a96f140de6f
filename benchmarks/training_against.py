"""Speed of training beside an earlier commit of this project, on the same work, in turns.

    python -m benchmarks.training_against COMMIT [--rounds 5] [--json FILE]

Each side is a process in its own checkout on the first core; they take turns round by round, so that a disturbance meets both.
A ratio is new tokens a second over old, the median over the rounds; processor time is steadier than the wall on a shared machine.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.train_work import Run, prepare_work, ratio_of_rounds

ROOT = Path(__file__).parents[1]
CONTESTS = {
    "G1 and G2: MLM tiny": Run("mlm", size="tiny", steps_per_round=20, warmup_steps=5),
    "G1 and G2: MLM mini": Run("mlm", size="mini", steps_per_round=6, warmup_steps=2),
    "G7: task tiny": Run("task", size="tiny", variant="full", task_rows=1280, steps_per_round=40),
    "G7: task mini": Run("task", size="mini", variant="full", task_rows=320, steps_per_round=10),
    "G8: LoRA mini": Run("task", size="mini", variant="lora", task_rows=320, steps_per_round=10, learning_rate=5e-3),
}


class Side:
    """A checkout's process on the first core, which works a round when it is asked.

    Args:
        arguments: of Python.
    """

    def __init__(self, tree: Path, arguments: Sequence[str]) -> None:
        environment = {**os.environ, "PYTHONPATH": f"{tree / 'src'}{os.pathsep}{tree}", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        command = ["taskset", "-c", "0", sys.executable, *arguments]
        self._process = subprocess.Popen(
            command, cwd=tree, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self._answer()  # the warm-up

    def round(self) -> dict[str, float]:
        """Work one."""
        self._go()
        found: dict[str, float] = self._answer()["round"]
        return found

    def end(self) -> dict[str, Any]:
        """What was learnt."""
        self._go()
        return self._answer()

    def stop(self) -> None:
        """Let it end."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()

    def _go(self) -> None:
        assert self._process.stdin
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a side ended with status {self._process.wait()}")
        found: dict[str, Any] = json.loads(line)
        return found


def _as_told(tree: Path, run: Run) -> dict[str, Any]:
    """The run under the names that the checkout has for its fields."""
    told = asdict(run)
    if "tokens_per_row" in (tree / "benchmarks/train_work.py").read_text(encoding="utf-8"):
        told["tokens_per_row"] = told.pop("sequence_length")
    return told


def main() -> None:
    given = parse_arguments(__doc__)
    work, results = prepare_work(), {}
    with checked_out(given.commit) as old:
        for name, run in CONTESTS.items():
            results[name] = contest(name, Run(**{**asdict(run), "rounds": given.rounds}), {"old": old, "new": ROOT}, work)
    if given.json:
        given.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def parse_arguments(description: str | None) -> argparse.Namespace:
    """The earlier commit, the rounds, and where the figures go."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commit")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


@contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """A checkout of an earlier commit."""
    with tempfile.TemporaryDirectory() as directory:
        old = Path(directory) / "old"
        subprocess.run(["git", "worktree", "add", "-q", "--detach", str(old), commit], cwd=ROOT, check=True)
        try:
            yield old
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(old)], cwd=ROOT, check=True)


def rounds_in_turns(sides: Mapping[str, Side], num_rounds: int) -> dict[str, list[dict[str, float]]]:
    """What each side measured, the first one of a round being the other one of the round before."""
    rounds: dict[str, list[dict[str, float]]] = {which: [] for which in sides}
    for number in range(num_rounds):
        for which in sorted(sides, reverse=bool(number % 2)):
            rounds[which].append(sides[which].round())
    return rounds


def contest(name: str, run: Run, trees: dict[str, Path], work: Path) -> dict[str, Any]:
    """Rounds of both sides in turns, printed as a line."""
    trains = ["-m", "benchmarks.bench_train", "--work", str(work), "--one"]
    sides = {which: Side(tree, [*trains, json.dumps(_as_told(tree, run))]) for which, tree in trees.items()}
    rounds = rounds_in_turns(sides, run.rounds)
    quality = {which: side.end()["timing"]["quality"] for which, side in sides.items()}
    rates = {
        clock: {which: [each["tokens"] / each[clock] for each in found] for which, found in rounds.items()}
        for clock in ("seconds", "processor_s")
    }
    ratios = {clock: ratio_of_rounds(found["new"], found["old"]) for clock, found in rates.items()}
    print(f"{name}: new over old {ratios['processor_s']} by processor time, {ratios['seconds']} by the wall; quality {quality}", flush=True)
    return {"ratio": {clock: asdict(ratio) for clock, ratio in ratios.items()}, "tokens_per_s": rates, "quality": quality}


if __name__ == "__main__":
    main()
