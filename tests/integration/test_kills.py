"""`kill -9` at random moments of the real stages: whatever is killed, the outs end in the same bits.

By default a few kills, for CI; `make test-kills` sets the two variables below to many. Each kill hits the whole process group of a stage
as `dvc repro` starts it. The moments come from a seeded generator, but where they hit depends on the machine's speed: hence the counts
that are asserted, without which a run that is never killed after a checkpoint would pass too.
"""

from __future__ import annotations

import glob
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from acclimate.artifacts import dvc_md5, file_md5
from acclimate.config import load_config
from acclimate.data.quarantine import Quarantine
from acclimate.data.tables import build_table
from acclimate.params_file import read_yaml
from acclimate.sinks import MemorySink
from stages import tokenize
from stages.command import CONTINUE_EXIT_CODE, StageContext, select_params

ROOT = Path(__file__).parents[2]
SNAPSHOT = ROOT / "data" / "debian"
PRETRAIN_KILLS = int(os.environ.get("ACCLIMATE_PRETRAIN_KILLS", "3"))
FINETUNE_KILLS = int(os.environ.get("ACCLIMATE_FINETUNE_KILLS", "2"))
SEED = int(os.environ.get("ACCLIMATE_KILL_SEED", "7"))
_POLL_S = 0.001
_TIMEOUT_S = 300.0


@dataclass(frozen=True)
class Stage:
    """A stage's command in the project, and what it makes."""

    project: Path
    command: tuple[str, ...]
    outs: tuple[str, ...]
    record: str
    steps: int
    """Of the training proper; the head's warm-up has fewer."""

    def start(self) -> subprocess.Popen[str]:
        """In a process group of its own, as a shell would."""
        environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "OMP_NUM_THREADS": "1"}
        for name in ("MLFLOW_TRACKING_URI", "ACCLIMATE_SESSION", "DVC_STAGE", "DVC_ROOT"):
            environment.pop(name, None)
        return subprocess.Popen(
            [sys.executable, "-m", *self.command, "--record", self.record],
            cwd=self.project,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def checkpoints(self, suffix: str = "pt") -> list[Path]:
        """Those of the training proper that are there now, whole (`pt`) or being written (`partial`)."""
        # the module's glob passes over directories that the stage removes meanwhile; Path's raises
        pattern = f"{self.project}/.acclimate/checkpoints/**/step-*.{suffix}"
        found = map(Path, glob.glob(pattern, recursive=True))  # noqa: PTH207
        return [path for path in found if path.parent.name not in ("head-warm-up", "control")]

    def made(self) -> dict[str, str]:
        """DVC's md5 of each out, and the md5 of each file in it."""
        digests = {}
        for out in self.outs:
            digests[out] = dvc_md5(self.project / out)
            digests |= {str(path.relative_to(self.project)): file_md5(path) for path in (self.project / out).rglob("*") if path.is_file()}
        return digests

    def forget(self) -> None:
        """Remove what a finished run has made, so that the next begins anew."""
        for out in self.outs:
            shutil.rmtree(self.project / out)
        (self.project / self.record).unlink()

    def resumed_from(self, output: str) -> int:
        """The step of the training proper that a run went on from, by its log; 0 where it began anew."""
        found = re.findall(r"(?<!control): resuming from step (\d+) of (\d+)", output)
        return max((int(step) for step, of in found if int(of) == self.steps), default=0)


@dataclass
class Tally:
    """What the kills met."""

    kills: int = 0
    finished: int = 0
    resumed_from: list[int] = field(default_factory=list)


def params(directory: Path, **sections: dict[str, Any]) -> None:
    """The project's params.yaml with small budgets."""
    raw = read_yaml(ROOT / "params.yaml")
    raw["tasks"] = {name: task for name, task in raw["tasks"].items() if name == "section"}
    raw["tasks"]["section"] |= {"max_train_rows": 96, "max_dev_rows": 64, "max_test_rows": 64, "max_length": 32}
    raw["runs"] |= {"single_seed_tasks": []}
    raw["probe"] = {}
    for name, values in sections.items():
        raw[name] = {**raw[name], **values}
    (directory / "params.yaml").write_text(json.dumps(raw), encoding="utf-8")  # JSON is YAML


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project directory with what pretraining and fine-tuning read: a part of the default input, and an encoder of two layers."""
    directory = tmp_path_factory.mktemp("project")
    texts = {
        "corpus": pq.read_table(SNAPSHOT / "corpus.parquet").slice(0, 400),
        "heldout": pq.read_table(SNAPSHOT / "heldout.parquet").slice(0, 40),
        "general": pq.read_table(SNAPSHOT / "general.parquet").slice(0, 200),
        "other": pq.read_table(SNAPSHOT / "general.parquet").slice(0, 0),
    }
    params(
        directory,
        tokenize={"sequence_length": 64, "backend": "reference"},
        pretrain={
            "objectives": {"mlm": {"rate": 0.2}, "topics": {"topics": 20}},
            "tokens": 300 * 8 * 64,
            "head_warmup_tokens": 40 * 8 * 64,
            "batch_size": 8,
            "heldout_rows": 8,
            "dropout": 0.1,
            "precision": "fp32",
            "checkpoint_every_s": 0.3,
            "optimizer": {"learning_rate": 1e-3, "average": "ema", "ema_decay": 0.99, "schedule": "cosine"},
            "retain_by": "loss",
            "retention": {"weight_average": {"shares": [0.5, 1.0]}},
        },
        finetune={
            "epochs": 25,
            "batch_size": 8,
            "dropout": 0.1,
            "precision": "fp32",
            "checkpoint_every_s": 0.3,
            "average": "tail",
            "tail_share": 0.5,
            "health": {"patience": 20},
        },
    )
    artifacts = directory / "artifacts"
    write_encoder(artifacts / "base", texts["corpus"].column("text").to_pylist())
    config = load_config(directory / "params.yaml")
    for name in ("ingest", "tokenize"):
        (artifacts / name).mkdir()
    for name, table in texts.items():
        pq.write_table(pa.table({"text": table.column("text")}), artifacts / "ingest" / f"{name}.parquet")
    with Quarantine(artifacts / "ingest" / "quarantine.parquet") as quarantine:
        build_table("section", config.tasks["section"], ROOT / "data", artifacts / "ingest" / "section", quarantine, seed=20)
    (artifacts / "verdict.json").write_text('{"passed": true}\n')
    context = StageContext(stage="tokenize", sink=MemorySink(), checkpoint_directory=directory / "scratch", run_id=lambda: None)
    tokenize.run(
        select_params(config, tokenize.Params),
        ingest=artifacts / "ingest",
        encoder=artifacts / "base",
        verdict=artifacts / "verdict.json",
        out=artifacts / "tokenize",
        context=context,
    )
    return directory


def write_encoder(directory: Path, texts: list[str]) -> None:
    """Random weights and 2,000 words: a checkpoint is saved in some milliseconds, so that there are many of them."""
    import torch
    from safetensors.torch import save_file
    from tokenizers.implementations import BertWordPieceTokenizer
    from transformers import BertConfig, BertModel

    tokenizer = BertWordPieceTokenizer()
    tokenizer.train_from_iterator(texts, vocab_size=2000, show_progress=False)
    config = BertConfig(
        vocab_size=2000,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        architectures=["BertModel"],
    )
    torch.manual_seed(0)
    directory.mkdir(parents=True)
    save_file(BertModel(config, add_pooling_layer=False).state_dict(), directory / "model.safetensors", {"format": "pt"})
    (directory / "config.json").write_text(json.dumps(config.to_dict()), encoding="utf-8")
    tokenizer.save(str(directory / "tokenizer.json"))


@pytest.fixture(scope="module")
def pretraining(project: Path) -> Stage:
    command = "stages.pretrain --encoder-name adapted --tokens artifacts/tokenize --start-from artifacts/base"
    out = "artifacts/pretrain"
    return Stage(project, (*command.split(), "--out", out), (out,), "records/pretrain.json", 300)


@pytest.fixture(scope="module")
def finetuning(project: Path) -> Stage:
    command = "stages.finetune --task section --encoder-name base --recipe full --seed 3"
    command += " --encoder artifacts/base --table artifacts/ingest/section"
    out = "artifacts/finetune"
    return Stage(project, (*command.split(), "--verdict", "artifacts/verdict.json", "--out", out), (out,), "records/finetune.json", 300)


def signal_at(process: subprocess.Popen[str], moment: Callable[[], bool], number: int = signal.SIGKILL) -> tuple[bool, str]:
    """Send the group a signal at a moment; whether that was before its end, and what it said."""
    deadline = time.monotonic() + _TIMEOUT_S
    try:
        while process.poll() is None and not moment():
            assert time.monotonic() < deadline
            time.sleep(_POLL_S)
        sent = process.poll() is None
        if sent:
            os.killpg(process.pid, number)
        output = process.communicate(timeout=_TIMEOUT_S)[1]
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    return sent and process.returncode != 0, output


def never() -> bool:
    return False


def moment_of(kind: str, stage: Stage, generator: random.Random, wall_s: float) -> Callable[[], bool]:
    """When to kill a run that starts now: `anywhere` in it, `later` than a checkpoint that it has made, while `saving` one."""
    started = time.monotonic()
    if kind == "anywhere":
        at = started + generator.uniform(0.0, wall_s)
        return lambda: time.monotonic() > at
    there = {path.name for path in stage.checkpoints()}
    delay_s = generator.uniform(0.0, 1.0) if kind == "later" else generator.uniform(0.0, 0.004)
    suffix, due = "pt" if kind == "later" else "partial", float("inf")

    def reached() -> bool:
        nonlocal due
        if due == float("inf"):
            found = {path.name for path in stage.checkpoints(suffix)}
            if found - there and (kind == "later" or stage.checkpoints()):
                due = time.monotonic() + delay_s
        return time.monotonic() >= due

    return reached


def undisturbed(stage: Stage) -> tuple[dict[str, str], float]:
    """Run to the end once; what was made, and how long it took."""
    started = time.monotonic()
    process = stage.start()
    _, output = signal_at(process, never)
    assert process.returncode == 0, output
    wall_s, made = time.monotonic() - started, stage.made()
    assert stage.resumed_from(output) == 0
    stage.forget()
    return made, wall_s


def stop_in_training(stage: Stage) -> None:
    """SIGTERM once a checkpoint is there: the stage saves, says so and asks by its exit code to be run again.

    A quick machine may be past its last step by then. Such a run says that it stopped, without a step, and the test tries again.
    """
    name = stage.command[0].removeprefix("stages.")
    while True:
        process = stage.start()
        there = set(stage.checkpoints())
        stopped, output = signal_at(process, lambda there=there: bool(set(stage.checkpoints()) - there), signal.SIGTERM)
        if not stopped:
            assert process.returncode == 0, output
            stage.forget()
            continue
        assert process.returncode == CONTINUE_EXIT_CODE, output
        said = output.strip().splitlines()[-1]
        if said.startswith(f"{name}: stopped, step "):
            break
        assert said.startswith(f"{name}: stopped; nothing half-written is left"), output
    assert stage.checkpoints()


def kill_and_go_on(stage: Stage, num_kills: int, wanted: dict[str, str], wall_s: float) -> Tally:
    """Kill and start again until there were so many kills and the last run is through; runs that end before compare and begin anew."""
    generator, tally = random.Random(SEED), Tally()
    kinds = ("saving", "later", "anywhere")
    while True:
        process = stage.start()
        more = tally.kills < num_kills
        moment = moment_of(kinds[tally.kills % len(kinds)], stage, generator, wall_s) if more else never
        killed, output = signal_at(process, moment)
        tally.resumed_from.append(stage.resumed_from(output))
        if killed:
            tally.kills += 1
            continue
        assert process.returncode == 0, output
        made = stage.made()
        assert {name: digest for name, digest in made.items() if wanted.get(name) != digest} == {}
        assert made == wanted
        assert json.loads((stage.project / stage.record).read_text())["resumed_from"] == tally.resumed_from[-1]
        assert stage.checkpoints() == []
        tally.finished += 1
        stage.forget()
        if not more:
            return tally


def check(stage: Stage, num_kills: int, *, stop_first: bool = False) -> None:
    started = time.monotonic()
    wanted, wall_s = undisturbed(stage)
    if stop_first:
        stop_in_training(stage)
    tally = kill_and_go_on(stage, num_kills, wanted, wall_s)
    print(
        f"\n{stage.command[0]}: {tally.kills} kills, {tally.finished} runs to the end, {len(wanted)} digests equal the undisturbed run's; "
        f"resumed from {tally.resumed_from} of {stage.steps}; {time.monotonic() - started:.0f} s, undisturbed {wall_s:.1f} s"
    )
    assert tally.kills == num_kills
    # a run killed while saving or later has a checkpoint that the next goes on from; fewer than half of these would prove little
    assert sum(step > 0 for step in tally.resumed_from) >= max(1, num_kills // 3)


@pytest.mark.slow
def test_pretraining_killed_at_random_moments_ends_in_the_same_bits(pretraining: Stage) -> None:
    check(pretraining, PRETRAIN_KILLS)


@pytest.mark.slow
def test_fine_tuning_stopped_and_then_killed_at_random_moments_ends_in_the_same_bits(finetuning: Stage) -> None:
    check(finetuning, FINETUNE_KILLS, stop_first=True)
