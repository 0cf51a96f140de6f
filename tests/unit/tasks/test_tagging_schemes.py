"""Tags of any scheme become BIO with the same spans, as seqeval counts them; what contradicts its scheme is refused by its row."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities
from seqeval.scheme import BILOU, IOB1, IOB2, IOBES, Entities

from acclimate.errors import DataError
from acclimate.tasks.tagging.cells import parse_list_text
from acclimate.tasks.tagging.schemes import convert
from acclimate.tasks.tagging.table import Table

Span = tuple[str, int, int]
"""Type, first and last word."""
STRICT = {"bio": IOB2, "iob1": IOB1, "bioes": IOBES, "bilou": BILOU}


@st.composite
def rows(draw: st.DrawFn) -> list[tuple[int, list[Span]]]:
    """Number of words and spans of some sentences, some of whose spans are neighbours of one type."""
    found = []
    for _ in range(draw(st.integers(1, 4))):
        spans, place = [], 0
        for _ in range(draw(st.integers(0, 4))):
            place += draw(st.integers(0, 2))
            length = draw(st.integers(1, 3))
            spans.append((draw(st.sampled_from(["ORG", "B", "first name"])), place, place + length - 1))
            place += length
        found.append((place + draw(st.integers(0, 2)), spans))
    return found


def spell(num_words: int, spans: Sequence[Span], scheme: str) -> list[str]:
    """The tags of a sentence, written as each scheme is defined."""
    tags = ["O"] * num_words
    last = {"bioes": "ES", "bilou": "LU"}.get(scheme)
    before: Span | None = None
    for span in spans:
        kind, first, end = span
        letters = ["B", *"I" * (end - first)]
        if scheme == "iob1" and not (before and before[0] == kind and before[2] == first - 1):
            letters[0] = "I"
        if last:
            letters[-1] = last[0] if end > first else last[1]
        tags[first : end + 1] = [f"{letter}-{kind}" for letter in letters]
        before = span
    return tags


def entities(tags: Sequence[Sequence[str]]) -> list[list[Span]]:
    return [get_entities(list(row)) for row in tags]


@settings(deadline=None, max_examples=200)
@given(rows(), st.sampled_from(sorted(STRICT)))
def test_a_strict_scheme_is_found_and_gives_the_spans_that_were_written(table: list[tuple[int, list[Span]]], scheme: str) -> None:
    tags = [spell(*row, scheme) for row in table]
    converted = convert(tags, "auto")
    assert converted.faults == {}
    assert entities([row or [] for row in converted.rows]) == [spans for _, spans in table]
    assert convert(tags, scheme).rows == converted.rows  # type: ignore[arg-type]
    strict = Entities(tags, STRICT[scheme]).entities
    assert [[(each.tag, each.start, each.end - 1) for each in row] for row in strict] == [spans for _, spans in table]


@settings(deadline=None, max_examples=300)
@given(st.lists(st.lists(st.sampled_from(["O", *(f"{letter}-{kind}" for letter in "BIES" for kind in "XY")]), max_size=8), max_size=5))
def test_conlleval_gives_the_entities_of_seqeval_for_any_tags(tags: list[list[str]]) -> None:
    converted = convert(tags, "conlleval")
    assert converted.faults == {}
    assert entities([row or [] for row in converted.rows]) == entities(tags)


@settings(deadline=None, max_examples=300)
@given(st.lists(st.lists(st.sampled_from(["O", "B-X", "I-X", "B-Y", "I-Y"]), min_size=1, max_size=6), min_size=1, max_size=4))
def test_auto_refuses_tags_or_reads_them_as_seqeval_does(tags: list[list[str]]) -> None:
    converted = convert(tags, "auto")
    if converted.faults:
        assert "`scheme: " in converted.advice
        assert not all(is_valid(row, "bio") for row in tags)
        assert not all(is_valid(row, "iob1") for row in tags)
    else:
        assert entities([row or [] for row in converted.rows]) == entities(tags)


def is_valid(tags: Sequence[str], scheme: str) -> bool:
    return spell(len(tags), get_entities(list(tags)), scheme) == list(tags)


@pytest.mark.parametrize(
    ("tags", "scheme", "bio"),
    [
        (["b-org", "i-org", "o"], "bio", ["B-org", "I-org", "O"]),
        (["B_ORG", "I_ORG", "O"], "bio", ["B-ORG", "I-ORG", "O"]),
        (["B:ORG", "I:ORG", "_"], "bio", ["B-ORG", "I-ORG", "O"]),
        (["ORG-B", "ORG-I", "O"], "bio", ["B-ORG", "I-ORG", "O"]),
        (["B", "I", "O", "B"], "bio", ["B-span", "I-span", "O", "B-span"]),
        (["I-ORG", "I-ORG", "B-ORG", "I-LOC"], "iob1", ["B-ORG", "I-ORG", "B-ORG", "B-LOC"]),
        (["ORG", "ORG", "LOC", "O", "ORG"], "io", ["B-ORG", "I-ORG", "B-LOC", "O", "B-ORG"]),
        (["hepatitis_B", "O", "vitamin_B"], "io", ["B-hepatitis_B", "O", "B-vitamin_B"]),
        (["B-X", "E-X", "S-X", "0"], "bioes", ["B-X", "I-X", "B-X", "O"]),
        (["B-X", "M-X", "E-X", "W-X"], "bioes", ["B-X", "I-X", "I-X", "B-X"]),
        (["B-X", "I-X", "L-X", "U-X", "-"], "bilou", ["B-X", "I-X", "I-X", "B-X", "O"]),
        (["B-first-name", "I-first-name", "OUT"], "bio", ["B-first-name", "I-first-name", "O"]),
    ],
)
def test_each_spelling_of_tags_is_read(tags: list[str], scheme: str, bio: list[str]) -> None:
    converted = convert([tags], "auto")
    assert (converted.scheme, converted.rows) == (scheme, [bio])


@pytest.mark.parametrize(
    ("tags", "scheme", "message", "advice"),
    [
        ([["B-X", "O", "I-X"]], "auto", "'I-X' follows 'O'; a span starts with B-", "`scheme: conlleval`"),
        ([["B-X"], ["I-Y"]], "auto", "'I-Y' follows 'O'", "`scheme: conlleval`"),
        ([["O"], ["I-Y"]], "bio", "'I-Y' follows 'O'", "`scheme: iob1` fits all rows"),
        ([["B-X", "O"]], "iob1", "'B-X' follows 'O'; only a span right after one of its type", "`scheme: bio` fits all rows"),
        ([["B-X", "E-X"]], "bio", "tag 'E-X' is none of bio, whose letters are B, I", "`scheme: bioes` fits all rows"),
        ([["B-X", "O", "S-X"]], "auto", "'B-X' is followed by 'O'", "`scheme: conlleval`"),
        ([["E-X", "S-X"]], "auto", "'E-X' follows 'O'", "`scheme: conlleval`"),
        ([["B-X", "I-X"]], "bilou", "'I-X' is followed by 'the end'", "`scheme: bio` fits all rows"),
        ([["B-X", "PER", "O"]], "auto", "tag 'PER' is not O, B-… or I-… as 'B-X' is; name it by label_map", ""),
        ([["0", "3", "4"]], "auto", "tag '3' is a number; name each by label_map", ""),
        ([["NOUN", "VERB"]], "auto", "tag 'NOUN' is not O, B-… or I-…, and none is O; `scheme: io`", ""),
    ],
)
def test_a_contradiction_is_named_with_what_accepts_it(tags: list[list[str]], scheme: Any, message: str, advice: str) -> None:
    converted = convert(tags, scheme)
    (fault,) = set(converted.faults.values())
    assert message in fault
    assert advice in converted.advice
    assert "{" not in converted.advice


@settings(deadline=None)
@given(rows(), st.sampled_from(sorted(STRICT)))
def test_what_the_advice_names_is_accepted(table: list[tuple[int, list[Span]]], scheme: str) -> None:
    tags = [spell(*row, scheme) for row in table]
    for other in STRICT:
        converted = convert(tags, other)  # type: ignore[arg-type]
        if converted.faults:
            named = converted.advice.split("`scheme: ")[1].split("`")[0]
            assert convert(tags, named).faults == {}  # type: ignore[arg-type]


def read(cells: dict[str, list[Any]], **options: Any) -> Any:
    return Table.model_validate(options).read(cells, where="tasks.mine")


WORDS = ["Acme", "Systems", "fails"]


@pytest.mark.parametrize(
    ("label_map", "tags", "expected"),
    [
        ({"ORG": "company"}, ["B-ORG", "I-ORG", "O"], ["B-company", "I-company", "O"]),
        ({"ORG": "O"}, ["B-ORG", "I-ORG", "B-LOC"], ["O", "O", "B-LOC"]),
        ({"B-ORG": "B-LOC", "I-ORG": "I-LOC"}, ["B-ORG", "I-ORG", "O"], ["B-LOC", "I-LOC", "O"]),
        ({"0": "O", "1": "B-X", "2": "I-X"}, [1, 2, 0], ["B-X", "I-X", "O"]),
        ({"A": "B", "B": "A"}, ["A", "O", "B"], ["B-B", "O", "B-A"]),
        ({"A": "C", "B": "C"}, ["I-A", "I-B", "O"], ["B-C", "B-C", "O"]),
    ],
)
def test_a_label_map_names_tags_or_types(label_map: dict[str, str], tags: list[Any], expected: list[str]) -> None:
    found = read({"text": [WORDS], "label": [tags]}, label_map=label_map)
    assert found.labels == [expected]
    assert Table(label_map=label_map).notes(found.spelled) == []
    (note,) = Table(label_map={**label_map, "XYZ": "x"}).notes(found.spelled)
    assert "'XYZ'" in note
    assert "''" not in note


@pytest.mark.parametrize(
    ("words", "tags"),
    [
        ("['Acme', 'Systems', 'fails']", "['B-ORG', 'I-ORG', 'O']"),
        ('["Acme", "Systems", "fails"]', '["B-ORG", "I-ORG", "O"]'),
        ("['Acme' 'Systems'\n 'fails']", "['B-ORG' 'I-ORG'\n 'O']"),
        ("Acme Systems fails", "B-ORG I-ORG O"),
    ],
    ids=["python", "json", "numpy", "spaces"],
)
def test_lists_that_were_saved_as_text_are_read(words: str, tags: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        found = read({"text": [words] * 3, "label": [tags] * 3})
    assert found.inputs == [{"words": WORDS}] * 3
    assert found.labels == [["B-ORG", "I-ORG", "O"]] * 3
    assert ("column 'text': lists that were saved as text are read as lists" in caplog.text) == ("[" in words)


def test_a_text_that_is_no_list_among_lists_is_refused_by_its_row() -> None:
    with pytest.raises(DataError, match=r"column 'label': row 2: \"\['O' \.\.\. 'O'\]\" is no list of JSON or Python; NumPy leaves"):
        read({"text": ["['a', 'b']"] * 3, "label": ["['O', 'O']", "['O' ... 'O']", "['O', 'O']"]})


@given(st.lists(st.text(min_size=1), min_size=2))
def test_a_printed_list_gives_its_own_elements(elements: list[str]) -> None:
    assert parse_list_text(repr(elements)) == elements
    assert parse_list_text("[" + " ".join(map(repr, elements)) + "]") == elements


def test_a_row_without_tags_has_none_and_a_table_of_single_words_is_refused() -> None:
    assert read({"text": [WORDS, WORDS], "label": [None, ["B-X", "O", "O"]]}).labels == [None, ["B-X", "O", "O"]]
    single = {"text": [["a"]] * 30, "label": [["O"]] * 30}
    with pytest.raises(DataError, match=r"30 of 30 rows hold one word; .* `layout: \{token_rows: \{sentence: "):
        read(single)
    assert len(read(single, one_word_rows=True).labels) == 30


def test_the_scheme_that_was_found_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    for tags, scheme in itertools.product([["I-X", "O", "_"]], ["auto", "iob1"]):
        with caplog.at_level(logging.INFO):
            read({"text": [WORDS], "label": [tags]}, scheme=scheme)
        assert f"tasks.mine: column 'label': the tags are read as iob1 (`scheme: {scheme}`); '_' as O" in caplog.text
