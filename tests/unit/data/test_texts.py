"""What ingest does to the texts of a table, and that serving does the same to raw ones."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acclimate.data.options import TaskConfig
from acclimate.data.quarantine import Quarantine
from acclimate.data.screening.options import CleaningConfig, PersonalDataConfig
from acclimate.data.screening.personal_data import KINDS, find_personal_data, redact, redact_words
from acclimate.data.screening.texts import FILES, TextCounts, carried, prepare
from acclimate.data.tables import finish_table, load_table
from acclimate.export.predictor import PredictorError, Preparation

PIECES = st.sampled_from(
    ["a@b.com", "jens@müller-bau.de", "+49", "171", "2345610", "4111 1111 1111 1111", "8.8.8.8", "Ã¼", "\x85", "\x0b", "\u200b", "<br />"]
    + ["&uuml;", "<p>", "</p>", "[MASK]", "Größe", "中文", "e\u0301", " ", "\n", "\r\n", "tel. 030 1234567", "x", "DE89370400440532013000"]
)
TEXT = st.one_of(st.lists(PIECES, max_size=12).map("".join), st.text(st.characters(codec="utf-8"), max_size=40))
RULES = [
    CleaningConfig(),
    CleaningConfig(mojibake=False, html=False),
    CleaningConfig(control_characters=False, nfc=False, whitespace=False),
]


@pytest.fixture(scope="module")
def travelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the files as they lie beside an exported graph."""
    directory = tmp_path_factory.mktemp("export")
    for file in FILES:
        shutil.copyfile(file, directory / file.name)
    return directory


@given(TEXT, st.lists(TEXT, max_size=6), st.sampled_from(RULES), st.sampled_from(["off", "flag", "redact"]))
def test_serving_does_to_a_text_what_ingest_did(travelled: Path, text: str, words: list[str], rules: CleaningConfig, mode: Any) -> None:
    personal = PersonalDataConfig(mode=mode)
    serving = Preparation(travelled, json.loads(json.dumps(carried(rules, personal))))
    for how, given_one, served in (
        ("text", text, serving.texts([text])[0]),
        ("in_place", text, serving.in_place([text])[0]),
        ("words", words, serving.words(words)),
    ):
        assert served == prepare([given_one], how, rules, personal, TextCounts())[0]  # type: ignore[arg-type]


def test_a_missing_file_or_package_is_named_when_the_model_is_loaded(
    travelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(PredictorError, match=r"cleaning\.py: no such file"):
        Preparation(tmp_path, {"cleaning": ["nfc"]})
    source = (travelled / "cleaning.py").read_text(encoding="utf-8").replace('"mojibake": "ftfy"', '"mojibake": "ftfx"')
    (tmp_path / "cleaning.py").write_text(source, encoding="utf-8")
    with pytest.raises(PredictorError, match=r"cleaned by the rule 'mojibake', which needs the package ftfx"):
        Preparation(tmp_path, {"cleaning": ["mojibake"]})
    assert Preparation(tmp_path, {"cleaning": ["nfc"]}).texts(["e\u0301"]) == ["é"]


@given(TEXT)
def test_a_model_made_before_these_files_reads_texts_as_they_are(text: str) -> None:
    assert Preparation(Path("nowhere"), {}).texts([text]) == [text]
    assert Preparation(Path("nowhere"), {}).words([text, "x"]) == [text, "x"]


@given(st.lists(TEXT, max_size=8))
def test_redacted_words_keep_their_number_and_hold_nothing_to_find(words: list[str]) -> None:
    redacted = redact_words(words)
    assert len(redacted) == len(words)
    assert find_personal_data(" ".join(redacted)) == []
    assert redact_words(redacted) == redacted


@given(TEXT)
def test_redacting_in_place_moves_no_character(text: str) -> None:
    redacted = redact(text, keep_length=True)
    assert len(redacted) == len(text)
    assert find_personal_data(redacted) == []
    touched = {place for place, (old, new) in enumerate(zip(text, redacted, strict=True)) if old != new}
    assert touched or not find_personal_data(text)
    assert redact(redacted, keep_length=True) == redacted


@pytest.mark.parametrize(
    ("words", "right"),
    [
        (["Mail", "tom@firma.de", "now"], ["Mail", "<EMAIL>", "now"]),
        (["(tom@firma.de),"], ["(<EMAIL>),"]),
        (["call", "+49", "171", "2345610", "."], ["call", "<PHONE>", "<PHONE>", "<PHONE>", "."]),
        (["a", "", "b@c.org"], ["a", "", "<EMAIL>"]),
        (["New York", "b@c.org d@e.org"], ["New York", "<EMAIL> <EMAIL>"]),
        ([], []),
    ],
)
def test_each_word_of_a_find_becomes_its_kind(words: list[str], right: list[str]) -> None:
    assert redact_words(words) == right


def ingested(tmp_path: Path, rows: list[dict[str, Any]], config: TaskConfig, **rules: Any) -> tuple[list[dict[str, Any]], Path, Any]:
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    quarantine = Quarantine()
    cleaning, personal = CleaningConfig(**rules), PersonalDataConfig(mode="redact")
    loaded = load_table("t", config, tmp_path, quarantine, seed=0, cleaning=cleaning, personal_data=personal)
    finish_table(loaded, tmp_path / "out", quarantine, seed=0)
    read = [row for split in ("train", "dev", "test") for row in pq.read_table(tmp_path / f"out/{split}.parquet").to_pylist()]
    return read, tmp_path / "out", loaded


def test_a_tagging_table_is_redacted_word_by_word(tmp_path: Path) -> None:
    rows = [
        {
            "words": ["Mail", f"tom{i}@firma.de", "or", "+49", "171", f"23456{i:02}", f"v\u00c3\u00bcr{i}"],
            "tags": [*"O", "B-MAIL", *"OOOO", "B-X"],
        }
        for i in range(60)
    ]
    found, _, loaded = ingested(tmp_path, rows, TaskConfig(kind="tagging", data="t.jsonl", text="words", label="tags"))
    assert len(found) == 60
    for row in found:
        assert row["words"][:6] == ["Mail", "<EMAIL>", "or", "<PHONE>", "<PHONE>", "<PHONE>"]
        assert row["words"][6].startswith("vür")
        assert row["label"] == ["O", "B-MAIL", "O", "O", "O", "O", "B-X"]
    assert loaded.personal["email"] == loaded.personal["phone"] == 60


def test_contexts_are_redacted_so_that_answers_stay_where_they_are(tmp_path: Path) -> None:
    rows = []
    for i in range(60):
        context = f"Write to tom{i}@firma.de or ask Ms Wei in room {i}."
        asked = f"room {i}" if i % 2 else f"tom{i}@firma.de"
        answers = {"text": [asked], "answer_start": [context.index(asked)]}
        rows.append({"question": f"Where is c{i}@d.org?", "context": context, "answers": answers})
    found, _, _ = ingested(tmp_path, rows, TaskConfig(kind="extractive_qa", data="t.jsonl"))
    assert len(found) == 60
    assert all(row["question"] == "Where is <EMAIL>?" and "@" not in row["context"] for row in found)
    for row in found:
        (answer,) = [{"text": text, "start": start} for text, start in zip(*map(list, _answers(row["label"])), strict=True)]
        assert row["context"][answer["start"] :].startswith(answer["text"])
        assert answer["text"].startswith(("room ", "<EMAIL"))


def _answers(label: Any) -> tuple[list[str], list[int]]:
    if isinstance(label, dict):
        return label["texts"], label["starts"]
    return [each["text"] for each in label], [each["start"] for each in label]


def test_every_cleaning_switch_holds_for_tables(tmp_path: Path) -> None:
    """The cell goes to the rules as it is: C1 controls are half of mojibake, and a rule that is off changes nothing."""
    raw = "caf\u00c3\u00a9\x07  e\u0301 &amp; \x80"
    rows = [{"text": f"{raw} {i} {'cat' if i % 2 else 'dog'}", "label": "c" if i % 2 else "d"} for i in range(60)]
    config = TaskConfig(kind="classification", data="t.jsonl")
    found, out, loaded = ingested(tmp_path, rows, config)
    assert all(row["text"].startswith("café é & €") for row in found)
    assert loaded.changed == Counter(dict.fromkeys(["mojibake", "html", "control_characters", "nfc", "whitespace"], 60))
    assert json.loads((out / "schema.json").read_text())["texts"] == {"cleaning": list(loaded.changed), "redact": list(KINDS)}
    off = dict.fromkeys(["mojibake", "html", "control_characters", "nfc", "whitespace"], False)
    found, out, loaded = ingested(tmp_path, rows, config, **off)
    assert all(row["text"].startswith(raw) for row in found)
    assert loaded.changed == {}
    assert json.loads((out / "schema.json").read_text())["texts"]["cleaning"] == []


def test_rows_of_equal_text_are_one_group_after_cleaning(tmp_path: Path) -> None:
    rows = [{"text": f"one{'  ' if i % 3 else ' '}text &amp; {i // 2}\u200b", "label": "cd"[i // 2 % 2]} for i in range(80)]
    found, _, _ = ingested(tmp_path, rows, TaskConfig(kind="classification", data="t.jsonl"))
    assert len({row["group"] for row in found}) == len({row["text"] for row in found}) == len(found) == 40


def test_rows_that_differ_by_what_was_replaced_are_no_copies_but_one_group(tmp_path: Path) -> None:
    rows = [{"text": f"Mail tom{i // 2}@firma.de about order {'ab'[i % 2]}", "label": "cd"[i % 2]} for i in range(60)]
    rows += [{"text": "Mail TOM0@firma.de  about order a", "label": "c"}, {"text": "no address, order b", "label": "d"}] * 2
    rows += [{"text": f"something else {i}", "label": "cd"[i % 2]} for i in range(40)]
    found, _, _ = ingested(tmp_path, rows, TaskConfig(kind="classification", data="t.jsonl"))
    texts = Counter(row["text"] for row in found)
    assert (texts["Mail <EMAIL> about order a"], texts["no address, order b"]) == (30, 1)
    assert len({row["group"] for row in found if row["text"] == "Mail <EMAIL> about order a"}) == 1
