"""The exports of doccano, Label Studio, Prodigy and spaCy in their documented forms give the same spans and classes."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from acclimate.errors import DataError
from tests.unit.data.layouts.reading import cells, read, spans, task, write_lines

TEXT = "Acme Inc moved to Graz 😀, said Ms Li."
FOUND = [("ORG", "Acme Inc"), ("LOC", "Graz"), ("PER", "Li")]
PLACES = [[0, 8, "ORG"], [18, 22, "LOC"], [34, 36, "PER"]]
UTF16 = [[0, 8, "ORG"], [18, 22, "LOC"], [35, 37, "PER"]]
PLAIN = "nothing here"


def named(places: list[list[Any]], start: str = "start", end: str = "end", label: str = "label") -> list[dict[str, Any]]:
    return [{"id": number, start: first, end: last, label: kind} for number, (first, last, kind) in enumerate(places)]


DOCCANO = {
    "first version": [
        {"id": 1, "text": TEXT, "meta": {}, "annotation_approver": None, "labels": PLACES},
        {"id": 2, "text": PLAIN, "labels": []},
    ],
    "later": [{"id": 1, "text": TEXT, "label": PLACES, "Comments": []}, {"id": 2, "text": PLAIN, "label": [], "Comments": []}],
    "relations": [
        {
            "id": 1,
            "text": TEXT,
            "entities": named(PLACES, "start_offset", "end_offset"),
            "relations": [{"id": 7, "from_id": 0, "to_id": 1}],
        },
        {"id": 2, "text": PLAIN, "entities": [], "relations": []},
    ],
    "data for text": [{"id": 1, "data": TEXT, "label": PLACES}, {"id": 2, "data": PLAIN, "label": []}],
    "annotations": [
        {"id": 1, "text": TEXT, "annotations": [{**each, "user": 1} for each in named(PLACES, "start_offset", "end_offset")]},
        {"id": 2, "text": PLAIN, "annotations": []},
    ],
}
SPACY = {
    "training data": [[TEXT, {"entities": PLACES}], [PLAIN, {"entities": []}]],
    "to_json": [
        {"text": TEXT, "ents": named(PLACES), "sents": [{"start": 0, "end": 38}], "tokens": [{"id": 0, "start": 0, "end": 4}]},
        {"text": PLAIN, "ents": [], "tokens": []},
    ],
    "objects": [{"text": TEXT, "entities": PLACES}, {"text": PLAIN, "entities": []}],
}
PRODIGY = [
    {
        "text": TEXT,
        "_input_hash": 1,
        "tokens": [{"text": "Acme", "start": 0, "end": 4, "id": 0, "ws": True}],
        "spans": [{**each, "token_start": 0, "token_end": 1} for each in named(PLACES)],
        "answer": "accept",
    },
    {"text": PLAIN, "tokens": [], "answer": "accept"},
]


@pytest.mark.parametrize(
    ("layout", "records"),
    [*(("doccano", each) for each in DOCCANO.values()), *(("spacy", each) for each in SPACY.values()), ("prodigy", PRODIGY)],
)
@pytest.mark.parametrize("ending", [".jsonl", ".json"])
def test_spans_are_read(tmp_path: Path, layout: str, records: list[Any], ending: str) -> None:
    if ending == ".json":
        (tmp_path / "mine.json").write_text(json.dumps(records), encoding="utf-8")
    else:
        write_lines(tmp_path / "mine.jsonl", records)
    numbers, examples = read(tmp_path, task(layout, f"mine{ending}"))
    assert numbers == [1, 2]
    assert spans(examples) == [FOUND, []]
    assert examples.labels[1] == ["O", "O"]


def region(start: int, end: int, *labels: str, kind: str = "labels", name: str = "ner") -> dict[str, Any]:
    text = TEXT.encode("utf-16-le")[2 * start : 2 * end].decode("utf-16-le")
    value = {"start": start, "end": end, "text": text, kind: list(labels)}
    return {"id": "aB3", "from_name": name, "to_name": "text", "type": kind, "origin": "manual", "value": value}


def choice(*choices: str, name: str = "sentiment") -> dict[str, Any]:
    return {"id": "cD4", "from_name": name, "to_name": "text", "type": "choices", "value": {"choices": list(choices)}}


def studio(*results: list[dict[str, Any]], text: str = TEXT, **annotation: Any) -> dict[str, Any]:
    annotations = [
        {
            "id": number,
            "completed_by": {"id": 5, "email": "a@b.org"},
            "was_cancelled": False,
            "ground_truth": False,
            "result": result,
            **annotation,
        }
        for number, result in enumerate(results)
    ]
    return {"id": 7, "annotations": annotations, "predictions": [], "data": {"text": text, "page": "p1"}, "meta": {}}


def save(directory: Path, tasks: list[Any]) -> None:
    (directory / "mine.json").write_text(json.dumps(tasks), encoding="utf-8")


NER = [region(start, end, kind) for start, end, kind in UTF16]


def test_label_studio_spans_count_utf16_units_and_that_is_found(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save(tmp_path, [studio([*NER, {"type": "relation", "from_id": "a", "to_id": "b", "direction": "right"}]), studio([], text=PLAIN)])
    with caplog.at_level(logging.INFO):
        _, examples = read(tmp_path, task("label_studio", "mine.json"))
    assert spans(examples) == [FOUND, []]
    assert "the labels are those of control 'ner' (labels)" in caplog.text
    assert "their offsets count UTF-16 units" in caplog.text
    assert cells(tmp_path, task("label_studio", "mine.json"), "page", "id", "annotator") == [("p1", 7, 5)] * 2


def test_label_studio_short_and_old_exports_give_the_same(tmp_path: Path) -> None:
    short = {"id": 7, "text": TEXT, "annotator": 1, "annotation_id": 3, "created_at": "2026-01-01", "lead_time": 3.2}
    save(tmp_path, [{**short, "ner": [each["value"] for each in NER]}, {**short, "text": PLAIN}])
    _, examples = read(tmp_path, task("label_studio", "mine.json"))
    assert spans(examples) == [FOUND, []]
    old = studio(NER)
    old["completions"] = old.pop("annotations")
    save(tmp_path, [old])
    assert spans(read(tmp_path, task("label_studio", "mine.json"))[1]) == [FOUND]


def test_label_studio_csv_export_needs_no_layout(tmp_path: Path) -> None:
    import csv

    with (tmp_path / "mine.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["text", "id", "label"], [TEXT, 7, json.dumps([each["value"] for each in NER])], [PLAIN, 8, "[]"]])
    assert spans(read(tmp_path, task(None, "mine.csv"))[1]) == [FOUND, []]


def test_label_studio_choices_are_lists(tmp_path: Path) -> None:
    tasks = [studio([choice("Positive")]), studio([choice("Negative", "Rude")], text=PLAIN), studio([], text="neither")]
    save(tmp_path, tasks)
    _, examples = read(tmp_path, task("label_studio", "mine.json", "multi_label"))
    assert examples.labels == [["Positive"], ["Negative", "Rude"], []]
    short = [{"id": 1, "text": "one", "sentiment": "Positive"}, {"id": 2, "text": "two", "sentiment": {"choices": ["Negative", "Rude"]}}]
    save(tmp_path, short)
    config = task({"label_studio": {"control": "sentiment"}}, "mine.json", "multi_label")
    assert read(tmp_path, config)[1].labels == [["Positive"], ["Negative", "Rude"]]


def test_label_studio_numbers_are_read(tmp_path: Path) -> None:
    stars = [{"from_name": "stars", "to_name": "text", "type": "rating", "value": {"rating": count}} for count in (2, 5)]
    save(tmp_path, [studio([each], text=f"text {number}") for number, each in enumerate(stars)])
    assert read(tmp_path, task("label_studio", "mine.json", "regression"))[1].labels == [2.0, 5.0]


def test_one_of_several_annotators_counts_and_that_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    several = studio([choice("first")], [choice("second")])
    cancelled = studio([choice("first")], [choice("second")], text="two")
    cancelled["annotations"][0]["was_cancelled"] = True
    true = studio([choice("first")], [choice("second")], text="three")
    true["annotations"][1]["ground_truth"] = True
    skipped = studio([choice("first")], text="four", was_cancelled=True)
    save(tmp_path, [several, cancelled, true, skipped])
    assert read(tmp_path, task("label_studio", "mine.json", "multi_label"))[1].labels == [["first"], ["second"], ["second"], None]
    assert "2 tasks have further annotations, which are not read" in caplog.text
    assert "1 tasks are skipped or not annotated: their rows have no label" in caplog.text


@pytest.mark.parametrize(
    ("tasks", "options", "message"),
    [
        ([studio([*NER, choice("a")])], {}, r"annotations by 2 controls: ner \(labels\), sentiment \(choices\); choose one by"),
        ([studio(NER)], {"control": "nerr"}, r"no annotation by control 'nerr'; there are: ner \(labels\)"),
        (
            [studio([region(0, 4, "X", kind="rectanglelabels", name="box")])],
            {},
            "control 'box' gives rectanglelabels; read are labels, choices",
        ),
        ([studio([region(0, 4, "X", kind="hypertextlabels")])], {}, "control 'ner' gives hypertextlabels"),
        ([{"id": 1, "text": "a", "sentiment": "x"}], {}, "no annotation is found in the fields id, text, sentiment; .* name the control"),
        ([studio([region(0, 4, "A", "B")])], {}, r"row 1: a span has 2 types \(A, B\)"),
        ([{"id": 1, "data": {"text": "a"}}], {}, "record 1: no list `annotations`; present: id, data"),
        ([{"id": 1, "data": {"a": "x", "b": "y"}, "annotations": [{"result": NER}]}], {}, "record 1: its data has the keys id, a, b"),
        ([[1]], {}, "record 1: expected an object, found list"),
        (
            [studio([{**NER[0], "value": {"start": 1, "end": 3}}])],
            {},
            "record 1: an annotation of 'ner' is not whole: its `value` holds no 'labels'",
        ),
        ([studio([{**choice("a"), "value": {"choices": "ab"}}])], {}, "an annotation of 'sentiment' is not whole: .* no 'choices'"),
        ([studio([{**NER[0], "value": None}])], {}, "record 1: an annotation is not whole; it holds `from_name`"),
        ([{"id": 1, "data": {"text": "a"}, "annotations": [{"result": 1}]}], {}, "record 1: `result` of an annotation is no list"),
        ([{"id": 1, "data": {"text": "a"}, "annotations": [1]}], {}, "record 1: one of its annotations is no object"),
    ],
)
def test_label_studio_tasks_that_cannot_be_read_are_named(tmp_path: Path, tasks: list[Any], options: dict[str, str], message: str) -> None:
    save(tmp_path, tasks)
    with pytest.raises(DataError, match=message):
        read(tmp_path, task({"label_studio": options}, "mine.json"))


def test_prodigy_answers_and_options(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    options = [{"id": "A", "text": "a"}, {"id": "B", "text": "b"}]
    records = [
        {"text": "one", "options": options, "accept": ["A", "B"], "answer": "accept"},
        {"text": "two", "options": options, "accept": [], "answer": "ignore"},
        {"text": "three", "options": options, "answer": "accept"},
        {"text": "four", "options": options, "accept": ["A"], "answer": "reject"},
    ]
    write_lines(tmp_path / "mine.jsonl", records)
    assert read(tmp_path, task("prodigy", kind="multi_label"))[1].labels == [["A", "B"], None, [], None]
    assert "rows whose answer is not accept have no label: ignore 1, reject 1" in caplog.text
    write_lines(
        tmp_path / "mine.jsonl",
        [{"text": "one", "label": "SPORT", "answer": "accept"}, {"text": "two", "label": "SPORT", "answer": "reject"}],
    )
    assert read(tmp_path, task("prodigy", kind="classification"))[1].labels == ["SPORT", None]
    assert read(tmp_path, task("prodigy", kind="classification", label="answer"))[1].labels == ["accept", "reject"]


def test_classes_of_doccano_and_spacy(tmp_path: Path) -> None:
    write_lines(tmp_path / "mine.jsonl", [{"id": 1, "text": "one", "label": ["a", "b"]}, {"id": 2, "text": "two", "label": []}])
    assert read(tmp_path, task("doccano", kind="multi_label"))[1].labels == [["a", "b"], []]
    write_lines(
        tmp_path / "mine.jsonl", [{"text": "one", "annotations": [{"label": 3, "user": 1}]}, {"text": "two", "cats": {"a": 1, "b": 0}}]
    )
    assert read(tmp_path, task("doccano", kind="multi_label"))[1].labels == [["3"], ["a"]]
    write_lines(
        tmp_path / "mine.jsonl", [["one", {"cats": {"a": 1.0, "b": 0.0}}], {"text": "two", "cats": {"a": False, "b": True}, "ents": []}]
    )
    assert read(tmp_path, task("spacy", kind="multi_label"))[1].labels == [["a"], ["b"]]


def test_spacy_two_and_the_annotator_page(tmp_path: Path) -> None:
    tokens = [
        {"id": 0, "orth": "Acme", "ner": "B-ORG"},
        {"id": 1, "orth": "Inc", "ner": "L-ORG"},
        {"id": 2, "orth": "Graz", "ner": "U-LOC"},
    ]
    sentences = [{"tokens": tokens}, {"tokens": [{"orth": "ok", "ner": "O"}]}]
    (tmp_path / "mine.json").write_text(json.dumps([{"id": 4, "paragraphs": [{"raw": "", "sentences": sentences}]}]), encoding="utf-8")
    assert spans(read(tmp_path, task("spacy", "mine.json"))[1]) == [[("ORG", "Acme Inc"), ("LOC", "Graz")], []]
    (tmp_path / "mine.json").write_text(json.dumps({"classes": ["ORG"], "annotations": SPACY["training data"]}), encoding="utf-8")
    assert spans(read(tmp_path, task("spacy", "mine.json"))[1]) == [FOUND, []]


@pytest.mark.parametrize(
    ("layout", "records", "message"),
    [
        ("doccano", [{"text": "a", "label": [], "entities": []}, {"text": "a"}], "record 2: no 'label' or 'labels' or .*; present: text"),
        (
            "doccano",
            [{"text": "a", "label": [[0, 1, "X"]], "cats": {"a": 1}}],
            "record 1: 'label' and 'cats' are filled; choose one by the option",
        ),
        ({"doccano": {"label": "tags"}}, [{"text": "a", "label": []}], "record 1: no 'tags'; present: text, label"),
        ("doccano", [[1]], "record 1: expected an object, found list"),
        ("doccano", [{"text": TEXT, "label": [[0, 3, "ORG"]]}], r"row 1: 'Acm' \(ORG, 0 to 3\) is a part of the word 'Acme'"),
        ("prodigy", [{"image": "x.png", "spans": []}], "record 1: Prodigy's examples hold a `text`"),
        ("prodigy", [{"text": "a", "spans": [], "answer": ["accept"]}], "answer .* is none of accept, reject, ignore"),
        ("prodigy", [{"text": "a"}], "record 1: it has none of `spans`, `accept` and `label`; present: text"),
        ("spacy", [["a", "b", "c"]], "record 1: expected \\[text, "),
        ("spacy", [{"text": "a", "ents": [[0, 1, "X"]], "cats": {"a": 1}}], "record 1: 'ents' and 'cats' are filled"),
        ({"spacy": {"label": "cats"}}, [["a", {"cats": {"a": "yes"}}]], "record 1: `cats` is no object of a number for each name"),
        ("spacy", [{"paragraphs": [{"sentences": [{"tokens": [{"orth": "a"}]}]}]}], "record 1: no `tokens` with `orth` and `ner`"),
        ("spacy", ["text"], "record 1: expected a list or an object, found str"),
        ("squad", [{"question": "a"}], "row 1: an article of SQuAD holds a list `paragraphs`; a table with a row for each"),
    ],
)
def test_records_that_cannot_be_read_are_named(tmp_path: Path, layout: Any, records: list[Any], message: str) -> None:
    write_lines(tmp_path / "mine.jsonl", records)
    with pytest.raises(DataError, match=message):
        read(tmp_path, task(layout, kind="extractive_qa" if layout == "squad" else "tagging"))


def test_a_doc_bin_is_refused_with_what_to_write_instead(tmp_path: Path) -> None:
    (tmp_path / "mine.spacy").write_bytes(b"x\x9c")
    with pytest.raises(DataError, match=r"mine.spacy: a DocBin; write `doc.to_json\(\)` .*; this layout reads .json, .jsonl"):
        read(tmp_path, task("spacy", "mine.spacy"))
