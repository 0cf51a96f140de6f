"""Decontamination: what holds an evaluation text is found with its overlap, and what only shares a stock sentence is not."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from acclimate.data.leakage.contamination import (
    Contamination,
    DecontaminationConfig,
    EvaluationIndex,
    EvaluationText,
    Match,
    decide,
    verdict,
)
from tests.unit.data.words import words_of

SNAPSHOT = Path(__file__).parents[3] / "data" / "debian"
CONFIG = DecontaminationConfig()
PLACE = "tables/t:test"


def words(*numbers: range) -> str:
    return " ".join(f"w{number}" for part in numbers for number in part)


def index_of(*texts: str, config: DecontaminationConfig = CONFIG) -> EvaluationIndex:
    return EvaluationIndex.build([EvaluationText(PLACE, str(row), text) for row, text in enumerate(texts)], config)


def overlaps(index: EvaluationIndex, *documents: str) -> list[tuple[int, str, float]]:
    return [(match.document, match.id, match.overlap) for match in index.check(documents)]


def brute_force(document: str, text: str, config: DecontaminationConfig) -> float:
    mine, other = (words_of(one) for one in (document, text))
    if len(other) < config.min_words:
        return float(mine == other)
    size = min(config.ngram, len(other))
    mine_runs, other_runs = ([tuple(run[at : at + size]) for at in range(len(run) - size + 1)] for run in (mine, other))
    shared = len(set(mine_runs) & set(other_runs))
    if size < config.ngram:
        return float(shared)
    return shared / min(len(mine_runs), len(set(other_runs))) if shared else 0.0


def test_overlaps_of_real_texts_are_those_of_counting_runs() -> None:
    config = DecontaminationConfig(threshold=0.01, ngram=6, min_words=4)
    rows = [row for row in pq.read_table(SNAPSHOT / "section.parquet").to_pylist() if row["split"] != "train" and row["text"].isascii()][
        :250
    ]
    documents = [text for text in pq.read_table(SNAPSHOT / "corpus.parquet")["text"].to_pylist()[:1200:12] if text.isascii()]
    documents += [row["text"][20:200] for row in rows[::3]]
    index = EvaluationIndex.build([EvaluationText(PLACE, str(number), row["text"]) for number, row in enumerate(rows)], config)
    expected = {
        (document, str(row)): overlap
        for document, mine in enumerate(documents)
        for row, other in enumerate(rows)
        if (overlap := brute_force(mine, other["text"], config)) >= config.threshold
    }
    assert len(expected) > 50
    assert {(match.document, match.id): match.overlap for match in index.check(documents)} == pytest.approx(expected)


@settings(deadline=None)
@given(st.lists(st.lists(st.sampled_from("ab"), max_size=14).map(" ".join), max_size=4), st.lists(st.sampled_from("ab"), max_size=14))
def test_overlaps_of_texts_that_repeat_themselves_are_those_of_counting_runs(texts: list[str], document: list[str]) -> None:
    config = DecontaminationConfig(ngram=5, min_words=3, threshold=0.01)
    distinct = [text for text in dict.fromkeys(texts) if text]
    mine = " ".join(document)
    expected = [(0, str(row), brute_force(mine, text, config)) for row, text in enumerate(distinct)]
    assert sorted(overlaps(index_of(*distinct, config=config), mine)) == [pair for pair in expected if pair[2] > 0]


def test_a_text_quoted_among_other_words_is_found() -> None:
    index = index_of(words(range(40)))
    assert overlaps(index, words(range(500, 900), range(40), range(900, 1200)), words(range(500, 900))) == [(0, "0", 1.0)]


def test_a_document_that_is_a_part_of_a_text_is_found() -> None:
    assert overlaps(index_of(words(range(300))), words(range(100, 130))) == [(0, "0", 1.0)]


def test_the_overlap_is_the_share_of_runs_and_the_threshold_is_kept() -> None:
    index = index_of(words(range(32)))  # 20 runs of 13
    half, less = words(range(22), range(100, 200)), words(range(21), range(100, 200))
    assert overlaps(index, less, half) == [(1, "0", 0.5)]


def test_case_and_punctuation_do_not_hide_a_text() -> None:
    text = "The printf ( 3 ) function writes output to stdout , the standard output stream of a program ."
    assert overlaps(
        index_of(text), "See: the `printf(3)` function writes output to STDOUT -- the standard output stream of a program!"
    ) == [(0, "0", 1.0)]


def test_a_text_of_eight_to_twelve_words_must_stand_there_whole() -> None:
    index = index_of(words(range(10)))
    assert overlaps(index, words(range(50, 90), range(10)), words(range(9), range(50, 90)), words(range(1, 10))) == [(0, "0", 1.0)]


def test_a_text_of_fewer_words_matches_only_a_document_of_them() -> None:
    index = index_of("a text editor")
    assert overlaps(index, "this is a text editor", "A text editor!", "a text", "") == [(1, "0", 1.0)]


def test_equal_texts_are_held_once_under_the_first_row() -> None:
    index = index_of(words(range(20)), words(range(20)).upper(), words(range(30, 50)))
    assert index.num_texts == 3
    assert overlaps(index, words(range(20), range(30, 50))) == [(0, "0", 1.0), (0, "2", 1.0)]


def test_bounds_of_batches_do_not_change_the_matches() -> None:
    index = index_of(*(words(range(start, start + 20)) for start in range(0, 200, 10)))
    documents = [words(range(start, start + 25)) for start in range(180)]
    whole = index.check(documents)
    parted = [
        dataclasses.replace(match, document=match.document + at) for at in range(180) for match in index.check(documents[at : at + 1])
    ]
    assert len(whole) > 180
    assert parted == whole


def test_a_short_text_in_many_documents_is_a_stock_sentence_and_a_long_one_never() -> None:
    index = index_of(words(range(9)), words(range(100, 120)), words(range(200, 209)))
    stock = [words(range(9), range(1000 + number * 20, 1020 + number * 20)) for number in range(11)]
    copied = [words(range(100, 120), range(5000 + number * 20, 5020 + number * 20)) for number in range(11)]
    both = [words(range(9), range(200, 209))]
    found = decide(index.check([*stock, *copied, *both]), CONFIG)
    assert [row[:2] for row in found.stock] == [(PLACE, "0")]
    assert [(match.document, match.id) for match in found.worst] == [*((number, "1") for number in range(11, 22)), (22, "2")]
    assert len(decide(index.check(stock[:10]), CONFIG).worst) == 10


def test_stock_sentences_that_are_known_are_not_counted_again() -> None:
    index = index_of(words(range(9)), words(range(200, 209)))
    whole = [words(range(9), range(1000 + number * 20, 1020 + number * 20)) for number in range(11)]
    stock = [key for _, _, key in decide(index.check(whole), CONFIG).stock]
    assert [match.document for match in decide(index.check(whole[:5]), CONFIG).worst] == [0, 1, 2, 3, 4]
    assert decide(index.check(whole[:5]), CONFIG, stock=stock).worst == ()
    assert len(decide(index.check(whole), CONFIG, stock=()).worst) == 11
    other_rows = EvaluationIndex.build([EvaluationText("tables/u:dev", "x", words(range(9)).upper())], CONFIG)
    assert decide(other_rows.check(whole[:5]), CONFIG, stock=stock).stock == (("tables/u:dev", "x", stock[0]),)


def test_the_texts_of_a_pair_are_counted_apart() -> None:
    pair = [EvaluationText(PLACE, "0", words(range(9))), EvaluationText(PLACE, "0", words(range(100, 109)))]
    index = EvaluationIndex.build(pair, CONFIG)
    documents = [words(part, range(1000 + at * 20, 1020 + at * 20)) for at, part in enumerate([range(9), range(100, 109)] * 6)]
    assert decide(index.check(documents), CONFIG).stock == ()


def test_a_document_goes_for_the_row_it_overlaps_most_then_the_first_by_name() -> None:
    matches = [
        Match(4, "b:test", "1", "key1", 0.9, False),
        Match(4, "a:test", "2", "key2", 0.9, False),
        Match(4, "a:dev", "3", "key3", 0.6, False),
    ]
    assert decide(matches, CONFIG) == decide(matches[::-1], CONFIG) == Contamination((matches[1],), ())


def test_the_verdict_says_what_was_checked() -> None:
    index = index_of(words(range(20)))
    found = decide(index.check([words(range(20)), "something else"]), CONFIG)
    record = verdict(index, found, documents=2)
    assert json.loads(json.dumps(record)) == record
    assert record == {
        "checked": True,
        "rules": {"enabled": True, "ngram": 13, "min_words": 8, "max_documents": 10, "threshold": 0.5},
        "evaluation_texts": 1,
        "documents": 2,
        "documents_dropped": 1,
        "dropped_by_place": {PLACE: 1},
        "stock_sentences": [],
    }
    assert verdict(None, Contamination((), ()), documents=2) == {"checked": False}


def test_without_evaluation_texts_nothing_matches() -> None:
    for index in (index_of(), index_of("", " ")):
        assert index.check(["some text", ""]) == []
    assert index_of("a b c").check([]) == []


def test_min_words_above_ngram_is_refused() -> None:
    with pytest.raises(ValidationError, match="min_words 8 is above ngram 5; allowed: 1 to 5"):
        DecontaminationConfig(ngram=5)


@pytest.mark.parametrize("texts", [(), ("a text editor", words(range(9)), words(range(40)), words(range(20, 80)))])
def test_an_index_read_from_its_file_finds_the_same(texts: tuple[str, ...], tmp_path: Path) -> None:
    index = index_of(*texts)
    index.save(tmp_path / "index.npz")
    again = EvaluationIndex.load(tmp_path / "index.npz")
    documents = ["a text editor", words(range(9)), words(range(10, 50)), words(range(25, 75)), ""]
    assert again.check(documents) == index.check(documents)
    assert (again.config, again.num_texts, again.places, again.ids) == (index.config, index.num_texts, index.places, index.ids)


def test_an_index_that_holds_objects_is_refused_unread(tmp_path: Path) -> None:
    class Planted:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "ran",))

    np.savez(tmp_path / "index.npz", keys=np.array([Planted()], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        EvaluationIndex.load(tmp_path / "index.npz")
    assert not (tmp_path / "ran").exists()
