"""Reports about models, in public, as small cases: each stage is run as `dvc.yaml` runs it, on a tiny encoder with random weights.

The tables (tests/cases/model-*) are invented: `price` has numbers of 126,000 to 1,034,000, `topic` three labels; 90 rows
train, 30 dev, 30 test.
"""

from __future__ import annotations

import copy
import csv
import json
import logging
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import mlflow
import numpy as np
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import transformers
from safetensors.torch import load_file

from acclimate import cli
from acclimate.adapters import tracking
from acclimate.adapters.gates import read_candidate
from acclimate.adapters.options import GatesConfig
from acclimate.adapters.registry import register
from acclimate.config import Config, parse_config
from acclimate.data.tokens.encoding import load_tokenizer
from acclimate.errors import ConfigError, ModelError
from acclimate.evaluation.overfitting import overfits, read_losses
from acclimate.params_file import read_yaml
from acclimate.sinks import MemorySink
from stages import backbone, export, finetune, pretrain, tokenize
from stages.command import StageContext, select_params
from tests.parity.test_elsewhere import write_tokenizer
from tests.tiny_models import write_tiny_model

ROOT = Path(__file__).parents[2]
TOPIC, PRICE = ROOT / "tests/cases/model-topic/topic.csv", ROOT / "tests/cases/model-price/price.csv"
TASKS = {
    "topic": {"kind": "classification", "data": "topic.csv", "label": "label", "max_length": 32},
    "price": {"kind": "regression", "data": "price.csv", "label": "price", "max_length": 32},
}
pytestmark = pytest.mark.filterwarnings("ignore:.*AnyType:UserWarning")  # MLflow's own on importing it


def config_of(name: str, *, task: dict[str, Any] | None = None, **changes: dict[str, Any]) -> Config:
    """The project's params.yaml with one task; `task` overrides its keys, and `changes` those of the sections."""
    raw = copy.deepcopy(read_yaml(ROOT / "params.yaml"))
    raw |= {"tasks": {name: {**TASKS[name], **(task or {})}}, "probe": {}, "export": {"tasks": [name]}}
    raw["runs"] = {"tasks": [name], "encoders": ["base"], "recipes": ["full"], "seeds": [0]}
    raw["runs"]["reference"] = {"encoder": "base", "recipe": "full"}
    raw["finetune"] |= {"epochs": 1, "batch_size": 8, "precision": "fp32"}
    raw["pretrain"] |= {"objectives": {"mlm": {"rate": 0.2}}}
    for section, values in changes.items():
        raw[section] |= values
    return parse_config(raw, file=Path("params.yaml"))


def run(stage: ModuleType, config: Config, directory: Path, out: Path, **arguments: Any) -> StageContext:
    """A stage with its params out of the whole, as the command runs it."""
    out.mkdir(parents=True, exist_ok=True)
    context = StageContext(stage.__name__, MemorySink(), directory / "checkpoints" / out.name, lambda: None)
    stage.run(select_params(config, stage.Params, arguments), **arguments, out=out, context=context)
    return context


def write_model(
    directory: Path, model_type: str = "bert", *, style: str = "uncased", said: dict[str, Any] | None = None, **sizes: Any
) -> Path:
    """A tiny model with its head, as `save_pretrained` leaves it."""
    directory.mkdir(parents=True)
    write_tiny_model(model_type, directory, **sizes)
    write_tokenizer(directory, style)
    if said:
        (directory / "tokenizer_config.json").write_text(json.dumps(said))
    return directory


def taken_in(directory: Path, model: Path) -> Path:
    """The stage `backbone`."""
    config = config_of("topic", model={"source": "path", "name": str(model), "subfolder": "", "sha256": None})
    (directory / "scratch").mkdir(exist_ok=True)
    run(backbone, config, directory, directory / "base", corpus=directory, heldout=directory, scratch=directory / "scratch")
    return directory / "base"


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def write_table(directory: Path, task: str, *, metric: str) -> Path:
    """A table as `ingest` leaves it."""
    label, rows = TASKS[task]["label"], rows_of(TOPIC if task == "topic" else PRICE)
    labels = sorted({row[label] for row in rows}) if task == "topic" else None
    table = directory / "tables" / task
    table.mkdir(parents=True)
    for split in ("train", "dev", "test"):
        kept = [row for row in rows if row["split"] == split]
        values = [row[label] if labels else float(row[label]) for row in kept]
        columns = {name: [row[name] for row in kept] for name in ("id", "text")}
        pq.write_table(pa.table({**columns, "label": values}), table / f"{split}.parquet")
    schema = {"name": task, "kind": TASKS[task]["kind"], "labels": labels, "pair": False, "metric": metric, "options": {}}
    (table / "schema.json").write_text(json.dumps(schema))
    return table


def fine_tuned(directory: Path, config: Config, encoder: Path, table: Path) -> Path:
    """The stage `finetune` of the base encoder; its record is record.json."""
    names = {"task": table.name, "encoder_name": "base", "recipe": "full", "seed": 0}
    out = directory / "finetune" / "base-full-0"
    context = run(finetune, config, directory, out, **names, encoder=encoder, table=table, verdict=directory)
    (directory / "record.json").write_text(json.dumps(context.record))
    return out


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    return taken_in(tmp_path, write_model(tmp_path / "model"))


@pytest.mark.parametrize(("epochs", "rate", "expected"), [(30, 2e-3, True), (3, 1e-5, False)])
def test_a_run_that_learns_noise_overfits_and_one_that_barely_learns_does_not(
    epochs: int, rate: float, expected: bool, encoder: Path, tmp_path: Path
) -> None:
    """Labels that say nothing about the texts can only be learnt by heart."""
    table = write_table(tmp_path, "topic", metric="macro_f1")
    generator = np.random.default_rng(0)
    for split in ("train", "dev"):
        rows = pq.read_table(table / f"{split}.parquet").to_pydict()
        pq.write_table(pa.table(rows | {"label": generator.permutation(rows["label"]).tolist()}), table / f"{split}.parquet")
    config = config_of("topic", finetune={"epochs": epochs, "learning_rate": rate, "head_learning_rate": rate, "dropout": 0.0})
    losses = read_losses(fine_tuned(tmp_path, config, encoder, table))
    assert losses is not None
    assert len(losses.by_epoch) == epochs
    assert overfits([losses]) == expected


def test_accumulation_has_no_part_in_looking_at_few_dev_rows(encoder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """90 training rows are 12 batches of 8, an accumulated step takes 8 of them; the 30 dev rows are 4."""
    config = config_of("topic", finetune={"accumulation": 8})
    with caplog.at_level(logging.WARNING):
        out = fine_tuned(tmp_path, config, encoder, write_table(tmp_path, "topic", metric="macro_f1"))
    fit = json.loads((out / "metrics.json").read_text())["fit"]
    assert fit.keys() == {"train_loss", "dev_loss", "dev_loss_at_end", "dev_loss_error"}
    assert np.isfinite(list(fit.values())).all()
    assert "training rows" not in caplog.text
    fewer = config_of("topic", finetune={"batch_size": 64, "accumulation": 2})
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        fine_tuned(tmp_path / "again", fewer, encoder, tmp_path / "tables" / "topic")
    assert "training rows" not in caplog.text  # 64 is more than the dev rows, not than the training rows


@pytest.mark.parametrize(("metric", "best"), [("rmse", min), ("pearson", max)])
def test_early_stopping_brings_the_best_weights_back_whichever_way_is_better(metric: str, best: Any, encoder: Path, tmp_path: Path) -> None:
    config = config_of("price", task={"metric": metric}, finetune={"epochs": 8, "learning_rate": 1e-3, "health": {"patience": 2}})
    table = write_table(tmp_path, "price", metric=metric)
    out = fine_tuned(tmp_path, config, encoder, table)
    history, record = rows_of(out / "history.csv"), json.loads((tmp_path / "record.json").read_text())
    looks = {row["step"]: float(row[f"dev/{metric}"]) for row in history if row.get(f"dev/{metric}")}
    assert len(looks) >= 2
    kept = json.loads((out / "metrics.json").read_text())["dev"][metric]
    assert kept == pytest.approx(best(looks.values()), rel=1e-4)
    assert looks[str(record["best_step"])] == best(looks.values())


def test_a_regression_of_large_numbers_is_exported_and_registered_and_its_answers_join(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logits of 5e5 differ by 0.03 between two runtimes: a tenth of a millionth of their spread."""
    monkeypatch.chdir(tmp_path)
    config = config_of("price", export={"latency_rounds": 1, "quantize": [], "max_logit_difference": 1e-4})
    table = write_table(tmp_path, "price", metric="pearson")
    out = fine_tuned(tmp_path, config, encoder, table)
    places = {"finetune": tmp_path / "finetune", "table": table, "verdict": tmp_path}
    run(export, config, tmp_path, Path("export"), task="price", **places)
    told = json.loads(Path("export/metrics.json").read_text())
    assert told["variants"]["fp32"]["max_logit_difference"] < 1e-5
    assert told["test_rows"]["rows"] == 30
    texts, unit = pq.read_table(table / "test.parquet")["text"].to_pylist(), json.loads(Path("export/parity.json").read_text())["unit"]
    given = transformers.AutoTokenizer.from_pretrained("export")(texts, padding=True, truncation=True, max_length=32, return_tensors="np")
    answers = onnxruntime.InferenceSession("export/model.onnx").run(None, {name: given[name].astype(np.int64) for name in given})[0]
    trained = pq.read_table(out / "predictions.parquet", filters=[("split", "=", "test")])["prediction"].to_pylist()
    np.testing.assert_allclose(answers / unit, np.array(trained) / unit, rtol=0, atol=1e-5)
    Path("evaluate").mkdir()
    Path("evaluate/metrics.json").write_text(json.dumps({"price": {"metric": "pearson", "baseline": {}, "calibration_error": None}}))
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    client = tracking.connect(uri)
    run_id = client.create_run(client.create_experiment("toy", artifact_location=f"{tracking.artifact_root(uri)}/toy")).info.run_id
    candidate = read_candidate("price", Path("export"), Path("evaluate"))
    stored = {"export": Path("export"), "evaluate": Path("evaluate"), "model_name": "case", "uri": uri, "run_id": run_id}
    assert register(candidate, GatesConfig(min_metric=-1.0), **stored, table=table).aliases == ["challenger", "champion"]
    mlflow.set_tracking_uri(uri)
    model = mlflow.pyfunc.load_model("models:/case-price@champion")
    rows = pq.read_table(table / "test.parquet").to_pandas()
    one_by_one = [model.predict([text])["score"].iloc[0] for text in rows["text"][:5]]
    turned = rows[:5].iloc[::-1].copy()
    turned["answer"] = model.predict(turned[["text"]])["score"]
    np.testing.assert_allclose(turned.sort_index()["answer"], one_by_one, rtol=1e-6)


@pytest.mark.parametrize("pooling", ["mean", "first"])
def test_a_fine_tuned_directory_says_what_it_is_to_transformers(pooling: str, encoder: Path, tmp_path: Path) -> None:
    table = write_table(tmp_path, "topic", metric="macro_f1")
    out = fine_tuned(tmp_path, config_of("topic", task={"pooling": pooling}), encoder, table)
    settings = transformers.AutoConfig.from_pretrained(out)
    labels = json.loads((table / "schema.json").read_text())["labels"]
    assert settings.id2label == dict(enumerate(labels))
    assert (settings.num_labels, settings.problem_type) == (len(labels), "single_label_classification")
    if pooling == "mean":
        with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
            transformers.AutoModelForSequenceClassification.from_pretrained(out)
        return
    model = transformers.AutoModelForSequenceClassification.from_pretrained(out).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    texts = pq.read_table(table / "test.parquet")["text"].to_pylist()
    ours = [row["prediction"] for row in pq.read_table(out / "predictions.parquet").to_pylist() if row["split"] == "test"]
    with torch.inference_mode():
        theirs = model(**tokenizer(texts, padding=True, truncation=True, return_tensors="pt")).logits
    np.testing.assert_allclose(theirs.numpy(), ours, rtol=0, atol=1e-5)


def test_a_cased_tokenizer_stays_cased_wherever_it_goes(tmp_path: Path) -> None:
    said = {"tokenizer_class": "BertTokenizer", "do_lower_case": False, "pad_token": "[PAD]", "model_max_length": 48}
    model = write_model(tmp_path / "model", style="cased", said=said)
    base = taken_in(tmp_path, model)
    task = fine_tuned(tmp_path, config_of("topic"), base, write_table(tmp_path, "topic", metric="macro_f1"))
    text = "A Graphical Editor by GNU"
    expected = load_tokenizer(model).encode(text).ids
    assert expected != load_tokenizer(model).encode(text.lower()).ids
    for place, most in ((base, 48), (task, 32)):
        tokenizer = transformers.AutoTokenizer.from_pretrained(place)
        assert tokenizer(text)["input_ids"] == expected
        assert (tokenizer.pad_token, tokenizer.model_max_length) == ("[PAD]", most)


def tokens_of(directory: Path, config: Config, base: Path) -> Path:
    """The stage `tokenize` of a corpus of the cases' texts."""
    texts = [row["text"] for path in (TOPIC, PRICE) for row in rows_of(path)] * 3
    for name, part in (("corpus", texts[100:]), ("heldout", texts[:100]), ("general", texts[:100]), ("other", [])):
        ids = pa.array([str(row) for row in range(len(part))], pa.string())
        pq.write_table(pa.table({"text": pa.array(part, pa.string()), "id": ids}), directory / f"{name}.parquet")
    run(tokenize, config, directory, directory / "tokens", ingest=directory, encoder=base, verdict=directory)
    return directory / "tokens"


PRETRAIN = {"tokens": 4096, "head_warmup_tokens": 1024, "batch_size": 8, "heldout_rows": 8, "evaluations": 1}


@pytest.mark.parametrize("model_type", ["bert", "modernbert", "deberta-v2"])
def test_an_encoder_with_padded_embeddings_is_pretrained_and_fine_tuned(model_type: str, tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", model_type, vocab_size=192)
    assert load_tokenizer(model).get_vocab_size() <= 120
    config, base = config_of("topic", pretrain=PRETRAIN, tokenize={"sequence_length": 32}), taken_in(tmp_path, model)
    run(pretrain, config, tmp_path, tmp_path / "mlm", encoder_name="adapted", tokens=tokens_of(tmp_path, config, base), start_from=base)
    losses = json.loads((tmp_path / "mlm" / "metrics.json").read_text())["heldout_loss"]
    assert losses["end"] < losses["start"]
    assert Counter(tensor.shape[0] for tensor in load_file(tmp_path / "mlm" / "model.safetensors").values())[192] == 1
    fine_tuned(tmp_path, config, tmp_path / "mlm", write_table(tmp_path, "topic", metric="macro_f1"))


def test_a_checkpoint_in_several_files_is_taken_in(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    whole = transformers.AutoModelForMaskedLM.from_pretrained(model)
    (model / "model.safetensors").unlink()
    whole.save_pretrained(model, max_shard_size="20KB")
    assert len(list(model.glob("model-*.safetensors"))) > 2
    assert not (model / "model.safetensors").exists()
    weights = load_file(taken_in(tmp_path, model) / "model.safetensors")
    assert all(torch.equal(weights[name], tensor) for name, tensor in whole.state_dict().items() if name in weights)
    fine_tuned(tmp_path, config_of("topic"), tmp_path / "base", write_table(tmp_path, "topic", metric="macro_f1"))


@pytest.mark.parametrize(("model_type", "most"), [("bert", 29), ("roberta", 27), ("distilbert", 29), ("modernbert", None)])
def test_texts_and_rows_longer_than_the_positions_are_refused_before_anything_is_trained(
    model_type: str, most: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_model(tmp_path / "model", model_type, style="bytes" if model_type == "roberta" else "uncased", max_position_embeddings=29)
    raw = copy.deepcopy(read_yaml(ROOT / "params.yaml"))
    raw |= {"model": {"source": "path", "name": str(model)}, "tokenize": {"sequence_length": 64}}
    (tmp_path / "params.yaml").write_text(json.dumps(raw))
    monkeypatch.chdir(tmp_path)
    status, said = cli.main(["check"]), capsys.readouterr().err
    if most is None:
        assert status == 0
        return
    assert status == 1
    for key in ("tokenize.sequence_length", "tasks.section.max_length", "tasks.entities.max_length"):
        line = f"{key}: 64 tokens, but the positions of the encoder (model_type {model_type}) end at {most}; set it to {most} or less"
        assert line in said
    config, base = config_of("topic", pretrain=PRETRAIN, tokenize={"sequence_length": most + 1}), taken_in(tmp_path, model)
    with pytest.raises(ModelError, match=rf"tasks.topic.max_length: 32 tokens, .* end at {most}"):
        fine_tuned(tmp_path, config, base, write_table(tmp_path, "topic", metric="macro_f1"))
    tokens = tokens_of(tmp_path, config, base)
    with pytest.raises(ModelError, match=rf"tokenize.sequence_length: {most + 1} tokens, .* end at {most}"):
        run(pretrain, config, tmp_path, tmp_path / "mlm", encoder_name="adapted", tokens=tokens, start_from=base)
    fits = config_of("topic", task={"max_length": most})
    fine_tuned(tmp_path / "fits", fits, base, tmp_path / "tables" / "topic")


def test_a_metric_that_the_kind_does_not_have_is_refused_by_check() -> None:
    with pytest.raises(ConfigError, match=r"tasks.price: 'mae' is not one of the metrics of kind regression.*pearson, spearman, rmse"):
        config_of("price", task={"metric": "mae"})
    with pytest.raises(ConfigError, match=r"tasks.topic: 'rmse' is not one of the metrics of kind classification"):
        config_of("topic", task={"metric": "rmse"})
