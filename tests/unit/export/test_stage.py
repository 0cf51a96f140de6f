"""The stage `export` from fine-tuned runs to a directory that can be deployed."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from acclimate.backbones.loading import load_backbone
from acclimate.data.tokens.encoding import encode_texts, encode_words, load_tokenizer
from acclimate.errors import DataError, ModelError
from acclimate.export.options import ExportConfig
from acclimate.export.predictor import Predictor
from acclimate.sinks import MemorySink
from acclimate.training.inference import predict_logits
from acclimate.training.options import RunsConfig, Variant
from acclimate.training.precision import resolve_precision
from acclimate.training.task_model import TaskModel, TaskSpec, save_task_model
from stages.command import StageContext
from stages.export import Params, run

TEXTS = ["a text editor", "plays music", "a longer description of an image viewer for the desktop"]
WORDS = [["run", "grep", "."], ["see", "/etc/passwd"], ["no", "\u200b", "command", "here"]]
TABLES = {
    "classification": (["a", "b", "c"], [0, 1, 2], "macro_f1"),
    "tagging": (["O", "B-CMD", "I-CMD"], [[0, 1, 0], [0, 0], [0, 0, 0, 0]], "entity_f1"),
}


def make_inputs(directory: Path, encoder: Path, kind: str) -> tuple[Path, Path]:
    """A task's ingested table and its fine-tuned runs, as the stages before would leave them."""
    labels, gold, metric = TABLES[kind]
    table, finetune = directory / "table", directory / "finetune"
    table.mkdir()
    schema = {"name": "toy", "kind": kind, "labels": labels, "pair": False, "metric": metric}
    (table / "schema.json").write_text(json.dumps(schema))
    ids = ["x", "y", "z"]
    column = {"words": WORDS} if kind == "tagging" else {"text": TEXTS}
    pq.write_table(pa.table({"id": ids, **column}), table / "test.parquet")
    tokenizer = load_tokenizer(encoder)
    encoded = encode_words(tokenizer, WORDS, max_length=16) if kind == "tagging" else encode_texts(tokenizer, TEXTS, max_length=16)
    for seed, (name, dev) in enumerate({"base": 0.4, "mlm": 0.6}.items()):
        spec = TaskSpec(**schema, pooling="mean", max_length=16, encoder=name, seed=0, hidden_size=32, num_outputs=len(labels))
        torch.manual_seed(seed)
        model = TaskModel(load_backbone(encoder), spec)
        out = finetune / f"{name}-full-0"
        out.mkdir(parents=True)
        save_task_model(model, encoder, out)
        logits = predict_logits(model, encoded, precision=resolve_precision("fp32", torch.device("cpu")))
        columns = {"split": ["test"] * 3, "id": ids, "gold": gold, "prediction": [row.ravel().tolist() for row in logits]}
        pq.write_table(pa.table(columns), out / "predictions.parquet")
        (out / "metrics.json").write_text(json.dumps({"dev": {metric: dev}}))
    return table, finetune


def export(directory: Path, table: Path, finetune: Path, **options) -> StageContext:
    out = directory / "out"
    out.mkdir()
    context = StageContext("export@toy", MemorySink(), directory / "checkpoints", lambda: None)
    params = Params(
        export=ExportConfig(tasks=["toy"], latency_batches=[1, 2], latency_rounds=2, **options),
        runs=RunsConfig(
            tasks=["toy"], encoders=["base", "mlm"], recipes=["full"], seeds=[0], reference=Variant(encoder="base", recipe="full")
        ),
    )
    run(params, task="toy", finetune=finetune, table=table, verdict=directory / "verdict", out=out, context=context)
    return context


@pytest.mark.parametrize("kind", TABLES)
def test_stage_writes_a_directory_that_predicts_as_torch(kind, tiny_encoder_dir, tmp_path):
    table, finetune = make_inputs(tmp_path, tiny_encoder_dir, kind)
    context = export(tmp_path, table, finetune)
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir()} == {
        "model.onnx", "model.int8.onnx", "tokenizer.json", "task.json", "decode.py", "cleaning.py", "personal_data.py", "metrics.json",
        "chosen.json", "parity.json",
    }  # fmt: skip
    assert json.loads((out / "chosen.json").read_text()) == {
        "encoder": "mlm",
        "recipe": "full",
        "seed": 0,
        "variant": "fp32",
        "file": "model.onnx",
    }
    metrics = json.loads((out / "metrics.json").read_text())
    metric = TABLES[kind][2]
    assert metrics["metric"] == metric
    assert metrics["variants"]["fp32"]["label_flips"] == 0
    assert metrics["variants"]["fp32"]["max_logit_difference"] < 1e-5
    assert metrics["against_finetuning"]["label_flips"] == 0
    assert metrics["against_finetuning"]["max_logit_difference"] < 1e-5
    for variant in ("torch", "fp32", "int8"):
        assert set(metrics["variants"][variant]["latency_ms"]) == {"1", "2"}
        assert f"{variant}/{metric}" in context.final_metrics
    examples = json.loads((out / "parity.json").read_text())["examples"]
    assert [example["id"] for example in examples] == ["x", "y", "z"]
    predictor = Predictor.load(out)
    assert [example["prediction"] for example in examples] == predictor.predict([example["inputs"]["text"] for example in examples])


def test_export_that_computes_something_else_is_refused(tiny_encoder_dir, tmp_path):
    table, finetune = make_inputs(tmp_path, tiny_encoder_dir, "classification")
    with pytest.raises(ModelError, match=r"export of toy: logits differ from torch's by .* at example '[xyz]'"):
        export(tmp_path, table, finetune, max_logit_difference=1e-12)


def test_predictions_of_another_table_are_refused(tiny_encoder_dir, tmp_path):
    table, finetune = make_inputs(tmp_path, tiny_encoder_dir, "classification")
    pq.write_table(pa.table({"id": ["x"], "text": ["a text editor"]}), table / "test.parquet")
    with pytest.raises(DataError, match="its 3 test ids are not the 1 of"):
        export(tmp_path, table, finetune)
