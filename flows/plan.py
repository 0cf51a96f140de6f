"""`acclimate plan`: each training stage of dvc.yaml runs as a trial (`--try`); what does not fit is refused, with what would.

The data stages that training waits for run first, unless they are up to date.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from acclimate import artifacts
from acclimate.config import BASE, Config, load_config
from acclimate.errors import AcclimateError, ConfigError, EnvironmentUnfitError
from acclimate.forecasts import PLAN
from acclimate.lifeline import child_environment
from acclimate.params_file import read_yaml
from acclimate.redaction import redact
from acclimate.runtime import STATE_DIRECTORY, free_memory_mb, keep_private
from flows import dvc_process
from flows.graph import StageNode, read_graph, select

_STEPS = 12
_TRAINING = ("python -m stages.pretrain ", "python -m stages.finetune ")
Planned = dict[str, Any]
"""What `Trial.whole` gives for a stage, its `name`, the `instances` that are alike, and `remedies`: settings that would fit."""


def make_plan(root: Path, config: Config, memory_mb: float | None) -> list[Planned]:
    """Run the data stages, then try each training stage.

    Raises:
        ConfigError: several nodes, of which one cannot be tried alone.
        EnvironmentUnfitError: a data stage or a trial failed.
    """
    if config.train.launch.nodes > 1:
        raise ConfigError("train.launch.nodes: a plan tries one node; set it to 1 for the plan")
    nodes = read_graph(root)
    training = {node.name: node for node in nodes if node.command.startswith(_TRAINING)}
    data = [node.name for node in select(nodes, training) if node.name not in training and not _waits_for(node, training, nodes)]
    if subprocess.run(dvc_process.command("--alone", "repro", *data), cwd=root, stdout=sys.stderr, check=False).returncode:
        raise EnvironmentUnfitError(f"a data stage failed ({', '.join(data)})")
    # On a cold disk imports take 20 s longer the first time.
    subprocess.run([sys.executable, "-c", "import stages.pretrain, stages.finetune, sklearn.linear_model"], cwd=root, check=False)
    alike: dict[str, list[StageNode]] = {}
    for node in training.values():
        alike.setdefault(_name(node.command), []).append(node)
    pretraining_first = sorted(alike.items(), key=lambda each: not each[0].startswith("pretrain"))
    return [_plan(name, group, root, config, memory_mb) for name, group in pretraining_first]


def _waits_for(node: StageNode, training: Collection[str], nodes: Sequence[StageNode]) -> bool:
    """Whether a stage needs what training makes."""
    return any(each.name in training for each in select(nodes, [node.name]))


def _name(command: str) -> str:
    """What stages that are alike have in common: the encoder that is made, or task and recipe."""
    words = shlex.split(command)
    flags = ("--task", "--recipe") if "--task" in words else ("--encoder-name",)
    return " ".join(["finetune" if "--task" in words else "pretrain", *(words[words.index(flag) + 1] for flag in flags)])


def _plan(name: str, group: list[StageNode], root: Path, config: Config, memory_mb: float | None) -> Planned:
    # A made encoder has the size of its base, and is not there before pretraining.
    command = re.sub(r"(--(?:encoder|start-from) artifacts/encoders/)\w+", rf"\g<1>{BASE}", group[0].command)
    found, remedies = _try(name, command, root, memory_mb), []
    if not found["fits"]:
        if 0 < found["fitting_rows"] < found["rows"]:
            remedies.append(f"train.micro_batch_size: {found['fitting_rows']}")
        again = found if config.train.activation_checkpointing else _try(name, command, root, memory_mb, activation_checkpointing=True)
        if again["fits"] or again["fitting_rows"] > found["fitting_rows"]:
            rows = "" if again["fits"] else f" with train.micro_batch_size: {again['fitting_rows']}"
            remedies.append(f"train.activation_checkpointing: true{rows}")
    return {**found, "name": name, "instances": [node.name for node in group], "remedies": remedies}


def _try(name: str, command: str, root: Path, memory_mb: float | None, **train: Any) -> dict[str, Any]:
    """What the trial of a stage prints. It runs in a directory with the artifacts and params.yaml, changed by `train`.

    Raises:
        EnvironmentUnfitError: it failed or was killed.
    """
    print(f"trying {name}", file=sys.stderr)
    params, free_mb = read_yaml(root / "params.yaml"), free_memory_mb()
    params["train"] = {**params.get("train", {}), **train}
    arguments = [*shlex.split(command)[1:], "--try", str(_STEPS), *(["--memory-mb", str(memory_mb)] if memory_mb else [])]
    paths = [str(root), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    environment = {**os.environ, **child_environment(), "PYTHONPATH": os.pathsep.join(paths)}
    STATE_DIRECTORY.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="plan-", dir=STATE_DIRECTORY) as scratch:
        (Path(scratch) / "params.yaml").write_text(json.dumps(params), encoding="utf-8")  # JSON is YAML
        (Path(scratch) / "artifacts").symlink_to(root / "artifacts")
        done = subprocess.run([sys.executable, *arguments], cwd=scratch, env=environment, capture_output=True, text=True, check=False)
    if done.returncode in (-9, 137):
        raise EnvironmentUnfitError(f"{name}: the system killed the trial, most likely because memory ran out; {free_mb:,.0f} MB were free")
    if done.returncode:
        raise EnvironmentUnfitError(f"{name}: the trial failed: {(done.stderr.strip().splitlines() or ['it said nothing'])[-1]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def render(plan: list[Planned], price_per_hour: float | None) -> list[str]:
    """The table of the stages that fit, and where their time goes."""
    plan = [stage for stage in plan if stage["fits"]]
    lines = [_row("stage", "runs", "steps", "s/step", "time each", "time", "memory MB", "cost" if price_per_hour else "")]
    total_s = 0.0
    for stage in plan:
        runs, total_s = len(stage["instances"]), total_s + stage["wall_s"] * len(stage["instances"])
        measured = (f"{stage['steps']:,}", f"{stage['step_s']:.3g}", _duration(stage["wall_s"]), _duration(runs * stage["wall_s"]))
        lines.append(_row(stage["name"], runs, *measured, f"{stage['needed_mb']:,.0f}", _cost(runs * stage["wall_s"], price_per_hour)))
    runs = sum(len(stage["instances"]) for stage in plan)
    lines.append(_row("all training", runs, "", "", "", _duration(total_s), "", _cost(total_s, price_per_hour)))
    for stage in plan:
        parts = ", ".join(f"{part} {seconds:.1f}" for part, seconds in stage["parts_s"].items())
        lines.append(f"{stage['name']}, seconds on {stage['device']}, threads {stage['threads']}, processes {stage['processes']}: {parts}")
        if stage["fitting_rows"] < stage["rows"]:
            lines.append(f"{stage['name']}: {stage['fitting_rows']} of {stage['rows']} rows are computed at once (micro_batch_size)")
    return lines if plan else []


def _row(*cells: object) -> str:
    return f"{cells[0]:<20}" + "".join(f"{cell:>11}" for cell in cells[1:])


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


def _cost(seconds: float, price_per_hour: float | None) -> str:
    return f"{seconds / 3600 * price_per_hour:.2f}" if price_per_hour else ""


def refusals(plan: list[Planned]) -> list[str]:
    """A line for each stage that does not fit: what it needs, what there is, what would fit."""
    nothing = "no setting that was tried; take a smaller model or more memory"
    return [
        f"{stage['name']}: needs {stage['needed_mb']:,.0f} MB{' a process' * (stage['processes'] > 1)} with {stage['rows']} rows at once, "
        f"has {stage['limit_mb']:,.0f} MB; would fit: {'; or '.join(stage['remedies']) or nothing}"
        for stage in plan
        if not stage["fits"]
    ]


def main(argv: list[str]) -> int:
    """Print a plan, and keep the forecasts for the stages' records."""
    parser = argparse.ArgumentParser(prog="python -m flows.plan", description=__doc__)
    parser.add_argument("--memory-mb", type=float)
    memory_mb, started = parser.parse_args(argv).memory_mb, time.monotonic()
    keep_private()
    try:
        config = load_config()
        plan = make_plan(Path.cwd(), config, memory_mb)
        print(redact("\n".join(render(plan, config.train.price_per_hour))))
        if refused := refusals(plan):
            raise EnvironmentUnfitError("\n  ".join([f"{len(refused)} of {len(plan)} training stages do not fit", *refused]))
        artifacts.write_json(PLAN, {"stages": {instance: stage for stage in plan for instance in stage["instances"]}})
    except AcclimateError as error:
        print(redact(f"acclimate plan: {error}"), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("acclimate plan: stopped", file=sys.stderr)
        return 130
    print(f"planned in {time.monotonic() - started:.0f} s; {PLAN} is compared with what the stages take, in the report")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
