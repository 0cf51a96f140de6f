"""The whole pipeline on the tiny profile, as a user runs it: `dvc repro` in a fresh project."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from acclimate.artifacts import dvc_md5

ROOT = Path(__file__).parents[2]


def run(project: Path, *command: str) -> str:
    """Run a command of this environment in the project; its output when it succeeds."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(project / "src")}
    for name in ("MLFLOW_TRACKING_URI", "ACCLIMATE_SESSION", "DVC_STAGE", "DVC_ROOT"):
        environment.pop(name, None)
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the committed project with the tiny profile applied and the pipeline run once."""
    directory = tmp_path_factory.mktemp("project")
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True
    )
    for name in names.stdout.decode().split("\0"):
        if name and name != "dvc.lock" and (ROOT / name).is_file():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, directory / name)
    run(directory, "git", "init", "-q")
    run(directory, "git", "add", ".")
    run(directory, "git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-q", "-m", "start")
    run(directory, "acclimate", "profile", "tiny")
    run(directory, "dvc", "repro")
    return directory


def lock(project: Path) -> dict[str, dict[str, list[dict[str, str]]]]:
    from acclimate.params_file import read_yaml

    stages: dict[str, dict[str, list[dict[str, str]]]] = read_yaml(project / "dvc.lock")["stages"]
    return stages


def test_everything_that_was_promised_is_there(project: Path) -> None:
    for name in (
        "artifacts/report/report.html",
        "artifacts/report/summary.txt",
        "reports/data_docs/index.html",
        "artifacts/export/section/model.onnx",
        "artifacts/register/section/registration.json",
        "mlflow.db",
    ):
        assert (project / name).is_file(), name


def test_our_digests_are_those_of_dvc(project: Path) -> None:
    compared = 0
    for stage in lock(project).values():
        for out in stage["outs"]:
            assert dvc_md5(project / out["path"]) == out["md5"], out["path"]
            compared += 1
    assert compared > 10


def test_every_stage_leads_to_a_finished_run_with_the_hash_of_its_bytes(project: Path) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    parents = set()
    for record_path in (project / "records").rglob("*.json"):
        record = json.loads(record_path.read_text())
        stored = client.get_run(record["run_id"])
        assert stored.info.status == "FINISHED", record["stage"]
        parents.add(stored.data.tags["mlflow.parentRunId"])
        for path, md5 in record["outs_md5"].items():
            assert stored.data.tags[f"dvc.out.{path}"] == md5
    assert len(parents) == 1
    assert client.get_run(parents.pop()).info.status == "FINISHED"


def test_a_second_run_runs_no_stage(project: Path) -> None:
    assert "Data and pipelines are up to date" in run(project, "dvc", "status")
    assert "Running stage" not in run(project, "dvc", "repro")


def test_the_registered_model_labels_raw_text_as_torch_does(project: Path, tmp_path: Path) -> None:
    registration = json.loads((project / "artifacts/register/section/registration.json").read_text())
    code = f"""
import mlflow, json
mlflow.set_tracking_uri("sqlite:///{project / "mlflow.db"}")
model = mlflow.pyfunc.load_model("models:/{registration["name"]}/{registration["version"]}")
found = model.predict(["a text editor for programmers", "arcade game with racing cars"])
print(json.dumps(found["label"].tolist()))
"""
    labels = json.loads(run(tmp_path, sys.executable, "-c", code).strip().splitlines()[-1])
    chosen = json.loads((project / "artifacts/export/section/chosen.json").read_text())
    assert labels == torch_labels(project / f"artifacts/finetune/section/{chosen['encoder']}-{chosen['recipe']}-{chosen['seed']}")


def changed(project: Path) -> set[str]:
    """The stages that would run, after the stage `code` has looked at the code."""
    run(project, "dvc", "repro", "code")
    return set(json.loads(run(project, "dvc", "status", "--json").splitlines()[-1]))


@pytest.mark.parametrize(
    ("file", "stages"),
    [
        ("strategies/lora.py", set()),
        ("strategies/mine.py", set()),
        ("strategies/full.py", {"finetune@section-base-full-0", "finetune-once@entities-adapted-full-0", "export@section"}),
        ("retention/weight_average.py", {"pretrain@adapted", "retain@adapted"}),
        ("report/page.py", {"report"}),
    ],
)
def test_a_change_of_a_method_runs_what_uses_it_alone(project: Path, file: str, stages: set[str]) -> None:
    path = project / "src/acclimate" / file
    before = path.read_text() if path.exists() else None
    path.write_text((before or "") + "# changed\n")
    try:
        found = changed(project)
        assert stages <= found
        assert {name.partition("@")[0].removesuffix("-once") for name in found} == {
            name.partition("@")[0].removesuffix("-once") for name in stages
        }
    finally:
        path.write_text(before) if before else path.unlink()
    assert changed(project) == set()


def test_the_stages_wait_for_the_code_also_where_its_lock_is_not_there_yet(project: Path) -> None:
    (project / "code.lock.yaml").rename(project / "kept.yaml")
    code = "from pathlib import Path\nfrom flows.graph import read_graph\n"
    code += "print(all('code' in node.upstream for node in read_graph(Path()) if node.name != 'code'))"
    assert run(project, sys.executable, "-c", code).splitlines()[-1] == "True"
    (project / "kept.yaml").rename(project / "code.lock.yaml")


def torch_labels(directory: Path) -> list[str]:
    import torch

    from acclimate.data.tokens.encoding import encode_texts, load_tokenizer
    from acclimate.training.inference import predict_logits
    from acclimate.training.precision import resolve_precision
    from acclimate.training.task_model import load_task_model

    model = load_task_model(directory)
    texts = ["a text editor for programmers", "arcade game with racing cars"]
    encoded = encode_texts(load_tokenizer(directory), texts, max_length=model.spec.max_length)
    logits = predict_logits(model, encoded, precision=resolve_precision("fp32", torch.device("cpu")))
    assert model.spec.labels is not None
    return [model.spec.labels[int(row.argmax())] for row in logits]


def test_a_changed_learning_rate_runs_fine_tuning_and_what_follows_only(project: Path) -> None:
    run(
        project,
        sys.executable,
        "-c",
        "import pathlib; p = pathlib.Path('params.yaml'); s = p.read_text()\n"
        "p.write_text(s.replace('\\n  learning_rate: ', '\\n  learning_rate: 1'))",
    )
    output = run(project, "dvc", "repro", "--dry")
    ran = {line.split("'")[1].split("@")[0] for line in output.splitlines() if line.startswith("Running stage")}
    assert "finetune" in ran
    assert not ran & {"backbone", "ingest", "validate", "tokenize", "pretrain", "retain"}
    run(project, "git", "checkout", "params.yaml")
    run(project, "acclimate", "profile", "tiny")
