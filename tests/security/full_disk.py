"""Run stages on a file system that takes only so many more bytes, and tell what came of it as JSON. Started under `unshare -m`.

The project lies on a tmpfs of this process's own mount namespace. Before a try the tmpfs is shrunk to what it holds and some bytes more,
so that the kernel answers ENOSPC to whatever asks for more; afterwards it grows again and the same command has to succeed.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from acclimate.errors import disk_fault

ROOT = Path(__file__).parents[2]
SNAPSHOT = ROOT / "data" / "debian"
ENCODERS = ("base", "adapted")
FINETUNED = "artifacts/finetune/section/"
COMMANDS = {
    "ingest": "--data data --out artifacts/ingest",
    "backbone": "--corpus artifacts/ingest/corpus.parquet --heldout artifacts/ingest/heldout.parquet "
    "--out artifacts/encoders/base --scratch artifacts/encoders/scratch",
    "validate": "--ingest artifacts/ingest --tokenizer artifacts/encoders/base/tokenizer.json "
    "--out artifacts/validate --docs reports/data_docs",
    "tokenize": "--ingest artifacts/ingest --encoder artifacts/encoders/base --verdict artifacts/validate/verdict.json "
    "--out artifacts/tokenize",
    "pretrain": "--encoder-name adapted --tokens artifacts/tokenize --start-from artifacts/encoders/base --out artifacts/pretrain/adapted",
    "retain": "--encoder-name adapted --start-from artifacts/encoders/base --pretrain artifacts/pretrain/adapted "
    "--tables artifacts/ingest/tables --verdict artifacts/validate/verdict.json --out artifacts/encoders/adapted",
    **{
        f"finetune-{encoder}": f"--task section --encoder-name {encoder} --recipe full --seed 0 --encoder artifacts/encoders/{encoder} "
        f"--table artifacts/ingest/tables/section --verdict artifacts/validate/verdict.json --out {FINETUNED}{encoder}-full-0"
        for encoder in ENCODERS
    },
    "evaluate": "--finetune artifacts/finetune --ingest-tables artifacts/ingest/tables --verdict artifacts/validate/verdict.json "
    "--out artifacts/evaluate",
    "probe": "--tables artifacts/ingest/tables --encoders artifacts/encoders "
    "--verdict artifacts/validate/verdict.json --out artifacts/probe",
    "export": "--task section --finetune artifacts/finetune/section --table artifacts/ingest/tables/section "
    "--verdict artifacts/validate/verdict.json --out artifacts/export/section",
    "register": "--task section --export artifacts/export/section --evaluate artifacts/evaluate --out artifacts/register/section",
    "report": "--ingest artifacts/ingest --tokenize artifacts/tokenize --pretrain artifacts/pretrain --encoders artifacts/encoders "
    "--finetune artifacts/finetune --evaluate artifacts/evaluate --probe artifacts/probe --export artifacts/export "
    "--register artifacts/register "
    "--records records --validate artifacts/validate --out artifacts/report",
    "ingest-workers": "--data data --out artifacts/ingest",
}
"""Of every stage, in an order in which each finds what it reads."""
TIMED = ("export", "register", "report")
"""Their outs hold times, versions and ids of runs, so two runs differ."""


def write_project(directory: Path) -> None:
    """A small part of the default input, and an encoder of two layers."""
    import pyarrow.parquet as pq

    from acclimate.params_file import read_yaml
    from tests.integration.test_kills import write_encoder

    (directory / "data").mkdir(parents=True)
    for name, rows in {"corpus": 400, "heldout": 40, "general": 100, "section": 1200}.items():
        pq.write_table(pq.read_table(SNAPSHOT / f"{name}.parquet").slice(0, rows), directory / "data" / f"{name}.parquet")
    texts = pq.read_table(directory / "data" / "corpus.parquet").column("text").to_pylist()
    write_encoder(directory / "model", texts)
    raw = read_yaml(ROOT / "params.yaml")
    raw["model"] = {"source": "path", "name": "model"}
    raw["ingest"] |= {name: [{"data": f"{name}.parquet", "text": "text", "id": "id"}] for name in ("corpus", "heldout", "general")}
    raw["ingest"] |= {"workers": 1, "other": []}
    raw["tasks"] = {"section": raw["tasks"]["section"] | {"data": "section.parquet", "max_length": 32, "max_train_rows": 96}}
    raw["tasks"]["section"] |= {"max_dev_rows": 64, "max_test_rows": 64}
    raw["encoders"] = {"adapted": raw["encoders"]["adapted"]}
    raw["probe"] = {"controls": ["scratch"], "rows": [20, 40], "draws": 2, "declared": {"rows": [20]}, "bootstrap_samples": 100}
    raw["runs"] |= {"single_seed_tasks": [], "seeds": [0]}
    raw["tokenize"] |= {"sequence_length": 64, "backend": "reference"}
    budget = {
        "tokens": 8 * 8 * 64,
        "head_warmup_tokens": 2 * 8 * 64,
        "batch_size": 8,
        "heldout_rows": 8,
        "checkpoint_every_s": 0.001,
    }
    raw["pretrain"] |= {
        **budget,
        "objectives": {"mlm": {}, "topics": {"topics": 20}},
        "retain_by": "loss",
        "retention": {"weight_average": {"shares": [0.5, 1.0]}},
    }
    raw["finetune"] |= {"epochs": 1, "checkpoint_every_s": 0.001}
    raw["evaluate"] |= {"bootstrap_samples": 100}
    raw["export"] |= {"latency_rounds": 1, "latency_batches": [1]}
    (directory / "params.yaml").write_text(json.dumps(raw), encoding="utf-8")  # JSON is YAML


def command(stage: str) -> list[str]:
    """Flags of a stage, with its record."""
    record = "artifacts/report-record.json" if stage == "report" else f"records/{stage}.json"
    return [*COMMANDS[stage].split(), "--record", record]


def outs(stage: str) -> list[Path]:
    """The outs of a stage, its record left out: it holds times."""
    words = COMMANDS[stage].split()
    return [Path(value) for flag, value in zip(words[::2], words[1::2], strict=True) if flag in ("--out", "--docs", "--scratch")]


def digests(paths: list[Path]) -> dict[str, str]:
    """MD5 of every file in the outs."""
    from acclimate.artifacts import file_md5

    return {str(file): file_md5(file) for path in paths for file in sorted(path.rglob("*")) if file.is_file()}


def run(stage: str) -> tuple[int, str]:
    """Run a stage as its command does; exit status and what it said on standard error."""
    from stages.command import main

    module = importlib.import_module(f"stages.{stage.partition('-')[0]}")
    sys.argv = [stage, *command(stage)]
    with os.fdopen(os.memfd_create("said"), "w+b") as said, _standard_error(said.fileno()):
        try:
            main(module.run, module.Params, trains=stage.startswith(("pretrain", "finetune")))
        except SystemExit as exit_:
            status = int(exit_.code or 0)
        except BaseException:  # noqa: BLE001 what Python would print
            sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
            status = 1
        said.seek(0)
        return status, said.read().decode()


@contextmanager
def _standard_error(descriptor: int) -> Iterator[None]:
    kept = os.dup(2)
    os.dup2(descriptor, 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)


class Disk:
    """A tmpfs whose size changes, at the place of /mnt in this process's own mount namespace."""

    directory = Path("/mnt")

    def __init__(self) -> None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1g,mode=755", "tmpfs", str(self.directory)], check=True)

    def remount(self, options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", str(self.directory)], check=True)

    @contextmanager
    def full_after(self, size: int) -> Iterator[None]:
        stat = os.statvfs(self.directory)
        self.remount(f"size={(stat.f_blocks - stat.f_bfree) * stat.f_frsize + size}")
        try:
            yield
        finally:
            self.remount("size=1g")


def try_stage(stage: str, disk: Disk, shares: list[float]) -> list[dict[str, Any]]:
    """Run a stage with each share of the bytes that it needs, and after each failure again with room."""
    status, said = run(stage)
    assert status == 0, said
    need = 2 * sum(file.stat().st_size for path in outs(stage) for file in path.rglob("*") if file.is_file()) + 32768
    tried = []
    for share in shares:
        before = digests(outs(stage))
        shutil.rmtree(".acclimate", ignore_errors=True)
        with disk.full_after(int(share * need)):
            status, said = run(stage)
        found = {"stage": stage, "share": share, "status": status, "said": _lines(said), "untouched": digests(outs(stage)) == before}
        found["left"] = [str(path) for path in Path("artifacts").rglob(".*.partial")]
        if status:
            again, found["again"] = run(stage)
            after = digests(outs(stage))
            found["same_bytes"] = again == 0 and (after.keys() == before.keys() if stage in TIMED else after == before)
        print(json.dumps(found), file=sys.stderr)
        tried.append(found)
    return tried


def _lines(said: str) -> list[str]:
    """Without the log, whose lines begin with the time and are not multiple."""
    return [line for line in said.splitlines() if not re.match(r"\d\d:\d\d:\d\d (INFO|WARNING) ", line)]


def try_libraries(disk: Disk) -> dict[str, str]:
    """What `disk_fault` finds behind each library's own error on a disk without room."""
    import numpy as np
    import onnx
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq
    import torch
    from safetensors.torch import save_file
    from tokenizers import Tokenizer

    from acclimate.artifacts import write_csv, write_json

    numbers = np.random.default_rng(0).random(100_000)
    rows = pa.table({"x": numbers})
    weights = {"x": torch.from_numpy(numbers)}
    tokenizer = Tokenizer.from_file("model/tokenizer.json")
    graph = onnx.ModelProto(doc_string="x" * 100_000)

    def torch_save() -> None:
        with Path("full").open("wb") as file:
            torch.save(weights, file)

    def sqlite() -> None:
        database = sqlite3.connect("full")
        with closing(database), database:
            database.execute("create table rows (x)")
            database.executemany("insert into rows values (?)", ((number,) for number in numbers.tolist()))

    writers: dict[str, Callable[[], object]] = {
        "torch": torch_save,
        "safetensors": lambda: save_file(weights, "full"),
        "tokenizers": lambda: tokenizer.save("full"),
        "numpy": lambda: np.save("full", numbers),
        "pyarrow": lambda: pq.write_table(rows, "full"),
        "pandas": lambda: pd.DataFrame({"x": numbers}).to_csv("full"),
        "onnx": lambda: onnx.save(graph, "full"),
        "sqlite": sqlite,
        "copy": lambda: shutil.copyfile("model/model.safetensors", "full"),
        "json": lambda: write_json(Path("full"), numbers.tolist()),
        "csv": lambda: write_csv(Path("full"), ["x"], ({"x": number} for number in numbers.tolist())),
    }
    return {name: _fault(write, disk) for name, write in writers.items()}


def _fault(write: Callable[[], object], disk: Disk) -> str:
    with disk.full_after(8192):
        try:
            write()
        except Exception as error:  # noqa: BLE001 each library has its own
            fault = disk_fault(error)
            found = repr(error) if fault is None else str(fault.strerror)
        else:
            found = "nothing was raised"
    for path in Path.cwd().glob("*full*"):
        path.unlink()
    return found


def try_read_only(disk: Disk) -> dict[str, list[str]]:
    """What a stage says on a read-only file system, and to a user who may not write."""
    disk.remount("ro")
    read_only = _lines(run("backbone")[1])
    disk.remount("rw")
    shutil.rmtree(".acclimate")
    receiving, sending = os.pipe()
    if not (child := os.fork()):
        try:
            os.setuid(65534)
            os.write(sending, json.dumps(_lines(run("backbone")[1])).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(sending)
    return {"read-only": read_only, "another user": json.loads(os.read(receiving, 1 << 16))}


def try_everything(shares: dict[str, list[float]]) -> dict[str, Any]:
    """Try the stages named, in the order of `COMMANDS`; one without shares is only run."""
    disk = Disk()
    os.chdir(disk.directory)
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{disk.directory}/mlflow.db"
    os.environ["TMPDIR"] = str(disk.directory / "tmp")
    (disk.directory / "tmp").mkdir()
    write_project(disk.directory)
    # The check before training asks for more than these stages take: here something else takes the room after it.
    shutil.disk_usage = lambda _path: shutil._ntuple_diskusage(1 << 40, 0, 1 << 40)  # type: ignore[attr-defined,assignment]
    python, tried = sys.executable, []
    for stage in COMMANDS:
        if stage in shares:
            # The process that sends records to MLflow imports it for seconds; only `register` waits for its answer.
            sys.executable = python if stage == "register" else "/bin/true"
            if stage == "ingest-workers":
                sys.executable = python
                Path("params.yaml").write_text(Path("params.yaml").read_text().replace('"workers": 1', '"workers": 2'))
            tried += try_stage(stage, disk, shares[stage])
        if stage == "backbone":  # before MLflow's database is opened, as it stays from `register` on
            not_writable = try_read_only(disk)
    return {"stages": tried, "libraries": try_libraries(disk), "not writable": not_writable}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    print(json.dumps(try_everything(json.loads(sys.argv[1]))))
