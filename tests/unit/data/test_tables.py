"""Labelled tables and corpora: splits, duplicates, leakage, and one clear line for each fault."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from acclimate.data.leakage.comparison import duplicate_key
from acclimate.data.leakage.splits import sample_rows, split_of
from acclimate.data.options import TaskConfig
from acclimate.data.quarantine import Quarantine
from acclimate.data.reading.readers import read_rows, resolve
from acclimate.data.screening.cleaning import clean_text
from acclimate.data.tables import LoadedTable, build_table
from acclimate.errors import DataError


def rows(count: int = 120) -> list[dict[str, Any]]:
    return [{"body": f"text number {i} about {'cats' if i % 2 else 'dogs'}", "topic": "cat" if i % 2 else "dog"} for i in range(count)]


def write_csv(path: Path, table: list[dict[str, Any]]) -> None:
    path.write_text("\n".join([",".join(table[0]), *(",".join(str(value) for value in row.values()) for row in table)]), encoding="utf-8")


def build(tmp_path: Path, table: list[dict[str, Any]], **settings: Any) -> tuple[Path, Quarantine, LoadedTable]:
    write_csv(tmp_path / "mine.csv", table)
    config = TaskConfig(**{"kind": "classification", "data": "mine.csv", "text": "body", "label": "topic", **settings})
    quarantine = Quarantine()
    held_out = build_table("mine", config, tmp_path, tmp_path / "out", quarantine, seed=0)
    return tmp_path / "out", quarantine, held_out


def read(out: Path, split: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(out / f"{split}.parquet").to_pylist()
    return found


def test_a_csv_becomes_three_disjoint_splits(tmp_path: Path) -> None:
    out, quarantine, held_out = build(tmp_path, rows())
    texts = {split: {row["text"] for row in read(out, split)} for split in ("train", "dev", "test")}
    assert sum(map(len, texts.values())) == 120 == quarantine.kept["tables/mine"]
    assert not texts["train"] & texts["dev"] and not texts["train"] & texts["test"] and not texts["dev"] & texts["test"]
    assert len(texts["train"]) > 80 and min(len(texts["dev"]), len(texts["test"])) > 3
    assert json.loads((out / "schema.json").read_text())["labels"] == ["cat", "dog"]
    evaluated = {duplicate_key(each.text) for each in held_out.evaluation_texts()}
    assert evaluated == {duplicate_key(text) for split in ("dev", "test") for text in texts[split]}


def test_a_label_map_that_renames_nothing_is_warned_of_by_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for part in ("a", "b"):
        other = [{**row, "body": f"{part} {row['body']}", "topic": part} for row in rows(60)]
        write_csv(tmp_path / f"part-{part}.csv", other)
    config = TaskConfig(
        kind="classification", data="part-*.csv", text="body", label="topic", label_map={"a": "first", "b": "second", "B": "second"}
    )
    build_table("mine", config, tmp_path, tmp_path / "out", Quarantine(), seed=0)
    assert [record.getMessage() for record in caplog.records] == [
        "tasks.mine.label_map: no row has the label 'B'; labels of the table: 'a', 'b'"
    ]
    assert json.loads((tmp_path / "out" / "schema.json").read_text())["labels"] == ["first", "second"]


def test_the_order_of_rows_changes_no_split(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    numbered = [{"key": i, **row} for i, row in enumerate(rows())]
    first, _, _ = build(tmp_path / "a", numbered, id="key")
    second, _, _ = build(tmp_path / "b", numbered[::-1], id="key")
    assert {row["id"] for row in read(first, "test")} == {row["id"] for row in read(second, "test")}


def test_a_training_row_that_stands_in_test_goes_to_quarantine(tmp_path: Path) -> None:
    table = [{**row, "part": "test" if i < 20 else "dev" if i < 40 else "train"} for i, row in enumerate(rows())]
    table += [{"body": table[0]["body"].upper(), "topic": "dog", "part": "train"}, {**table[50]}]
    _, quarantine, _ = build(tmp_path, table, split="part")
    assert quarantine.count("tables/mine") == {"also_in_test": 1, "duplicate": 1}
    assert quarantine.read["tables/mine"] == quarantine.kept["tables/mine"] + 2


def test_a_group_never_parts(tmp_path: Path) -> None:
    out, _, _ = build(tmp_path, [{**row, "source": f"s{i // 4}"} for i, row in enumerate(rows())], group="source")
    groups = {split: {row["group"] for row in read(out, split)} for split in ("train", "dev", "test")}
    assert not groups["train"] & groups["test"] and not groups["train"] & groups["dev"]


def test_a_sample_keeps_two_rows_of_each_label() -> None:
    labels = [["rare"]] * 3 + [["common", "odd"]] * 3 + [["common"]] * 994
    for seed in range(20):
        chosen = sample_rows([str(i) for i in range(1000)], labels, 50, seed=seed)
        assert len(chosen) == 50
        assert sum("rare" in labels[i] for i in chosen) == 2
        assert sum("odd" in labels[i] for i in chosen) >= 2


def test_a_sample_keeps_the_proportions_of_the_classes() -> None:
    labels = [["a"]] * 500 + [["b"]] * 300 + [["c"]] * 200
    chosen = sample_rows([str(i) for i in range(1000)], labels, 100, seed=1)
    assert [sum(labels[i] == [name] for i in chosen) for name in "abc"] == [50, 30, 20]


def test_a_sample_is_the_same_in_any_order_of_rows() -> None:
    keys = [f"row {i}" for i in range(200)]
    labels = [["a"] if i % 3 else ["b", "c"] for i in range(200)]
    forward = [keys[i] for i in sample_rows(keys, labels, 30, seed=5)]
    backward = [keys[::-1][i] for i in sample_rows(keys[::-1], labels[::-1], 30, seed=5)]
    assert forward == backward


def test_split_shares_are_kept() -> None:
    found = [split_of(str(i), dev_share=0.1, test_share=0.2, seed=3) for i in range(20_000)]
    assert found.count("dev") / 20_000 == pytest.approx(0.1, abs=0.01)
    assert found.count("test") / 20_000 == pytest.approx(0.2, abs=0.01)


def test_cleaning_is_idempotent_and_keeps_paragraphs() -> None:
    dirty = "  cafe\u0301 \x00 a\tb \r\n\r\n\r\n\r\nnext\u200b "
    assert clean_text(dirty) == "café a b\n\nnext"
    assert clean_text(clean_text(dirty)) == clean_text(dirty)


@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        ({}, {"label": "topics"}, r"no column 'topics'; did you mean 'topic'\? present: body, topic"),
        ({}, {"data": "../mine.csv"}, "leaves the data directory"),
        ({}, {"data": "nothing.csv"}, "no such file"),
        ({"topic": "cat"}, {}, "hold 1 class"),
        ({"topic": ""}, {}, r"120 of 120 labels cannot be read: row 1: the label is empty"),
        ({}, {"kind": "regression"}, "'dog' is no number"),
        ({}, {"kind": "multi_label"}, "give label_separator"),
        ({}, {"split": "topic"}, "unknown split 'cat'; allowed: train, dev"),
    ],
)
def test_a_fault_is_one_line_that_says_what_is_allowed(
    tmp_path: Path, change: dict[str, str], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        build(tmp_path, [{**row, **change} for row in rows()], **settings)
    assert "\n" not in str(caught.value)


def test_a_class_with_one_training_row_is_named(tmp_path: Path) -> None:
    table = [{**row, "part": "test" if i < 20 else "dev" if i < 40 else "train"} for i, row in enumerate(rows())]
    table[60]["topic"] = "bird"
    with pytest.raises(DataError, match="labels with one training row only: 1, such as bird"):
        build(tmp_path, table, split="part")
    table[60]["topic"], table[0]["topic"] = "cat", "bird"
    with pytest.raises(DataError, match=r"1 labels are unseen in training: 'bird' \(test\)"):
        build(tmp_path, table, split="part")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "the file is empty"),
        ("a.csv", b"text,label\n", "no rows"),
        ("a.csv", b"text,label\nfine,x\nbad \xff byte,y\n", "line 3: byte 0xff is not UTF-8"),
        ("a.csv", b"text,label\na,b,c\n", "1 rows do not have the header's 2 fields: line 2: 3 fields"),
        ("a.csv", b'text,label\n"a,b\n', "not valid CSV"),
        ("a.csv", b"text,text,label\na,b,c\n", "column 'text' stands there twice"),
        ("a.jsonl", b'{"text": "a", "label": 1}\n{"text": \n', "line 2: not valid JSON"),
        ("a.jsonl", b"[1, 2]\n", "row 1: expected an object, found int"),
        ("a.jsonl", b'{"text": "a"}\n', r"no column 'label'.*\(line 1\)"),
        ("a.parquet", b"PAR1 cut short", "not a whole Parquet file"),
    ],
)
def test_a_broken_file_is_named_with_its_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_rows(tmp_path / name, ["text", "label"], where="tasks.x")


def test_an_unknown_ending_and_an_empty_glob_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.docx").write_bytes(b"x")
    with pytest.raises(DataError, match=r"ending '.docx' is not known; allowed: .csv, .tsv, .jsonl, .parquet, .txt"):
        resolve(tmp_path, "a.docx", where="w")
    with pytest.raises(DataError, match="no file matches"):
        resolve(tmp_path, "*.csv", where="w")


@pytest.mark.parametrize(
    ("words", "tags", "message"),
    [
        (["a", "b"], ["O"], "2 words, 1 tags"),
        (["a", "b", "c"], ["I-X", "O", "B-X"], "'I-X' follows 'O'; a span starts with B-; read as bio; `scheme: conlleval`"),
        (["a", "b"], ["X", "X"], "tag 'X' is not O, B-… or I-…"),
    ],
)
def test_wrong_tags_are_named(tmp_path: Path, words: list[str], tags: list[str], message: str) -> None:
    pq.write_table(pa.table({"words": [words] * 40, "tags": [tags] * 40}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=message):
        build_table(
            "t", TaskConfig(kind="tagging", data="t.parquet", text="words", label="tags"), tmp_path, tmp_path / "out", Quarantine(), seed=0
        )


def test_a_row_without_a_label_goes_to_quarantine(tmp_path: Path) -> None:
    table = rows()
    table[7]["topic"] = ""
    _, quarantine, _ = build(tmp_path, table)
    assert quarantine.count("tables/mine") == {"empty_label": 1}


def test_splits_by_class_and_by_time_keep_their_promise(tmp_path: Path) -> None:
    table = [{**row, "day": f"2026-{1 + i // 12:02d}-{1 + i % 12:02d}"} for i, row in enumerate(rows())]
    out, _, _ = build(tmp_path, table, split_by="time", time="day")
    newest = {split: max(int(row["text"].split()[2]) for row in read(out, split)) for split in ("train", "dev", "test")}
    assert newest["train"] < newest["dev"] < newest["test"] == 119
    out, _, _ = build(tmp_path, table, split_by="stratified", test_share=0.2)
    labels = [row["label"] for row in read(out, "test")]
    shares = {name: sum(row["topic"] == name for row in table) for name in ("cat", "dog")}
    assert {name: labels.count(name) for name in shares} == {name: round(0.2 * count) for name, count in shares.items()}
