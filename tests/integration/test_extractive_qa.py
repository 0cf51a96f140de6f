"""Extractive question answering on Debian's descriptions, from a table to a registered model that answers raw text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from acclimate import artifacts
from acclimate.adapters import tracking
from acclimate.backbones.loading import load_backbone
from acclimate.config import Config, parse_config
from acclimate.data.labelled import read_schema, read_split
from acclimate.evaluation.probes import layer_statistics
from acclimate.params_file import read_yaml
from acclimate.sinks import MemorySink
from stages import evaluate, export, finetune, ingest, register, validate
from stages.command import StageContext, select_params

# MLflow's and Great Expectations' own on importing them.
pytestmark = [pytest.mark.filterwarnings("ignore:.*AnyType:UserWarning"), pytest.mark.filterwarnings("ignore::DeprecationWarning")]

ROOT = Path(__file__).parents[2]
NAME = "does"
TASK: dict[str, Any] = {
    "kind": "extractive_qa",
    "data": "questions.jsonl",
    "id": "id",
    "dev_share": 0.2,
    "test_share": 0.2,
    "unanswerable": True,
    "max_length": 48,
    "overlap": 0.25,
}


def write_questions(path: Path, *, num_contexts: int) -> None:
    """Three questions on each three descriptions: what two of the packages do, and what one does that is not among them."""
    rows = pq.read_table(ROOT / "data/debian/section.parquet", columns=["package", "source", "text"]).to_pylist()
    first = {row["source"]: row for row in rows if "\n" in row["text"]}
    packages = [(row["package"], *row["text"].split("\n", 1)) for row in first.values()][: 3 * num_contexts + 1]
    lines = []
    for number in range(num_contexts):
        chosen = packages[3 * number : 3 * number + 3]
        context, starts = "", []
        for package, does, more in chosen:
            context += f"{package}: "
            starts.append(len(context))
            context += f"{does}. {more[:120]}\n"
        for index, (package, does, _) in enumerate([*chosen[1:], packages[3 * number + 3]], start=1):
            answers = {"text": [does], "answer_start": [starts[index]]} if index < 3 else {"text": [], "answer_start": []}
            lines.append({"id": f"{number}-{index}", "question": f"What does {package} do?", "context": context, "answers": answers})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def configured(store: str) -> Config:
    """The project's own params with one small task."""
    raw = read_yaml(ROOT / "params.yaml")
    corpus = [{"data": "corpus.parquet", "text": "text", "id": "id"}]
    raw["ingest"] |= {"corpus": corpus, "heldout": [], "general": [], "other": [], "workers": 1, "heldout_share": 0.2}
    raw["tasks"] = {NAME: TASK}
    raw["runs"] |= {"tasks": [NAME], "single_seed_tasks": [], "encoders": ["base"], "seeds": [0]}
    raw["finetune"] |= {"epochs": 1, "precision": "fp32"}
    raw |= {"probe": {}, "encoders": {}}
    raw["export"] |= {"tasks": [NAME], "latency_rounds": 2}
    raw["evaluate"] |= {"bootstrap_samples": 100}
    raw["tracking"] |= {"uri": store}
    return parse_config(raw, file=Path("params.yaml"))


def run(config: Config, stage: Any, *, run_id: str | None = None, **arguments: Any) -> StageContext:
    """Run a stage as its command does, without tracker and record."""
    outs = [path for name, path in arguments.items() if name in ("out", "docs")]
    for out in outs:
        out.mkdir(parents=True)
    context = StageContext(stage.__name__, MemorySink(), Path("checkpoints"), lambda: run_id)
    stage.run(select_params(config, stage.Params, {"task": None, **arguments}), **arguments, context=context)
    return context


@pytest.mark.slow
def test_from_a_table_to_a_registered_model_that_answers_raw_text(
    tiny_encoder_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    monkeypatch.chdir(tmp_path)
    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    Path("data").mkdir()
    write_questions(Path("data/questions.jsonl"), num_contexts=40)
    texts = pq.read_table(ROOT / "data/debian/corpus.parquet", columns=["text"])["text"].to_pylist()[:60]
    pq.write_table(pa.table({"id": [str(row) for row in range(60)], "text": texts}), "data/corpus.parquet")
    config = configured(store)
    tables, table, verdict = Path("ingest/tables"), Path("ingest/tables", NAME), Path("validate/verdict.json")
    run(config, ingest, data=Path("data"), out=Path("ingest"))
    contexts = {split: set(pq.read_table(table / f"{split}.parquet")["context"].to_pylist()) for split in ("train", "dev", "test")}
    assert not contexts["train"] & (contexts["dev"] | contexts["test"])
    run(config, validate, ingest=Path("ingest"), tokenizer=tiny_encoder_dir / "tokenizer.json", out=Path("validate"), docs=Path("docs"))

    places = {"encoder": tiny_encoder_dir, "table": table, "verdict": verdict}
    variant = {"encoder_name": "base", "recipe": "full", "seed": 0}
    finetuned = run(config, finetune, task=NAME, **variant, **places, out=Path("finetune", NAME, "base-full-0"))
    assert set(finetuned.final_metrics) == {f"{split}/{metric}" for split in ("dev", "test") for metric in ("f1", "exact_match")}
    run(config, evaluate, finetune=Path("finetune"), ingest_tables=tables, verdict=verdict, out=Path("evaluate"))
    assert artifacts.read_json(Path("evaluate/baselines.json"))[NAME]["test"]["f1"] > 0
    run(config, export, task=NAME, finetune=Path("finetune", NAME), table=table, verdict=verdict, out=Path("export"))
    measured = artifacts.read_json(Path("export/metrics.json"))
    assert measured["against_finetuning"]["label_flips"] == measured["variants"]["fp32"]["label_flips"] == 0
    assert measured["against_finetuning"]["max_logit_difference"] < 1e-4  # serving's rows are training's

    experiment = tracking.connect(store).create_experiment("questions", artifact_location=str(tmp_path / "models"))
    run_id = tracking.connect(store).create_run(experiment).info.run_id
    judged = {"export": Path("export"), "evaluate": Path("evaluate"), "table": table}
    registered = run(config, register, run_id=run_id, task=NAME, **judged, out=Path("register"))
    assert registered.artifacts == [Path("register/registration.json")]
    mlflow.set_tracking_uri(store)
    model = mlflow.pyfunc.load_model(artifacts.read_json(Path("register/registration.json"))["model_uri"])
    context = "grep: searches files for lines. " * 40 + "less: shows a file page by page."
    answers = model.predict([{"question": "What does less do?", "context": context}, {"question": "And grep?", "context": "grep: greps"}])
    assert list(answers.columns) == ["answer", "start", "end", "score"]
    for asked, answer in zip([context, "grep: greps"], answers.to_dict("records"), strict=True):
        assert answer["answer"] == (asked[answer["start"] : answer["end"]] if answer["start"] >= 0 else "")
    with pytest.raises(mlflow.MlflowException, match="context"):
        model.predict([{"question": "What does less do?"}])

    train, dev = (read_split(table, split, encoder=tiny_encoder_dir, max_length=TASK["max_length"]) for split in ("train", "dev"))
    assert len(train.encoded.lengths) > 2 * len(train.ids)  # windows
    probed = layer_statistics(load_backbone(tiny_encoder_dir), read_schema(table), train, [dev], layers=[-1])
    assert probed[0][0].per_row.shape == (len(dev.ids), 2)
