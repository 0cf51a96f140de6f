"""Spans of characters become words and tags, and the tags give the same spans back; what cannot is refused with what accepts it."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acclimate.errors import DataError
from acclimate.tasks.tagging.decode import SPLITS, spans_of, split_signs
from acclimate.tasks.tagging.spans import UNITS, Span, SpanOptions, tag_table
from acclimate.tasks.tagging.table import Table

Chars = tuple[int, int, str]
TEXTS = st.text(st.sampled_from("ab é\u0301ß北ไ😀👩\u200d.,'(-)_\n\t5"), max_size=40)
SIZE = {"characters": len, "bytes": lambda text: len(text.encode()), "utf16": lambda text: len(text.encode("utf-16-le")) // 2}


@st.composite
def annotated(draw: st.DrawFn, words: str) -> tuple[str, list[Chars]]:
    """A text and spans of whole words that share none."""
    text = draw(TEXTS)
    found, spans, place = SPLITS[words](text), [], 0
    while place < len(found):
        last = min(place + draw(st.integers(0, 2)), len(found) - 1)
        if draw(st.booleans()):
            spans.append((found[place].start, found[last].end, draw(st.sampled_from(["X", "Y"]))))
        place = last + 1
    return text, spans


def spans_again(text: str, tags: list[str], words: str) -> list[Chars]:
    found = SPLITS[words](text)
    return [(found[first].start, found[last].end, kind) for kind, first, last in spans_of(tags)]


def counted(text: str, spans: list[Chars], unit: str) -> list[list[Any]]:
    return [[SIZE[unit](text[:start]), SIZE[unit](text[:end]), kind] for start, end, kind in spans]


def read(texts: list[Any], labels: list[Any], **options: Any) -> Any:
    return Table.model_validate(options).read({"text": texts, "label": labels}, where="tasks.mine")


@settings(deadline=None, max_examples=200)
@given(st.data(), st.sampled_from(sorted(SPLITS)), st.sampled_from(UNITS))
def test_spans_come_back_from_their_tags(data: st.DataObject, words: str, unit: str) -> None:
    rows = [data.draw(annotated(words)) for _ in range(3)]
    labels = [counted(*row, unit) for row in rows]
    found = read([text for text, _ in rows], labels, words=words, spans={"offsets": unit})
    if any(labels):
        assert [spans_again(text, tags, words) for (text, _), tags in zip(rows, found.labels, strict=True)] == [spans for _, spans in rows]


@settings(deadline=None, max_examples=200)
@given(st.data(), st.sampled_from(UNITS))
def test_the_unit_of_offsets_is_found_from_the_texts_of_the_spans(data: st.DataObject, unit: str) -> None:
    text, spans = data.draw(annotated("signs"))
    labels = [
        {"start": start, "end": end, "label": kind, "text": text[first:last]}
        for (start, end, kind), (first, last, _) in zip(counted(text, spans, unit), spans, strict=True)
    ]
    if labels:
        again = spans_again(text, read([text], [labels], words="signs").labels[0], "signs")
        assert [text[start:end] for start, end, _ in again] == [text[start:end] for start, end, _ in spans]


@settings(deadline=None)
@given(TEXTS)
def test_words_at_signs_cover_every_visible_character_once_and_in_order(text: str) -> None:
    words = split_signs(text)
    assert "".join(word.text for word in words) == "".join(text.split())
    assert all(text[word.start : word.end] == word.text for word in words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Acme's (C++) don't 5kg/day.", ["Acme", "'", "s", "(", "C", "+", "+", ")", "don", "'", "t", "5kg", "/", "day", "."]),
        ("北京 in ไทย", ["北", "京", "in", "ไ", "ท", "ย"]),
        ("हिन्दी में e\u0301a \u0645\u06cc\u200c\u062e\u0648", ["हिन्दी", "में", "e\u0301a", "\u0645\u06cc\u200c\u062e\u0648"]),
        ("snake_case _a", ["snake_case", "_a"]),
    ],
)
def test_words_at_signs(text: str, words: list[str]) -> None:
    assert [word.text for word in split_signs(text)] == words


@pytest.mark.parametrize(
    "span",
    [
        [8, 12, "ORG"],
        (8, 12, "ORG"),
        [8.0, 12.0, "ORG"],
        {"start": 8, "end": 12, "label": "ORG"},
        {"start_offset": 8, "end_offset": 12, "label": "ORG", "id": 3},
        {"start": "8", "end": "12", "labels": ["ORG"], "text": "Acme"},
        {"begin": 8, "end": 12, "type": " ORG "},
    ],
    ids=str,
)
def test_each_spelling_of_a_span_is_read(span: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        found = read(["made by Acme.", "nothing"], [[span], []])
    assert found.labels == [["O", "O", "B-ORG", "O"], ["O"]]
    assert found.inputs[0] == {"words": ["made", "by", "Acme", "."]}
    assert "column 'label' holds spans; their offsets count characters, and texts are divided by `words: ends`" in caplog.text


@pytest.mark.parametrize("label", ["[[8, 12, 'ORG']]", '[[8, 12, "ORG"]]', "[(8, 12, 'ORG')]", "[{'start': 8, 'end': 12, 'label': 'ORG'}]"])
def test_spans_that_were_saved_as_text_are_read(label: str) -> None:
    assert read(["made by Acme.", "nothing"], [label, "[]"]).labels == [["O", "O", "B-ORG", "O"], ["O"]]


@pytest.mark.parametrize(
    ("text", "spans", "message"),
    [
        ("by Acme", [[3, 6, "ORG"]], r"row 1: 'Acm' \(ORG, 3 to 6\) is a part of the word 'Acme'; `spans: {inside_word: widen}`"),
        ("by Acme's", [[3, 7, "ORG"]], r"'Acme' .* is a part of the word \"Acme's\"; `words: signs` divides words so that all fit"),
        ("by Acme", [[3, 70, "ORG"]], r"span 3 to 70 \(ORG\) does not lie in the text of 7 characters"),
        ("by Acme", [[-4, 7, "ORG"]], "span -4 to 7"),
        ("by Acme", [[3, 3, "ORG"]], "ends where it starts"),
        ("by  Acme", [[2, 4, "ORG"]], "a span of ORG holds white space only"),
        (
            "by Acme Inc",
            [[3, 7, "ORG"], [3, 11, "X"]],
            r"'Acme' \(ORG\) and 'Acme Inc' \(X\) share a word; `spans: {overlapping: longest}`",
        ),
        ("by Acme", [{"start": 3, "end": 7, "label": "ORG", "text": "Globex"}], "holds 'Acme', not 'Globex' as it says"),
        ("by Acme", [{"start": 3, "end": 7, "labels": ["ORG", "LOC"]}], r"a span has 2 types \(ORG, LOC\)"),
        ("by Acme", [[3, 7]], r"'\[3, 7\]' is no span; allowed: \[start, end, type\], or {start, end, label}"),
        ("by Acme", [["ORG", 3, 7]], "'ORG' is no whole number"),
        ("by Acme", [[True, 7, "ORG"]], "True is no whole number"),
        ("😀é by Acme", [[7, 11, "ORG"], [4, 6, "X"]], "all fit by `spans: {offsets: utf16}`"),
        (["by", "Acme"], [[1, 2, "ORG"]], "row 1: .* is no text; spans of characters need a text"),
    ],
)
def test_spans_at_fault_are_named_with_what_accepts_them(text: Any, spans: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read([text], [spans])


@pytest.mark.parametrize(
    ("text", "spans", "options", "tags", "said"),
    [
        ("by Acme", [[3, 6, "ORG"]], {"inside_word": "widen"}, ["O", "B-ORG"], "1 spans are widened to whole words, such as in row 1"),
        ("by Acme", [[3, 6, "ORG"]], {"inside_word": "drop"}, ["O", "O"], "1 spans are dropped, since they end inside a word"),
        (
            "by Acme Inc",
            [[3, 7, "ORG"], [3, 11, "X"]],
            {"overlapping": "longest"},
            ["O", "B-X", "I-X"],
            "1 spans are dropped, since a longer",
        ),
        ("by Acme Inc", [[2, 8, "ORG"]], {}, ["O", "B-ORG", "O"], "1 spans are without the white space at their ends"),
        ("by Acme", [[3, 7, "ORG"], [3, 7, "ORG"]], {}, ["O", "B-ORG"], "1 spans are given twice"),
    ],
)
def test_what_is_done_to_spans_is_counted(
    text: str, spans: list[Any], options: dict[str, str], tags: list[str], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert read([text], [spans], spans=options).labels == [tags]
    assert said in caplog.text


def test_a_type_may_be_renamed_or_left_out() -> None:
    texts, labels = ["by Acme Inc"], [[[3, 7, "ORG"], [3, 11, "X"]]]
    assert read(texts, labels, label_map={"ORG": "O", "X": "company"}).labels == [["O", "B-company", "I-company"]]
    found = read(texts, labels, label_map={"ORG": "O", "X": "company"})
    assert len(Table(label_map={"ORG": "O", "Z": "z"}).notes(found.spelled)) == 1


def test_a_row_that_nobody_has_annotated_has_no_tags() -> None:
    assert read(["by Acme", "by Acme", "by"], [[[3, 7, "ORG"]], None, []]).labels == [["O", "B-ORG"], None, ["O"]]


def test_settings_that_say_nothing_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    read(["by Acme"], [[[3, 7, "ORG"]]], scheme="bioes")
    assert "`scheme` says nothing here: column 'label' holds spans" in caplog.text
    read([["by", "Acme"]], [["O", "B-X"]], spans={"offsets": "utf16"})
    assert "`spans` says nothing here: column 'label' holds a tag for each word" in caplog.text


def test_thousands_of_spans_take_no_longer_than_their_number() -> None:
    text = "word " * 20_000
    spans = [Span(5 * place, 5 * place + 4, "X") for place in range(20_000)]
    table = tag_table([text], [spans], "ends", SpanOptions(overlapping="longest"))
    assert table.rows[0].tags == ["B-X"] * 20_000
