"""A registered model answers raw text from anywhere, and `champion` moves only through the gates."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from acclimate import kinds
from acclimate.adapters import tracking
from acclimate.adapters.gates import read_candidate
from acclimate.adapters.options import GatesConfig
from acclimate.adapters.registry import _same, history, register, rollback
from acclimate.data.screening import texts
from acclimate.data.screening.options import CleaningConfig, PersonalDataConfig
from acclimate.errors import ModelError
from acclimate.evaluation.metrics import score
from acclimate.export.predictor import Predictor
from acclimate.export.reference import digest_of_rows, read_examples

# MLflow's own on importing it.
pytestmark = pytest.mark.filterwarnings("ignore:.*AnyType:UserWarning")

TEXTS = ["a text editor by ann@acme.org", "pl\u00c3\u00a9s <br /><br />music"]
LABELS = {"classification": ["red", "blue"], "multi_label": ["red", "blue"], "regression": None, "tagging": ["O", "B-CMD", "I-CMD"]}


def write_graph(path: Path, kind: str, num_outputs: int) -> None:
    """Logits are rows of a table by token id, averaged over the text unless the task tags words."""
    table = np.random.default_rng(0).normal(size=(30522, num_outputs)).astype(np.float32)
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["logits" if kind == "tagging" else "tokens"])]
    if kind != "tagging":
        nodes.append(helper.make_node("ReduceMean", ["tokens", "axes"], ["logits"], keepdims=0))
    shape = ["batch", "tokens", num_outputs] if kind == "tagging" else ["batch", num_outputs]
    graph = helper.make_graph(
        nodes,
        "toy",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"])
            for name in ("input_ids", "attention_mask", "token_type_ids")
        ],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(table, "table"), numpy_helper.from_array(np.array([1]), "axes")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)


def make_export(directory: Path, tokenizer: Path, kind: str, *, pair: bool = False, value: float = 0.6, rows: str = "rows") -> None:
    """What the stages `export` and `evaluate` leave for a task called toy."""
    export, evaluate = directory / "export", directory / "evaluate"
    for each in (export, evaluate):
        each.mkdir(exist_ok=True)
    labels, metric = LABELS[kind], kinds.table(kind).default_metric
    write_graph(export / "model.onnx", kind, len(labels or "1"))
    (export / "tokenizer.json").write_bytes(tokenizer.read_bytes())
    spec = {"name": "toy", "kind": kind, "labels": labels, "pair": pair, "metric": metric, "max_length": 16}
    spec["texts"] = texts.carried(CleaningConfig(), PersonalDataConfig(mode="redact"))
    (export / "task.json").write_text(json.dumps(spec))
    for file in (kinds.decode_file(kind), *texts.FILES):
        shutil.copyfile(file, export / file.name)
    (export / "chosen.json").write_text(
        json.dumps({"encoder": "mlm", "recipe": "full", "seed": 0, "variant": "fp32", "file": "model.onnx"})
    )
    variants = {"fp32": {"metric": {metric: value}, "latency_ms": {"1": 2.0, "8": 9.0}}}
    (export / "metrics.json").write_text(json.dumps({"variants": variants, "test_rows": {"sha256": rows, "rows": 2}}))
    pairs = TEXTS[::-1] if pair else None
    answers = Predictor.load(export).predict(TEXTS, pairs)
    examples = [
        {"id": str(row), "inputs": {"text": text, **({"text_pair": pairs[row]} if pairs else {})}, "prediction": answers[row]}
        for row, text in enumerate(TEXTS)
    ]
    (export / "parity.json").write_text(json.dumps({"examples": examples}))
    judged = {"toy": {"metric": metric, "baseline": {"tfidf": {metric: 0.5}}, "calibration_error": {"base-full": 0.2, "mlm-full": 0.1}}}
    (evaluate / "metrics.json").write_text(json.dumps(judged))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A registry in a file; its default experiment keeps artifacts beside it, as the tracker's does."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"
    tracking.connect(uri).create_experiment("toy", artifact_location=f"{tracking.artifact_root(uri)}/toy")
    return uri


@pytest.fixture
def register_export(store, minilm_dir, tmp_path, monkeypatch):
    """Register an export in a run of its own; give the registration back."""
    monkeypatch.chdir(tmp_path)
    client = tracking.connect(store)

    def make(
        name: str,
        kind: str = "classification",
        *,
        gates: GatesConfig | None = None,
        trial: dict[str, str] | None = None,
        table: Path | None = None,
        **options,
    ):
        make_export(tmp_path, minilm_dir / "tokenizer.json", kind, **options)
        export, evaluate = Path("export"), Path("evaluate")
        candidate = read_candidate("toy", export, evaluate)
        run_id = client.create_run("1").info.run_id
        places = {"export": export, "evaluate": evaluate, "model_name": name, "uri": store, "run_id": run_id}
        return register(candidate, gates or GatesConfig(min_metric=0.0), **places, table=table, trial=trial)

    return make


def test_a_checkout_outside_the_temporary_directory_registers_its_model(register_export, tmp_path_factory, monkeypatch):
    """MLflow refuses a link that leads out of the directory it copies from; TMPDIR is seldom above the checkout."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path_factory.mktemp("tmp")))
    assert register_export("outside").version == 1


def test_champion_answers_raw_text_in_another_directory_without_the_repository(register_export, store, tmp_path):
    registered = register_export("elsewhere")
    assert registered.aliases == ["challenger", "champion"]
    code = (
        "import json, mlflow, pandas as pd\n"
        "model = mlflow.pyfunc.load_model('models:/elsewhere-toy@champion')\n"
        f"texts = {TEXTS!r}\n"
        "frames = [model.predict(texts), model.predict(pd.DataFrame({'text': texts})), model.predict([{'text': text} for text in texts])]\n"
        "print(json.dumps([frame.to_dict('records') for frame in frames]))\n"
    )
    (tmp_path / "elsewhere").mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"MLFLOW_TRACKING_URI": store}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path / "elsewhere", env=environment, capture_output=True, text=True, check=True
    )
    expected = Predictor.load(tmp_path / "export").predict(TEXTS)
    for answers in json.loads(done.stdout.splitlines()[-1]):
        assert [answer["label"] for answer in answers] == [answer["label"] for answer in expected]
        assert answers[0]["probability"] == pytest.approx(expected[0]["probability"])


@pytest.mark.parametrize("kind", ["multi_label", "regression", "tagging"])
def test_every_kind_is_registered_and_predicts_what_was_exported(kind, register_export):
    assert register_export(kind, kind).version == 1  # register itself compares the answers


def test_a_task_on_pairs_takes_a_table_with_both_texts(register_export, store):
    import mlflow

    register_export("pairs", pair=True)
    mlflow.set_tracking_uri(store)
    model = mlflow.pyfunc.load_model("models:/pairs-toy@champion")
    answers = model.predict([{"text": "one", "text_pair": "two"}])
    assert answers.loc[0, "label"] in LABELS["classification"]
    with pytest.raises(mlflow.MlflowException, match="text_pair"):
        model.predict([{"text": "one"}])


def test_a_table_whose_first_column_is_not_the_text_is_refused(register_export, store):
    import mlflow
    import pandas as pd

    register_export("columns")
    mlflow.set_tracking_uri(store)
    model = mlflow.pyfunc.load_model("models:/columns-toy@champion")
    with pytest.raises(mlflow.MlflowException, match="first column is 'id'"):
        model.predict(pd.DataFrame({"id": ["7"], "text": ["a text"]}))
    with pytest.raises(mlflow.MlflowException, match="empty"):
        model.predict([""])


def test_an_experiment_is_registered_and_moves_no_alias(register_export, store):
    register_export("trials", value=0.5)
    trial = register_export("trials", value=0.9, trial={"dvc.experiment": "lora"})
    assert (trial.version, trial.aliases) == (2, [])
    client = tracking.connect(store)
    assert client.get_model_version("trials-toy", "2").tags["dvc.experiment"] == "lora"
    assert [int(client.get_model_version_by_alias("trials-toy", alias).version) for alias in ("challenger", "champion")] == [1, 1]


def test_champion_stays_where_a_gate_does_not_hold_and_can_be_given_back(register_export, store):
    gates = GatesConfig(min_over_baseline=0.0, min_over_champion=0.0, max_latency_ms=5.0, max_calibration_error=0.15)
    first = register_export("gated", gates=gates, value=0.6)
    worse = register_export("gated", gates=gates, value=0.55)
    better = register_export("gated", gates=gates, value=0.7)
    assert [each.aliases for each in (first, worse, better)] == [["challenger", "champion"], ["challenger"], ["challenger", "champion"]]
    assert [gate.gate for gate in worse.gates if not gate.holds] == ["min_over_champion"]
    assert rollback("gated-toy", uri=store).after == 1
    assert [(move.before, move.after) for move in history("gated-toy", uri=store)] == [(None, 1), (1, 3), (3, 1)]
    with pytest.raises(ModelError, match="first champion"):
        rollback("gated-toy", uri=store)
    with pytest.raises(ModelError, match="no version 9; there are: 1, 2, 3"):
        rollback("gated-toy", uri=store, to=9)


def test_a_model_that_answers_otherwise_than_the_export_is_not_registered_as_challenger(
    register_export, tmp_path, minilm_dir, store, monkeypatch
):
    from acclimate.adapters import registry

    original = registry._log_model

    def spoil(candidate, export, run_id):
        uri = original(candidate, export, run_id)
        parity = json.loads((export / "parity.json").read_text())
        parity["examples"][0]["prediction"]["label"] = "green"
        (export / "parity.json").write_text(json.dumps(parity))
        return uri

    monkeypatch.setattr(registry, "_log_model", spoil)
    with pytest.raises(ModelError, match="the exported model gave"):
        register_export("spoiled")
    from mlflow import MlflowClient

    assert MlflowClient(store).get_registered_model("spoiled-toy").aliases == {}


def indices(rows: int) -> list[object]:
    """Of a table that was filtered, sorted, grouped, or told apart by names."""
    import pandas as pd

    numbers = [7, 3, 9, 1, 4][:rows]
    return [
        pd.RangeIndex(rows),
        pd.Index(numbers, name="row"),
        pd.Index([f"p{number}" for number in numbers]),
        pd.Index([0] * rows),
        pd.MultiIndex.from_tuples([("a", number) for number in numbers], names=["site", "row"]),
        pd.date_range("2026-01-01", periods=rows)[::-1],
    ]


@pytest.mark.parametrize("kind", ["classification", "multi_label", "regression", "tagging"])
def test_the_answers_stand_on_the_rows_that_were_asked_about(kind, register_export, store):
    """pandas joins by index: answers with an index of their own land on other rows of a filtered or sorted table."""
    import mlflow
    import pandas as pd

    name = f"index-{kind.replace('_', '-')}"
    register_export(name, kind)
    mlflow.set_tracking_uri(store)
    model = mlflow.pyfunc.load_model(f"models:/{name}-toy@champion")
    texts = ["a text editor", "an arcade game", "xyz", "database server", "mail client"]
    for rows in (1, 5):
        for index in indices(rows):
            table = pd.DataFrame({"text": texts[:rows], "other": range(rows)}, index=index)
            for asked in (table, table[["text"]], table["text"]):
                answers = model.predict(asked)
                assert answers.index.equals(index)
                for answer, expected in zip(answers.to_dict("records"), model.predict(texts[:rows]).to_dict("records"), strict=True):
                    assert _same(expected, answer, 1e-5)
    assert model.predict(texts).index.equals(pd.RangeIndex(5))


@pytest.mark.parametrize(("kind", "answer"), [("classification", "label"), ("regression", "score")])
def test_mlflow_evaluates_the_champion(kind, answer, register_export, store):
    """MLflow wants one column; and its explanations stop at pandas' text columns, whatever the model."""
    import mlflow
    import pandas as pd

    register_export(f"evaluated-{kind}", kind)
    mlflow.set_tracking_uri(store)
    uri = f"models:/evaluated-{kind}-toy@champion"
    texts = ["a text editor", "plays music", "x y z", "mail client"]
    found = mlflow.pyfunc.load_model(uri).predict(texts)[answer].tolist()
    gold = [*found[:3], "blue" if found[3] == "red" else "red"] if kind == "classification" else [value + 2 for value in found]
    table = pd.DataFrame({"text": texts, "gold": gold}, index=[5, 1, 7, 3])
    with mlflow.start_run(experiment_id="1"):
        result = mlflow.models.evaluate(
            uri,
            table,
            targets="gold",
            model_type={"classification": "classifier", "regression": "regressor"}[kind],
            model_config={"answer": answer},
            evaluator_config={"log_model_explainability": False},
        )
    assert result.metrics["accuracy_score" if kind == "classification" else "mean_absolute_error"] == pytest.approx(
        0.75 if kind == "classification" else 2.0
    )
    with pytest.raises(mlflow.MlflowException, match=rf"answer is 'labels'; this model's answers hold {answer}"):
        mlflow.pyfunc.load_model(uri, model_config={"answer": "labels"})


def write_table(directory: Path, texts: list[str], labels: list[str]) -> Path:
    """An ingested table's test split."""
    directory.mkdir()
    rows = {"id": [f"r{row}" for row in range(len(texts))], "text": texts, "label": labels}
    pq.write_table(pa.table(rows), directory / "test.parquet")
    schema = {"name": "toy", "kind": "classification", "labels": ["red", "blue"], "pair": False, "metric": "macro_f1"}
    (directory / "schema.json").write_text(json.dumps(schema))
    return directory


def test_a_champion_of_other_test_rows_is_measured_again_on_todays(register_export, store, tmp_path):
    """Its own number (0.99) would keep every other version from becoming champion, and one of 0.1 let every one in."""
    texts = ["a text editor", "plays music", "x y z", "mail client", "an arcade game"]
    gates = GatesConfig(min_metric=0.0, min_over_champion=0.0)
    register_export("rows", gates=gates, value=0.99)
    answers = Predictor.load(tmp_path / "export").predict(texts)
    gold = [answer["label"] for answer in answers]
    gold[0] = "blue" if gold[0] == "red" else "red"
    table = write_table(tmp_path / "today", texts, gold)
    expected = score("classification", [0 if label == "red" else 1 for label in gold], logits(answers), labels=["red", "blue"])["macro_f1"]
    rows = digest_of_rows(read_examples(table))
    better = register_export("rows", gates=gates, value=expected + 0.01, rows=rows, table=table)
    (gate,) = [gate for gate in better.gates if gate.gate == "min_over_champion"]
    assert gate.holds
    assert gate.value == pytest.approx(0.01)
    assert "measured again on today's test rows (it had macro_f1 0.99 on others)" in gate.note
    assert "champion" in better.aliases

    other = write_table(tmp_path / "tomorrow", texts[:4], gold[:4])
    without = register_export("rows", gates=gates, value=1.0, rows=digest_of_rows(read_examples(other)))
    assert "the champion was measured on other test rows: run the stage `register` again" in without.note
    changed = register_export("rows", gates=gates, value=1.0, rows="others", table=other)
    assert "its rows are not those that the new version was measured on" in changed.note
    schema = json.loads((other / "schema.json").read_text())
    (other / "schema.json").write_text(json.dumps({**schema, "labels": ["red", "blue", "green"]}))
    unlike = register_export("rows", gates=gates, value=1.0, rows=digest_of_rows(read_examples(other)), table=other)
    assert "its kind or its labels are not those of" in unlike.note


def logits(answers: list[dict]) -> list[list[float]]:
    return [np.log([answer["probabilities"][name] for name in ("red", "blue")]).tolist() for answer in answers]


@settings(max_examples=200, deadline=None)
@given(rows=st.lists(st.tuples(st.text(max_size=5), st.text(max_size=5), st.sampled_from(["red", "blue"])), max_size=5), seed=st.randoms())
def test_the_digest_of_test_rows_forgets_their_order_alone(rows, seed):
    examples = [{"id": name, "text": text, "label": label} for name, text, label in rows]
    shuffled = seed.sample(examples, len(examples))
    assert digest_of_rows(shuffled) == digest_of_rows(examples)
    for place, example in enumerate(examples):
        for key in example:
            changed = [*examples[:place], {**example, key: f"{example[key]}x"}, *examples[place + 1 :]]
            assert digest_of_rows(changed) != digest_of_rows(examples)


@settings(max_examples=200, deadline=None)
@given(score=st.floats(-1e7, 1e7, width=32), unit=st.floats(1e-3, 1e6), share=st.floats(-0.9, 0.9), beyond=st.floats(1.5, 1e3))
def test_a_registered_models_scores_are_compared_in_standard_deviations(score, unit, share, beyond):
    assert _same({"score": score}, {"score": score + share * 1e-5 * unit}, 1e-5 * unit)
    assert not _same({"score": score}, {"score": score + beyond * 1e-5 * unit + 2.0**-21 * abs(score)}, 1e-5 * unit)
