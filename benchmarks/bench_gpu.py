"""Goals G1, G2, G3, G7 and G8 beside their peers on one NVIDIA GPU, in eight minutes: bench_train.py with sizes that fill one.

    python -m benchmarks.bench_gpu [--only g1,g7] [--sizes mini,base] [--rounds 5] [--deadline-s 400] [--json FILE]
    python -m benchmarks.bench_gpu --device cpu --quick          does every line run? (a model of one layer, few rows)

Needs torch, transformers, peft, accelerate, numpy and pyarrow; nothing is installed or downloaded. The sides of a contest warm up (compile)
at the same time and then take turns on the GPU, each in a process of its own. A contest that would begin after the deadline is left out,
and the table says so; --json is written anew after each contest.

Batches: BERT-mini 512 x 128, BERT-base 256 x 128 and 128 x 512 tokens, fine-tuning 128 rows; the same for both sides. The peer with its
best flags also has four loader processes (DataCollatorForLanguageModeling gives 1.2 M tokens/s in one). Memory is that at its greatest.
Those processes load on while the peer waits for its turn, so up to eight batches of its round cost it nothing.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from benchmarks.bench_train import FINETUNING_GOALS, LORA_GOALS, lora_contest, mlm_contest, parse, task_contest
from benchmarks.train_rounds import Contest, Goal, Plan, hold_all
from benchmarks.train_work import Run, prepare_work

LOADER_WORKERS = 4


def contests(wanted: Sequence[str], sizes: Sequence[str], base: Run) -> list[Contest]:
    """What a GPU is measured on; the goals' own lines first, should time run out."""
    best, shipped, busy = Goal("G1", 1.6, "best"), Goal("G2", 4.0, "shipped_groups"), Goal("G3", 0.55)
    mlm = replace(base, kind="mlm", learning_rate=3e-4)
    small = replace(mlm, size="mini", rows=512, steps_per_round=5 * mlm.steps_per_round)
    found = [
        (
            "base",
            mlm_contest("MLM base 512", replace(mlm, size="base", rows=128, sequence_length=512), [best, shipped, busy], wanted=wanted),
        ),
        ("mini", mlm_contest("MLM mini", small, [replace(best, at_least=4.0), busy], wanted=wanted)),
        ("base", mlm_contest("MLM base 128", replace(mlm, size="base", rows=256), [best, busy], wanted=wanted)),
    ]
    task = replace(base, kind="task", size="base", rows=128, learning_rate=5e-5)
    task = replace(task, steps_per_round=-(-task.task_rows // task.rows) if base.steps_per_round > 1 else 1)  # a round is an epoch
    finetuning = (FINETUNING_GOALS[0], replace(FINETUNING_GOALS[1], at_least=1.5))
    found += [
        ("base", task_contest("task base", task, finetuning, wanted=wanted)),
        ("mini", task_contest("task mini", replace(task, size="mini", learning_rate=1e-3), finetuning, wanted=wanted)),
        ("base", lora_contest("LoRA base", replace(task, learning_rate=5e-4), LORA_GOALS, wanted=wanted)),
    ]
    return [with_loader(contest) for size, contest in found if size in sizes and contest.goals]


def with_loader(contest: Contest) -> Contest:
    """Give the peers with their best flags processes that load."""
    runs = {
        label: replace(run, loader_workers=LOADER_WORKERS, overrides={**run.overrides, "dataloader_persistent_workers": True})
        if label in ("best", "glue_best", "peft") and run.device == "cuda"
        else run
        for label, run in contest.runs.items()
    }
    return replace(contest, runs=runs)


def shrunk(contest: Contest) -> Contest:
    """The same contest on a model of one layer and four rows: a check that every line runs."""
    return replace(contest, runs={label: replace(run, size="micro", rows=4) for label, run in contest.runs.items()})


def main() -> None:
    given = parse(__doc__, "base,mini", device="cuda", threads=4, deadline_s=400.0)
    base = Run(
        "mlm",
        rounds=given.rounds,
        threads=given.threads,
        device=given.device,
        attention=given.attention,
        warmup_steps=5,
        steps_per_round=10,
    )
    if given.quick:
        base = replace(base, rounds=1, warmup_steps=1, steps_per_round=1)
    chosen = contests(given.only.lower().split(","), given.sizes.split(","), base)
    if given.quick and given.device == "cpu":
        chosen = [shrunk(contest) for contest in chosen]
    print(f"load {os.getloadavg()[0]:.1f}; {len(chosen)} contests of {base.rounds} rounds", flush=True)
    on_gpu = given.device == "cuda"
    plan = Plan(chosen, given.device, given.threads, given.fresh, on_gpu, given.deadline_s, given.json)
    hold_all(plan, prepare_work())


if __name__ == "__main__":
    main()
