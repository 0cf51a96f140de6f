"""Two sides of a comparison in turn, each in a process of its own, and the table of what came out.

A side is started once, warms up (compiles) and then trains one round each time it is its turn; while another side trains it waits for a
line on its standard input and uses no processor. So every side meets the same load, and after the last round all have taken equally many
steps: their losses on held-out data can be compared. `fresh=True` starts a new process for each round instead.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.train_work import (
    DEV_ROWS,
    ROOT,
    SIZES,
    Ratio,
    Round,
    Run,
    Timing,
    Turns,
    Work,
    best_gemm_rate,
    flops_per_token,
    flops_utilisation,
    load_work,
    peak_memory_mb,
    ratio_of_rounds,
    settle,
)

LOGS = ROOT / "benchmarks" / "results" / "logs"
LIMIT_S = 900.0
"""A side that says nothing for so long is stopped, and that stands in the table."""
LOSS_MARGIN = 0.01


@dataclass(frozen=True)
class Goal:
    """Ours must be so many times a peer, or reach a share of the machine (peer empty)."""

    name: str
    at_least: float
    peer: str = ""
    same_quality: bool = True
    """Whether the ratio counts only where our model is no worse."""


@dataclass(frozen=True)
class Contest:
    """Sides on equal work; `ours` is the one that the goals speak of."""

    name: str
    ours: str
    runs: dict[str, Run]
    goals: tuple[Goal, ...]
    says: dict[str, str]
    """What stands in the table for each side."""


@dataclass
class Side:
    """What one side gave."""

    run: Run
    rounds: list[Round] = field(default_factory=list)
    loads: list[float] = field(default_factory=list)
    """Load average of the machine before each round."""
    warmup: Round | None = None
    timing: Timing | None = None
    memory_mb: float = math.nan
    extra: dict[str, Any] = field(default_factory=dict)
    error: str = ""

    def rates(self, unit: str, *, clock: str = "seconds") -> list[float]:
        """Tokens or sequences a second of each round."""
        return [getattr(one, unit) / max(1e-9, getattr(one, clock)) for one in self.rounds]


# A side's process, seen from inside.


def serve(run: Run, directory: Path) -> None:
    """Train as told; say on standard output what each round took; wait for a line on standard input before the next."""
    say = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print goes to the log

    def hand_over(done: Round) -> None:
        print(json.dumps({"round": asdict(done)}), file=say)
        if not sys.stdin.readline():
            raise SystemExit("the benchmark has gone")

    settle(run)
    if run.kind == "gemm":
        answer: dict[str, Any] = {"extra": {"rates": best_gemm_rate(run.device), "device": _device_name(run.device)}}
    else:
        timing = _train(load_work(directory), run, Turns(run, hand_over))
        answer = {"timing": asdict(timing), "memory_mb": peak_memory_mb(run.device)}
    print(json.dumps(answer), file=say)


def _train(work: Work, run: Run, turns: Turns) -> Timing:
    if run.kind == "log":
        from benchmarks import train_logging

        return (train_logging.peer_log if run.side == "peer" else train_logging.ours_log)(run, turns)
    if run.side == "peer":
        from benchmarks import train_peers

        return (train_peers.peer_mlm if run.kind == "mlm" else train_peers.peer_task)(work, run, turns)
    from benchmarks import train_ours

    return (train_ours.ours_mlm if run.kind == "mlm" else train_ours.ours_task)(work, run, turns)


def _device_name(device: str) -> str:
    if device == "cuda":
        import torch

        return torch.cuda.get_device_name()
    return _processor()


# The same from outside.


class _Process:
    """A side's process. Raises RuntimeError where it ends or stays silent."""

    def __init__(self, run: Run, directory: Path, log: Path) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log = log
        environment = {**os.environ, **_ENVIRONMENT, "OMP_NUM_THREADS": str(run.threads), "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"}
        command = [sys.executable, "-m", "benchmarks.bench_train", "--one", json.dumps(asdict(run)), "--work", str(directory)]
        with log.open("w", encoding="utf-8") as errors:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=ROOT, env=environment
            )

    def answer(self) -> dict[str, Any]:
        """The next line that it says."""
        assert self._process.stdout is not None
        timer = threading.Timer(LIMIT_S, self._process.kill)
        timer.start()
        line = self._process.stdout.readline()
        timer.cancel()
        if not line:
            self._process.wait()
            lines = [text for text in self._log.read_text(encoding="utf-8", errors="replace").splitlines() if text.strip()]
            raise RuntimeError(f"exit code {self._process.returncode}: {lines[-1][:200] if lines else 'nothing said'} ({self._log.name})")
        found: dict[str, Any] = json.loads(line)
        return found

    def go(self) -> None:
        """Its turn."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended; `answer` says why
            self._process.stdin.write("go\n")
            self._process.stdin.flush()

    def close(self) -> None:
        """End it: one that waits for its turn, or has given its last answer, goes by itself and takes loaders and compilers along."""
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "PYTHONWARNINGS": "ignore",
    "PYTHONUNBUFFERED": "1",
}


def measure_gemm(directory: Path, *, device: str, threads: int) -> dict[str, Any]:
    """Best bf16 matrix rates by shape, in a process of its own."""
    process = _Process(Run("gemm", device=device, threads=threads), directory, LOGS / "gemm.log")
    try:
        extra: dict[str, Any] = process.answer()["extra"]
    finally:
        process.close()
    return extra


def hold(contest: Contest, directory: Path, *, fresh: bool = False, together: bool = False) -> dict[str, Side]:
    """All rounds of a contest; a side that fails is left out of the rest, its error kept.

    Args:
        fresh: a new process for each round.
        together: sides warm up at the same time, where there are processors enough.
    """
    sides = {label: Side(run) for label, run in contest.runs.items()}
    rounds = max(run.rounds for run in contest.runs.values())
    for number in range(rounds if fresh else 1):
        _hold_once(contest, sides, directory, first_round=number, fresh=fresh, together=together)
    return sides


def _hold_once(contest: Contest, sides: dict[str, Side], directory: Path, *, first_round: int, fresh: bool, together: bool) -> None:
    processes: dict[str, _Process] = {}
    try:
        _start(processes, contest, sides, directory, fresh=fresh, together=together)
        labels = list(processes)
        for number in range(1 if fresh else max(side.run.rounds for side in sides.values())):
            turn = (first_round + number) % max(1, len(labels))
            for label in labels[turn:] + labels[:turn]:
                _take_turn(sides[label], processes[label])
        for label, process in processes.items():
            if not sides[label].error:
                process.go()
                _listen(sides[label], process)
    finally:
        for process in processes.values():
            process.close()


def _start(
    processes: dict[str, _Process], contest: Contest, sides: dict[str, Side], directory: Path, *, fresh: bool, together: bool
) -> None:
    for label, side in sides.items():
        if side.error:
            continue
        run = replace(side.run, rounds=1) if fresh else side.run
        processes[label] = _Process(run, directory, LOGS / f"{contest.name}-{label}.log".replace(" ", "-"))
        if not together:
            _listen(side, processes[label])
    if together:
        for label, process in processes.items():
            _listen(sides[label], process)


def _take_turn(side: Side, process: _Process) -> None:
    if not side.error:
        side.loads.append(os.getloadavg()[0])
        process.go()
        _listen(side, process)


def _listen(side: Side, process: _Process) -> None:
    try:
        answer = process.answer()
    except RuntimeError as error:
        side.error = str(error)
        return
    if "timing" in answer:
        side.timing, side.memory_mb = Timing(**answer["timing"]), answer["memory_mb"]
    elif len(side.rounds) == len(side.loads):
        side.warmup = Round(**answer["round"])
    else:
        side.rounds.append(Round(**answer["round"]))


# The table.


@dataclass(frozen=True)
class Line:
    """One goal beside what was found."""

    goal: str
    what: str
    peer: str
    peer_rate: str
    our_rate: str
    ratio: str
    wanted: str
    met: str
    quality: str


HEADINGS = ("goal", "what", "peer", "peer", "ours", "ratio (least-greatest)", "goal is", "met", "held-out, ours and peer")


def lines_of(contest: Contest, sides: Mapping[str, Side], work: Work, *, peak_flops_per_s: float) -> list[Line]:
    """A line for each goal of a contest; a side that failed shows its error."""
    lines = []
    for goal in contest.goals:
        labels = [contest.ours, goal.peer] if goal.peer else [contest.ours]
        errors = [f"{label}: {sides[label].error}" for label in labels if sides[label].error]
        if errors:
            shown = contest.says.get(goal.peer, "")
            lines.append(Line(goal.name, contest.name, shown, "-", "-", "-", _wanted(goal), "FAILED", "; ".join(errors)))
        elif goal.peer:
            lines.append(_ratio_line(contest, goal, sides[contest.ours], sides[goal.peer]))
        else:
            lines.append(_utilisation_line(contest, goal, sides, work, peak_flops_per_s))
    return lines


def _wanted(goal: Goal) -> str:
    return f"{goal.at_least:g}x" if goal.peer else f"{goal.at_least:.0%}"


def _ratio_line(contest: Contest, goal: Goal, ours: Side, peer: Side) -> Line:
    unit = "sequences" if goal.name == "G7" else "tokens"
    name = "metrics" if ours.run.kind == "log" else unit
    mine, theirs = ours.rates(unit), peer.rates(unit)
    ratio = ratio_of_rounds(mine, theirs)
    shown = str(ratio)
    if ours.run.device == "cpu":
        steady = ratio_of_rounds(ours.rates(unit, clock="processor_s"), peer.rates(unit, clock="processor_s"))
        shown += f"; by processor time {steady.median:.2f}"
    says = contest.says[goal.peer]
    quality, as_good = compare_quality(ours, peer)
    met = verdict(ratio, goal.at_least, as_good=as_good or not goal.same_quality)
    rates = [f"{_middle(rates):,.0f} {name}/s" for rates in (theirs, mine)]
    return Line(goal.name, contest.name, says, rates[0], rates[1], shown, _wanted(goal), met, quality)


def verdict(ratio: Ratio, at_least: float, *, as_good: bool) -> str:
    """Whether a goal is met: by the median of the rounds, and with a model as good."""
    if ratio.median < at_least:
        return "no"
    return "yes" if as_good else "no: quality is lower"


def compare_quality(ours: Side, peer: Side) -> tuple[str, bool]:
    """What both reached on held-out data, and whether ours is as good: loss within 1 %, accuracy within two standard errors, or better."""
    if ours.timing is None or peer.timing is None:
        return "not measured", False
    if ours.timing.weights_at_start != peer.timing.weights_at_start:
        return "the initial weights differ", False
    mine, theirs = ours.timing.quality, peer.timing.quality
    if not mine:
        return "", True
    if "accuracy" in mine:
        found, expected = mine["accuracy"], theirs["accuracy"]
        error = math.sqrt((found * (1 - found) + expected * (1 - expected)) / DEV_ROWS)
        return f"accuracy {found:.3f}, {expected:.3f} (loss {mine['loss']:.3f}, {theirs['loss']:.3f})", found >= expected - 2 * error
    difference = mine["loss"] / theirs["loss"] - 1
    return f"loss {mine['loss']:.3f}, {theirs['loss']:.3f} ({difference:+.1%})", difference <= LOSS_MARGIN


def _utilisation_line(contest: Contest, goal: Goal, sides: Mapping[str, Side], work: Work, peak: float) -> Line:
    def utilisation(side: Side) -> float:
        return flops_utilisation(_middle(side.rates("tokens")), flops_of_run(side.run, work), peak)

    found = utilisation(sides[contest.ours])
    peers = {label: utilisation(side) for label, side in sides.items() if label != contest.ours and not side.error}
    best = max(peers, key=lambda label: peers[label], default="")
    shown = f"{peers[best]:.1%}" if best else "-"
    met = "yes" if found >= goal.at_least else "no"
    return Line(goal.name, f"{contest.name}, MFU", contest.says.get(best, ""), shown, f"{found:.1%}", "", _wanted(goal), met, "")


def flops_of_run(run: Run, work: Work) -> float:
    """Operations of a real token of masked-language modelling; attention inside a document alone earns, on both sides."""
    lengths = work.packed_lengths(run.sequence_length)
    return flops_per_token(SIZES[run.size], lengths, masked_share=work.masked_share())


def _middle(values: Sequence[float]) -> float:
    ordered = sorted(values)
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2


def table(lines: Iterable[Line]) -> str:
    """Markdown."""
    rows = [[str(value).replace("|", "/") for value in asdict(line).values()] for line in lines]
    head = ["| " + " | ".join(HEADINGS) + " |", "|" + " --- |" * len(HEADINGS)]
    return "\n".join(head + ["| " + " | ".join(row) + " |" for row in rows])


# What a figure depends on, and the whole run.


def machine() -> dict[str, Any]:
    """Processor, versions, load."""
    packages = {}
    for name in ("accelerate", "numpy", "peft", "tokenizers", "torch", "transformers"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = "absent"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"cpu": _processor(), "cores": cores, "load": os.getloadavg()[0], "python": platform.python_version(), "packages": packages}


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor())


@dataclass(frozen=True)
class Plan:
    """How a benchmark is held."""

    contests: list[Contest]
    device: str
    threads: int
    fresh: bool
    together: bool
    deadline_s: float
    json: Path | None


def hold_all(plan: Plan, directory: Path) -> None:
    """Every contest, with the matrix rate before each; what is found is printed and written as it comes."""
    began, work, lines = time.monotonic(), load_work(directory), []
    results: dict[str, Any] = {"machine": machine(), "gemm": [], "contests": {}}
    print(", ".join(f"{name} {number}" for name, number in results["machine"]["packages"].items()))
    for contest in plan.contests:
        if time.monotonic() - began > plan.deadline_s:
            lines.append(Line("", contest.name, "", "-", "-", "-", "", "SKIPPED", f"{plan.deadline_s:.0f} s are over"))
            continue
        if plan.device == "cpu" or not results["gemm"]:
            results["gemm"].append(measure_gemm(directory, device=plan.device, threads=plan.threads))
        peak = max(rate for found in results["gemm"] for rate in found["rates"].values())
        sides = hold(contest, directory, fresh=plan.fresh, together=plan.together)
        lines += lines_of(contest, sides, work, peak_flops_per_s=peak)
        results["contests"][contest.name] = {label: asdict(side) for label, side in sides.items()}
        results |= {"peak_flops_per_s": peak, "seconds": time.monotonic() - began, "table": [asdict(line) for line in lines]}
        _tell(contest, sides)
        _write(plan.json, results)
    names = {found["device"] for found in results["gemm"]}
    print(f"\n{', '.join(names)}, bf16 matrices at up to {results.get('peak_flops_per_s', 0.0) / 1e12:.3f} TFLOP/s")
    print(table(lines))
    print(f"\n{time.monotonic() - began:.0f} s in all")
    _write(plan.json, results)


def _tell(contest: Contest, sides: Mapping[str, Side]) -> None:
    print(f"\n{contest.name}", flush=True)
    for label, side in sides.items():
        if side.error or not side.rounds:
            print(f"  {label}: {side.error or 'no round'}", flush=True)
            continue
        run, warmup = side.run, side.warmup.seconds if side.warmup else math.nan
        rates = [f"{_middle(side.rates(unit)):,.{digits}f} {unit}/s" for unit, digits in (("tokens", 0), ("sequences", 1))]
        steps = f"{run.warmup_steps} steps of warm-up in {warmup:.1f} s, then {len(side.rounds)} rounds of {run.steps_per_round}"
        load = f"{side.memory_mb:,.0f} MB; load {min(side.loads):.1f}-{max(side.loads):.1f}"
        print(f"  {label}: {', '.join(rates)}; {run.rows} rows; {steps}; {load}", flush=True)


def _write(path: Path | None, results: dict[str, Any]) -> None:
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(results, indent=1), encoding="utf-8")
