"""Goals G1, G2, G3, G7, G8 and G14 beside their peers on a CPU: pretraining, its use of the machine, fine-tuning, LoRA, logging.

    python -m benchmarks.bench_train [--quick] [--only g1,g7] [--sizes tiny,mini] [--rounds 5] [--threads 1] [--fresh] [--json FILE]

Ours and the peers take turns, each in a process of its own on the first core; a figure is the median over the rounds, a ratio the median of
the ratios of equal rounds. Tokens are real ones: padding does not count. Both sides start from the same weights, take equally many steps at
the same learning rate on the same text, and are judged on the same held-out text with the same masks. See train_rounds.py for how rounds
are held, train_peers.py for the peer's flags, train_ours.py for our side, train_work.py for the text, the models and MFU.

Dropout: the shipped variants keep BERT's 0.1, the peer with its best flags has none in pretraining, as we have none.
run_mlm's and run_glue's own batch is 8; here it is 32 for both (BERT-base: 8, for the sake of time). Fine-tuning starts from random
weights, as nothing may be downloaded: its accuracy says whether both sides learn alike, not how good a model can be.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.train_rounds import Contest, Goal, Plan, hold_all, serve
from benchmarks.train_work import Run, prepare_work

PEERS = {
    "best": "Trainer: bf16, compile, fused AdamW, group_texts",
    "shipped_groups": "run_mlm: group_texts, fp32",
    "shipped_lines": "run_mlm: line by line, padded to the longest, fp32",
    "glue": "run_glue: padded to 128, fp32",
    "glue_best": "run_glue: dynamic padding, by length, bf16",
    "peft": "peft and Trainer: dynamic padding, by length, bf16",
    "full": "own full fine-tuning",
    "mlflow": "mlflow.log_metric on sqlite",
}
ALL_GOALS = ("g1", "g2", "g3", "g7", "g8", "g14")


def mlm_contest(name: str, run: Run, goals: Sequence[Goal], *, wanted: Sequence[str]) -> Contest:
    """Pretraining: ours and every peer that a wanted goal names."""
    chosen = tuple(goal for goal in goals if goal.name.lower() in wanted)
    peers = dict.fromkeys(goal.peer for goal in chosen if goal.peer)
    runs = {"ours": run} | {peer: replace(run, side="peer", variant=peer) for peer in peers}
    return Contest(name, "ours", runs, chosen, PEERS)


def task_contest(name: str, run: Run, goals: Sequence[Goal], *, wanted: Sequence[str]) -> Contest:
    """Fine-tuning in full against run_glue."""
    chosen = tuple(goal for goal in goals if goal.name.lower() in wanted)
    peers = dict.fromkeys(goal.peer for goal in chosen)
    runs = {"ours": replace(run, variant="full")} | {peer: replace(run, side="peer", variant=peer) for peer in peers}
    return Contest(name, "ours", runs, chosen, PEERS)


def lora_contest(name: str, run: Run, goals: Sequence[Goal], *, wanted: Sequence[str]) -> Contest:
    """LoRA against peft and against our own full fine-tuning, which takes a tenth of the learning rate."""
    chosen = tuple(goal for goal in goals if goal.name.lower() in wanted)
    runs = {
        "lora": replace(run, variant="lora"),
        "peft": replace(run, side="peer", variant="peft"),
        "full": replace(run, variant="full", learning_rate=run.learning_rate / 10),
    }
    return Contest(name, "lora", runs, chosen, PEERS)


def pretraining_goals(best: float, shipped: float, utilisation: float) -> list[Goal]:
    """G1, G2 (twice: performance.md's ladder began at padded lines, run_mlm's default is group_texts) and G3; 0 leaves one out."""
    goals = [Goal("G1", best, "best"), Goal("G2", shipped, "shipped_groups"), Goal("G2", shipped, "shipped_lines"), Goal("G3", utilisation)]
    return [goal for goal in goals if goal.at_least]


FINETUNING_GOALS = (Goal("G7", 4.0, "glue"), Goal("G7", 1.3, "glue_best"))
# LoRA on random weights learns less than full fine-tuning, whoever does it.
LORA_GOALS = (Goal("G8", 1.25, "full", same_quality=False), Goal("G8", 1.15, "peft"))


def contests(wanted: Sequence[str], sizes: Sequence[str], base: Run) -> list[Contest]:
    """What a CPU is measured on. The steps are as many as a default run of a quarter of an hour has time for."""
    pretraining = {"tiny": (5.0, 10.0, 0.2), "mini": (4.0, 8.0, 0.45), "base": (1.5, 0.0, 0.6)}
    found = []
    for size, goals in pretraining.items():
        run = replace(base, kind="mlm", size=size, learning_rate=1e-3)
        if size == "base":
            run = replace(run, rows=8, warmup_steps=1, steps_per_round=1, learning_rate=1e-4)
        found.append((size, mlm_contest(f"MLM {size}", run, pretraining_goals(*goals), wanted=wanted)))
    # A round is an epoch: the peer's sampler puts the longest rows first in each, so parts of an epoch are not equal work.
    rows_of_epoch = {"tiny": 1280, "mini": 320, "minilm": 160}
    for size, rows in rows_of_epoch.items():
        run = replace(base, kind="task", size=size, learning_rate=1e-3 if size != "minilm" else 2e-4, task_rows=rows)
        run = replace(run, steps_per_round=-(-rows // run.rows) if base.steps_per_round > 1 else 1)
        found.append((size, task_contest(f"task {size}", run, FINETUNING_GOALS, wanted=wanted)))
        if size == "mini":
            found.append((size, lora_contest(f"LoRA {size}", replace(run, learning_rate=5e-3), LORA_GOALS, wanted=wanted)))
    return [contest for size, contest in found if size in sizes and contest.goals] + logging_contests(wanted, base)


def logging_contests(wanted: Sequence[str], base: Run) -> list[Contest]:
    """What a logged metric costs; a step here is a hundred calls."""
    run = replace(base, kind="log", rows=100, warmup_steps=1, steps_per_round=1)
    runs = {"ours": run, "mlflow": replace(run, side="peer", variant="mlflow")}
    return [Contest("a logged metric", "ours", runs, (Goal("G14", 30.0, "mlflow"),), PEERS)] if "g14" in wanted else []


def parse(description: str | None, sizes: str, *, device: str = "cpu", threads: int = 1, deadline_s: float = 3600.0) -> argparse.Namespace:
    """The command line that both benchmarks of training have."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round of one step: does everything run?")
    parser.add_argument("--only", default=",".join(ALL_GOALS), help="such as g1,g7")
    parser.add_argument("--sizes", default=sizes)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=threads)
    parser.add_argument("--device", choices=("cpu", "cuda"), default=device)
    parser.add_argument("--attention", choices=("auto", "eager", "sdpa", "varlen"), default="auto", help="kernel of ours")
    parser.add_argument("--fresh", action="store_true", help="a new process for each round, not for each side")
    parser.add_argument("--deadline-s", type=float, default=deadline_s, help="no contest is begun after so many seconds")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    given = parse(__doc__, "tiny,mini,base")
    if given.one:
        serve(Run(**json.loads(given.one)), given.work)
        return
    base = Run("mlm", rounds=given.rounds, threads=given.threads, device=given.device, attention=given.attention, steps_per_round=2)
    if given.quick:
        base = replace(base, rounds=1, warmup_steps=1, steps_per_round=1)
    chosen = contests(given.only.lower().split(","), given.sizes.split(","), base)
    print(f"load {os.getloadavg()[0]:.1f}; {len(chosen)} contests of {base.rounds} rounds", flush=True)
    plan = Plan(chosen, given.device, given.threads, given.fresh, False, given.deadline_s, given.json)
    hold_all(plan, prepare_work())


if __name__ == "__main__":
    main()
