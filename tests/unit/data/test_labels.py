"""Labels of a table: what is read as one, what is refused, and with which advice."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from acclimate import kinds
from acclimate.data.label_lists import are_vectors, list_in_text, names_of_vector, parse_list, unpacked
from acclimate.data.naming import name_of
from acclimate.data.options import TaskConfig
from acclimate.data.quarantine import Quarantine
from acclimate.data.schema import DROPPED, LabelMap, map_labels, notes_on_labels
from acclimate.data.tables import load_table
from acclimate.errors import DataError

LABEL_MAP: TypeAdapter[dict[str, str | None]] = TypeAdapter(LabelMap)
NAMES = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=8).filter(name_of)


def read(kind: str, labels: list[Any], **options: Any) -> list[Any]:
    table = kinds.configured_table(kind, options)
    return table.read({"text": [f"text {row}" for row in range(len(labels))], "label": labels}, where="w").labels


@settings(deadline=None)
@given(st.lists(NAMES, max_size=5))
def test_a_list_saved_as_text_is_the_list(names: list[str]) -> None:
    of_numpy = str([np.str_(name) for name in names])
    for text in (json.dumps(names), json.dumps(names, ensure_ascii=False), repr(names), of_numpy):
        assert list_in_text(text) == names
    if names:
        assert list_in_text(repr(tuple(names))) == names


@settings(deadline=None)
@given(st.lists(st.text("ab c'\",[]", min_size=1, max_size=4), min_size=2, max_size=4))
def test_an_array_of_numpy_saved_as_text_is_the_list(names: list[str]) -> None:
    assert list_in_text(str(np.array(names, dtype=object))) == names


@settings(deadline=None)
@given(st.text("[]{}()'\",: ab01.\\", max_size=30))
def test_any_text_is_a_list_or_none_and_nothing_else_happens(text: str) -> None:
    assert list_in_text(text, bare=True) is None or isinstance(list_in_text(text, bare=True), list)
    for separator in (None, ","):
        try:
            assert all(parse_list(text, separator))
        except ValueError:
            continue


@pytest.mark.parametrize(
    ("text", "bare", "expected"),
    [
        ("[1 0 0 1]", False, [1, 0, 0, 1]),
        ("[1. 0.]", False, [1.0, 0.0]),
        ("array(['a', 'b'], dtype=object)", False, ["a", "b"]),
        ("['a' 'b']", False, ["a", "b"]),
        ("{'a'}", False, ["a"]),
        ("[a, b]", False, None),
        ("[a, b]", True, ["a", "b"]),
        ("[unused]", False, None),
        ("a, b", True, None),
        ("['a' 'b', 'c']", True, None),
        ("[[1], [2]]", False, [[1], [2]]),
    ],
)
def test_ways_to_write_a_list(text: str, bare: bool, expected: list[Any] | None) -> None:
    assert list_in_text(text, bare=bare) == expected


@settings(deadline=None)
@given(st.integers(2, 6), st.data())
def test_vectors_of_0_and_1_are_never_names(places: int, data: st.DataObject) -> None:
    bits = st.lists(st.sampled_from([0, 1]), min_size=places, max_size=places)
    vectors = data.draw(st.lists(bits, min_size=1, max_size=6))
    cast = data.draw(st.sampled_from([int, float, bool, str, np.int64]))
    written: list[Any] = [[cast(bit) for bit in row] for row in vectors]
    if data.draw(st.booleans()):
        written = [str(row) for row in written]
    with pytest.raises(DataError, match=r"vectors of 0 and 1.*label_names"):
        read("multi_label", written)
    names = [f"n{place}" for place in range(places)]
    expected = [[name for name, bit in zip(names, row, strict=True) if bit] for row in vectors]
    if cast is not bool or not isinstance(written[0], str):
        assert read("multi_label", written, label_names=names) == expected


def test_lists_of_numbers_are_vectors_where_they_can_be_nothing_else() -> None:
    assert are_vectors([["1", "0"], ["0", "0"]]) and are_vectors([["0", "0", "1"], ["0"]])
    assert not are_vectors([["0"], ["1", "0"], []]) and not are_vectors([["2", "0"], ["0", "1"]]) and not are_vectors([[], None])
    assert unpacked([["01"], None, [], ["11"]]) == [["0", "1"], None, [], ["1", "1"]]
    assert unpacked([["01"], ["111"]]) == [["01"], ["111"]] and unpacked([["10", "11"]]) == [["10", "11"]] and unpacked([["1"]]) == [["1"]]
    assert names_of_vector(["1", "0", "true"], ["a", "b", "c"]) == ["a", "c"]


@pytest.mark.parametrize(
    ("kind", "cell", "options", "said"),
    [
        ("multi_label", "billing", {}, "give label_separator"),
        ("multi_label", "['a', 'b'", {"label_separator": ","}, "begins as a list and is none"),
        ("multi_label", '{"a": 1}', {"label_separator": ","}, "is a mapping"),
        ("multi_label", {"a": 1}, {}, "is a mapping"),
        ("multi_label", [["a"], ["b"]], {}, "list of lists"),
        ("multi_label", [0.9, 0.1], {}, "fractions"),
        ("multi_label", ["a", ""], {}, "one of its labels is empty"),
        ("multi_label", [1, 0], {"label_names": ["a", "b", "c"]}, "a vector of 2 numbers; label_names has 3 names"),
        ("multi_label", [1, 2], {"label_names": ["a", "b"]}, "'2' is neither 0 nor 1"),
        ("classification", ["a", "b"], {}, "kind `multi_label`"),
        ("classification", "['a', 'b']", {}, "kind `multi_label`"),
        ("classification", "{'a': 1}", {}, "is a mapping"),
        ("classification", 0.5, {}, "kind `regression`"),
        ("regression", "1,5", {}, 'decimal: ","'),
        ("regression", "45%", {}, "percent sign"),
        ("regression", "1_000", {}, "is no number"),
        ("regression", "nan", {}, "not finite"),
        ("regression", "inf", {}, "not finite"),
        ("regression", True, {}, "classification"),
        ("regression", "3 of 5", {}, "is no number"),
    ],
)
def test_a_cell_that_is_no_label_is_refused_with_its_row_and_advice(kind: str, cell: Any, options: dict[str, Any], said: str) -> None:
    good: Any = {"multi_label": ["a"], "classification": "a", "regression": 1.5}[kind]
    if "label_names" in options:
        good = [1] * len(options["label_names"])
    with pytest.raises(DataError) as refused:
        read(kind, [good, cell], **options)
    assert "1 of 2 labels cannot be read: row 2: " in str(refused.value)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("kind", "cells", "expected"),
    [
        ("classification", [["a"], "b", "['c']", "[other]", [], None], ["a", "b", "c", "[other]", None, None]),
        ("classification", [0, 0.0, "0", "0.0", True, "TRUE"], ["0", "0", "0", "0", "true", "true"]),
        ("multi_label", [["b", "a", "b"], ["a", "b"], [], None], [["a", "b"], ["a", "b"], [], None]),
        ("multi_label", [[3, 1.0], ["3", True]], [["1", "3"], ["3", "true"]]),
        ("regression", ["1.5", 2, "-.5e1", None, float("nan")], [1.5, 2.0, -5.0, None, None]),
    ],
)
def test_cells_that_are_labels(kind: str, cells: list[Any], expected: list[Any]) -> None:
    assert read(kind, cells) == expected


def test_a_label_that_only_looks_like_a_list_is_read_where_label_map_names_it() -> None:
    assert read("classification", ["[18, 25]", "[26, 40]"], label_map={"[18, 25]": "young", "[26, 40]": "old"}) == ["young", "old"]


def test_one_column_of_0_and_1_for_each_label() -> None:
    cells = {"text": list("abcd"), "legal": [1, "0", True, None], "bills": [0.0, "1", False, None]}
    table = kinds.configured_table("multi_label", {"label": ["legal", "bills"]})
    assert table.columns() == ["text", "legal", "bills"]
    assert table.read(cells, where="w").labels == [["legal"], ["bills"], ["legal"], None]
    named = kinds.configured_table("multi_label", {"label": ["legal", "bills"], "label_names": ["law", "money"]})
    assert named.read(cells, where="w").labels == [["law"], ["money"], ["law"], None]
    with pytest.raises(DataError, match="row 1: column 'bills': 'x' is neither 0 nor 1"):
        table.read({**cells, "bills": ["x", 0, 0, 0]}, where="w")
    with pytest.raises(DataError, match="row 1: column 'bills': empty, where 0 or 1 is wanted"):
        table.read({**cells, "bills": [None, 0, 0, 0]}, where="w")
    with pytest.raises(ValidationError, match="3 names for the 2 columns"):
        kinds.configured_table("multi_label", {"label": ["a", "b"], "label_names": ["x", "y", "z"]})


@settings(deadline=None)
@given(st.dictionaries(st.one_of(st.booleans(), st.integers(), NAMES), st.one_of(NAMES, st.none()), max_size=4))
def test_keys_of_a_label_map_are_found_by_any_spelling(mapping: dict[Any, str | None]) -> None:
    if len({name_of(key) for key in mapping}) < len(mapping):
        return
    named = LABEL_MAP.validate_python(mapping)
    labels = [name_of(key) for key in mapping]
    assert map_labels(labels, named) == [DROPPED if new is None else name_of(new) for new in mapping.values()]
    assert not any(note.startswith("label_map") for note in notes_on_labels(named, labels))


def test_keys_of_a_label_map_as_yaml_types_them() -> None:
    named = LABEL_MAP.validate_python({0: "no", "1.0": "yes", None: "none", "-": None})
    assert named == {"0": "no", "1": "yes", "null": "none", "-": None}
    assert map_labels(["0", "1", ["0", "1"], ["0", "-"], None, "x"], named) == ["no", "yes", ["no", "yes"], DROPPED, None, "x"]
    for wrong, said in (({"a": ""}, "write null"), ({"a": " "}, "write null"), ({0: "a", "0.0": "b"}, "stands in it twice")):
        with pytest.raises(ValidationError, match=said):
            LABEL_MAP.validate_python(wrong)


def test_rows_that_label_map_leaves_out_are_quarantined_under_their_own_rule(tmp_path: Path) -> None:
    lines = [json.dumps({"text": f"text {row}", "label": "-" if row % 2 else "ab"[row % 4 // 2]}) for row in range(200)]
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    quarantine = Quarantine()
    loaded = load_table("t", TaskConfig(kind="classification", data="t.jsonl", label_map={"-": None}), tmp_path, quarantine, seed=0)  # type: ignore[call-arg]
    assert quarantine.count("tables/t") == {"label_map": 100}
    quarantine.kept["tables/t"] = 100
    quarantine.check(0.01)  # left out because the user said so, which is no fault
    assert {row.label for rows in loaded.by_split.values() for row in rows} == {"a", "b"}


def test_labels_that_look_alike_are_told(caplog: pytest.LogCaptureFixture) -> None:
    notes = notes_on_labels({}, ["Bill", "bill", "bill", "\uff22ill", "legal"])
    assert notes == [
        "label: 'Bill' (1 rows), 'bill' (2 rows), '\uff22ill' (1 rows) are different labels; if they are one, join them by label_map"
    ]
    assert notes_on_labels({"a": "b"}, ["nan", "a", "nan"]) == [
        "label: 2 rows have the label 'nan'; if it says that there is none, leave them out by `label_map: {nan: null}`"
    ]
    assert notes_on_labels({"nan": None}, ["nan", "a"]) == []
    assert notes_on_labels({"Billing": "billing"}, ["Billing", "billing"]) == []
    with caplog.at_level(logging.INFO):
        read("multi_label", ["['a', 'b']", ["a"]])
    assert "1 of 2 cells are lists saved as text; read as lists" in caplog.text


def test_a_label_of_test_that_training_spells_otherwise_is_named() -> None:
    table = kinds.configured_table("classification", {})
    with pytest.raises(DataError, match="'billing' is 'Billing' in training: join them by label_map"):
        table.collect_labels({"train": ["Billing", "Billing", "legal", "legal"], "dev": [], "test": ["billing"]}, where="w")
    with pytest.raises(DataError, match="leave its rows out by `label_map"):
        table.collect_labels({"train": ["1", "1", "2"], "dev": [], "test": []}, where="w")
    with pytest.raises(DataError, match="kind `regression`"):
        table.collect_labels({"train": [str(number) for number in range(20)], "dev": [], "test": []}, where="w")


@pytest.mark.parametrize(
    ("cell", "separator", "names"), [("[x; y]", ";", ["x", "y"]), ("[x, y]", None, ["x", "y"]), ("x; y", ";", ["x", "y"])]
)
def test_a_list_in_brackets_is_parted_by_the_separator_that_is_given(cell: str, separator: str | None, names: list[str]) -> None:
    assert parse_list(cell, separator) == names
