"""Rows of a word each become sentences, whatever parts them."""

from __future__ import annotations

import csv
import io
import logging
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from acclimate.errors import DataError
from tests.unit.data.layouts.reading import cells, read, spans, task

NAMES = {"text": "Word", "label": "Tag"}
EXPECTED = [[("ORG", "Acme Inc")], [("LOC", "Graz")]]
KAGGLE = "Sentence #,Word,POS,Tag\nSentence: 1,Acme,NNP,B-org\n,Inc,NNP,I-org\n,.,.,O\nSentence: 2,In,IN,O\n,Graz,NNP,B-geo\n"
FILLED = "Word,Tag,sent\nAcme,B-org,1\nInc,I-org,1\n.,O,1\nIn,O,2\nGraz,B-geo,2\n"
MARKED = "Word,Tag,new\nAcme,B-org,x\nInc,I-org,\n.,O,\nIn,O,x\nGraz,B-geo,\n"
TWO_KEYS = "Word,Tag,doc,sent\nAcme,B-org,a,1\nInc,I-org,a,1\n.,O,a,1\nIn,O,b,1\nGraz,B-geo,b,1\n"
BLANK_LINE = "Word,Tag\nAcme,B-org\nInc,I-org\n.,O\n\nIn,O\nGraz,B-geo\n\n"
BLANK_ROW = "Word,Tag\nAcme,B-org\nInc,I-org\n.,O\n,\nIn,O\nGraz,B-geo\n"


@pytest.mark.parametrize(
    ("content", "sentence", "numbers"),
    [
        (KAGGLE, "Sentence #", [2, 5]),
        (FILLED, "sent", [2, 5]),
        (MARKED, "new", [2, 5]),
        (TWO_KEYS, ["doc", "sent"], [2, 5]),
        (BLANK_LINE, [], [2, 6]),
        (BLANK_ROW, [], [2, 6]),
    ],
    ids=["first row only", "every row", "a mark", "two columns", "blank line", "blank row"],
)
def test_what_parts_sentences_is_seen(
    tmp_path: Path, content: str, sentence: Any, numbers: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "mine.csv").write_text(content, encoding="utf-8")
    with caplog.at_level(logging.INFO):
        numbers_read, examples = read(tmp_path, task({"token_rows": {"sentence": sentence}}, "mine.csv", **NAMES))
    assert numbers_read == numbers
    assert [row["words"] for row in examples.inputs] == [["Acme", "Inc", "."], ["In", "Graz"]]
    assert spans(examples) == [[("org", "Acme Inc")], [("geo", "Graz")]]
    assert "2 sentences were joined of rows of a word each" in caplog.text


def test_a_parquet_table_with_numbers_is_read_and_other_columns_come_along(tmp_path: Path) -> None:
    table = {"sent": [1.0, None, 2.0], "Word": ["a", "b", "c"], "Tag": ["O", "O", "B-x"], "page": ["p", "p", "q"]}
    pq.write_table(pa.table(table), tmp_path / "mine.parquet")
    config = task({"token_rows": {"sentence": "sent"}}, "mine.parquet", **NAMES)
    assert cells(tmp_path, config, "page", "Word") == [("p", ["a", "b"]), ("q", ["c"])]


def test_columns_may_be_named_below_the_layout(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text(FILLED, encoding="utf-8")
    _, examples = read(tmp_path, task({"token_rows": {"sentence": "sent", "word": "Word", "tag": "Tag"}}, "mine.csv"))
    assert spans(examples) == [[("org", "Acme Inc")], [("geo", "Graz")]]


def test_a_sentence_that_begins_anew_and_a_table_of_one_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "mine.csv").write_text("Word,Tag,sent\na,O,1\nb,O,2\nc,O,1\n", encoding="utf-8")
    read(tmp_path, task({"token_rows": {"sentence": "sent"}}, "mine.csv", **NAMES))
    assert "1 sentences begin anew, such as 1; name a further column" in caplog.text
    (tmp_path / "mine.csv").write_text("Word,Tag\n" + "a,O\n" * 300, encoding="utf-8")
    read(tmp_path, task("token_rows", "mine.csv", **NAMES))
    assert "nothing parts the sentences: one of 300 words was read" in caplog.text


def test_a_word_without_a_tag_and_a_column_that_is_not_there_are_named(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("Word,Tag\na,O\nb,\n", encoding="utf-8")
    with pytest.raises(DataError, match="row 3: the word 'b' has no tag in column 'Tag'; write O for none"):
        read(tmp_path, task("token_rows", "mine.csv", **NAMES))
    with pytest.raises(DataError, match="no column 'word'; did you mean 'Word'"):
        read(tmp_path, task({"token_rows": {"word": "word"}}, "mine.csv", **NAMES))


ROWS = st.lists(
    st.lists(st.tuples(st.sampled_from(["a", "b,c", 'd"', "é", "1"]), st.sampled_from(["O", "B-x"])), min_size=1, max_size=4), min_size=1
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ROWS, st.sampled_from(["filled", "first", "blank row", "blank line"]))
def test_sentences_come_back_as_they_were_written(tmp_path: Path, sentences: list[list[tuple[str, str]]], style: str) -> None:
    file = io.StringIO()
    write = csv.writer(file, lineterminator="\n").writerow
    write(["key", "Word", "Tag"])
    for number, sentence in enumerate(sentences):
        for place, (word, tag) in enumerate(sentence):
            write([number if style == "filled" or (style == "first" and not place) else "", word, tag])
        if style.startswith("blank"):
            file.write("\n" if style == "blank line" else ",,\n")
    (tmp_path / "mine.csv").write_text(file.getvalue(), encoding="utf-8")
    layout = {"token_rows": {"sentence": [] if style.startswith("blank") else "key"}}
    found = cells(tmp_path, task(layout, "mine.csv", **NAMES), "Word", "Tag")
    assert [list(zip(*row, strict=True)) for row in found] == sentences
