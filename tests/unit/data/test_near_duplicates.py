"""Near-duplicates: found as often as the bands promise, dropped only where the sets of shingles say so, the same for any shards."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from acclimate.data.leakage import near_duplicates
from acclimate.data.leakage.near_duplicates import (
    TEXTS,
    DuplicatesConfig,
    drop_reason,
    find_clusters,
    fingerprints,
    rows_to_drop,
    signatures,
    sketch_similarity,
    write_shard,
)
from acclimate.errors import DataError
from tests.unit.data.words import words_of

SNAPSHOT = Path(__file__).parents[3] / "data" / "debian"
CONFIG = DuplicatesConfig()


def shingles_of(text: str, size: int = 5) -> set[tuple[str, ...]]:
    words = words_of(text)
    return {tuple(words[at : at + size]) for at in range(max(1, len(words) - size + 1))}


def jaccard(left: set[tuple[str, ...]], right: set[tuple[str, ...]]) -> float:
    return len(left & right) / len(left | right)


@pytest.fixture(scope="module")
def variants() -> list[str]:
    """300 texts: 100 of the snapshot, each with two copies in which every word is replaced with a probability of up to 4 %."""
    rng = np.random.Generator(np.random.PCG64(7))
    texts: list[str] = []
    for text in (text for text in pq.read_table(SNAPSHOT / "heldout.parquet")["text"].to_pylist() if text.isascii() and len(text) > 300):
        texts.append(text)
        for _ in range(2):
            rate = rng.uniform(0, 0.04)
            texts.append(" ".join(f"new{index}" if rng.random() < rate else word for index, word in enumerate(text.split())))
        if len(texts) == 300:
            return texts
    raise AssertionError("the snapshot holds fewer than 100 such texts")


def cluster(
    directory: Path, places: Mapping[str, Sequence[str]], *, rows_a_shard: int = 100, config: DuplicatesConfig = CONFIG
) -> pa.Table:
    shards: list[Path] = []
    for place, texts in places.items():
        for start in range(0, len(texts), rows_a_shard):
            shards.append(directory / f"{len(shards)}-of-{rows_a_shard}")
            ids = [f"{place}#{row}" for row in range(start, min(start + rows_a_shard, len(texts)))]
            write_shard(shards[-1], place, ids, fingerprints(texts[start : start + rows_a_shard], config))
    return find_clusters(shards, config)


def test_pairs_at_the_threshold_are_found_as_often_as_the_bands_promise(tmp_path: Path, variants: list[str]) -> None:
    found = cluster(tmp_path, {"corpus": variants})
    cluster_of = dict(zip(found["row"].to_pylist(), found["cluster"].to_pylist(), strict=True))
    sets = [shingles_of(text) for text in variants]
    alike = [
        (one, other, similarity)
        for one, other in itertools.combinations(range(len(variants)), 2)
        if (similarity := jaccard(sets[one], sets[other])) >= CONFIG.threshold
    ]
    assert len(alike) > 60
    promised = sum(1 - (1 - similarity**CONFIG.rows_per_band) ** CONFIG.bands for _, _, similarity in alike)
    assert sum(one in cluster_of and cluster_of[one] == cluster_of.get(other) for one, other, _ in alike) >= promised - 2


def test_what_is_dropped_is_as_similar_to_a_row_that_stays_as_is_said(tmp_path: Path, variants: list[str]) -> None:
    found = cluster(tmp_path, {"corpus": variants}).to_pylist()
    kept = {row["row"] for row in found if row["kept"]}
    exact = 0
    for row in found:
        if row["kept"]:
            continue
        mine, other = shingles_of(variants[row["row"]]), shingles_of(variants[row["similar_row"]])
        assert row["similar_row"] in kept and row["similar_id"] == f"corpus#{row['similar_row']}"
        assert row["similarity"] >= CONFIG.threshold
        if max(len(mine), len(other)) <= CONFIG.sketch:
            exact += 1
            assert row["similarity"] == pytest.approx(jaccard(mine, other))
        else:  # five standard errors of an estimate from 128 hashes
            assert row["similarity"] == pytest.approx(jaccard(mine, other), abs=5 * (0.25 / 128) ** 0.5)
    assert exact > 20


def test_no_near_duplicate_stays_beside_another(tmp_path: Path, variants: list[str]) -> None:
    found = cluster(tmp_path, {"corpus": variants})
    dropped = rows_to_drop(found)["corpus"]
    short = [row for row in range(len(variants)) if row not in dropped and len(shingles_of(variants[row])) <= CONFIG.sketch]
    sets = {row: shingles_of(variants[row]) for row in short}
    missed = sum(jaccard(sets[one], sets[other]) >= CONFIG.threshold for one, other in itertools.combinations(short, 2))
    assert missed <= 1  # 0.8 % of the pairs at the very threshold


@pytest.mark.parametrize("rows_a_shard", [3, 17, 299])
def test_the_bounds_of_shards_do_not_change_the_result(tmp_path: Path, variants: list[str], rows_a_shard: int) -> None:
    whole = cluster(tmp_path, {"corpus": variants, "tables/t:test": variants[30:60]}, rows_a_shard=1000)
    parted = cluster(tmp_path, {"tables/t:test": variants[30:60], "corpus": variants}, rows_a_shard=rows_a_shard)
    assert len(whole) > 200
    assert parted.equals(whole)


def test_fingerprints_depend_on_each_text_alone(variants: list[str]) -> None:
    texts = [*variants[:20], "", "?!", "two words"]
    whole = fingerprints(texts, CONFIG)
    for row, text in enumerate(texts):
        single = fingerprints([text], CONFIG)
        assert np.array_equal(single.bands_BD[:, 0], whole.bands_BD[:, row])
        assert np.array_equal(single.sketches_DS[0], whole.sketches_DS[row])
        assert single.sizes_D[0] == whole.sizes_D[row]


def test_signatures_agree_as_often_as_the_jaccard_index_says(variants: list[str]) -> None:
    values = signatures(variants, DuplicatesConfig(bands=64, rows_per_band=16))
    assert values.shape == (300, 1024)
    for one in range(0, 300, 30):
        for other in (one + 1, one + 2, (one + 7) % 300):
            expected = jaccard(shingles_of(variants[one]), shingles_of(variants[other]))
            assert (values[one] == values[other]).mean() == pytest.approx(expected, abs=5 * (0.25 / 1024) ** 0.5)


@settings(deadline=None)
@given(st.sets(st.integers(0, 60), min_size=1), st.sets(st.integers(0, 60), min_size=1))
def test_similarity_is_exact_where_sketches_hold_the_sets(left: set[int], right: set[int]) -> None:
    def sketch(values: set[int]) -> near_duplicates.Sketches:
        return np.array([sorted(values) + [2**32 - 1] * (64 - len(values))], dtype=np.uint32)

    found = sketch_similarity(sketch(left), sketch(right), np.array([len(left)]), np.array([len(right)]))
    assert found[0] == pytest.approx(len(left & right) / len(left | right))


def test_similarity_of_long_texts_is_estimated_within_its_standard_error() -> None:
    rng = np.random.Generator(np.random.PCG64(3))
    estimates = []
    for _ in range(200):
        shared, one, other = np.split(rng.integers(0, 2**32 - 1, 1000, dtype=np.uint32), [800, 900])
        sets = [np.unique(np.concatenate([shared, own])) for own in (one, other)]
        mine, other_sketch = (values[None, :128] for values in sets)
        estimates.append(sketch_similarity(mine, other_sketch, np.array([len(sets[0])]), np.array([len(sets[1])]))[0])
    assert np.mean(estimates) == pytest.approx(0.8, abs=0.01)
    assert np.std(estimates) == pytest.approx((0.8 * 0.2 / 128) ** 0.5, rel=0.25)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=40), st.integers(1, 5))
def test_joining_gives_connected_components_named_by_their_first_row(pairs: list[tuple[int, int]], at_once: int) -> None:
    roots = np.arange(31)
    for start in range(0, len(pairs), at_once):
        left, right = np.array(pairs[start : start + at_once]).T
        near_duplicates._union(roots, left, right)
    found = near_duplicates._find(roots, np.arange(31))
    left, right = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    _, labels = connected_components(coo_array((np.ones(len(pairs)), (left, right)), shape=(31, 31)), directed=False)
    assert found.tolist() == [int(np.flatnonzero(labels == label)[0]) for label in labels]


WORDS = [f"w{number}" for number in range(200)]


def edited(*positions: int, length: int = 100) -> str:
    return " ".join(f"other{index}" if index in positions else word for index, word in enumerate(WORDS[:length]))


def test_a_row_leaves_only_for_one_that_stays(tmp_path: Path) -> None:
    # Two changed words leave 86 of 106 shingles shared (0.81), four of them 76 of 116 (0.66).
    found = cluster(tmp_path, {"corpus": [edited(10, 30), edited(), edited(50, 70)]}).to_pylist()
    assert {row["cluster"] for row in found} == {0}
    assert [(row["row"], row["kept"], row["similar_row"]) for row in found] == [(0, True, None), (1, False, 0), (2, True, 0)]


def test_ten_thousand_copies_are_one_cluster(tmp_path: Path) -> None:
    found = cluster(tmp_path, {"corpus": ["One two three four five six seven.", *["a b c d e f g"] * 10_000]}, rows_a_shard=4000)
    assert len(rows_to_drop(found)["corpus"]) == 9_999
    assert set(found["similar_row"].to_pylist()) == {None, 1}


def test_hundreds_of_texts_that_differ_in_a_word_are_one_cluster(tmp_path: Path) -> None:
    found = cluster(tmp_path, {"corpus": [f"{edited()} number{index}" for index in range(700)]})
    assert len(rows_to_drop(found)["corpus"]) == 699


def test_short_texts_are_near_duplicates_only_of_the_same_words(tmp_path: Path) -> None:
    texts = [
        "Text editor",
        "text EDITOR.",
        "text editor for",
        "editor text",
        "",
        "",
        "***",
        "* * *",
        "a text editor of six words",
        "nothing else",
    ]
    assert rows_to_drop(cluster(tmp_path, {"corpus": texts})) == {"corpus": {1: ("near_duplicate", "1.00 corpus corpus#0")}}


def test_the_earlier_split_keeps_its_row_and_the_later_names_it(tmp_path: Path) -> None:
    text, near = edited(), edited(20)
    places = {
        "corpus": [near, "something else altogether, in seven words", near],
        "heldout": [text],
        "tables/a:train": [near],
        "tables/a:dev": [text],
        "tables/a:test": [near],
        "tables/b:test": [text],
    }
    found = cluster(tmp_path, places)
    assert found["place"].to_pylist() == [
        "tables/a:test",
        "tables/b:test",
        "tables/a:dev",
        "tables/a:train",
        "heldout",
        "corpus",
        "corpus",
    ]
    same = ("near_duplicate_of_test", "1.00 tables/a:test tables/a:test#0")
    alike = f"{jaccard(shingles_of(text), shingles_of(near)):.2f}"
    assert rows_to_drop(found) == {
        "corpus": {0: same, 2: same},
        "tables/a:train": {0: same},
        "tables/a:dev": {0: (same[0], f"{alike} tables/a:test tables/a:test#0")},
    }
    assert set(found.filter(~np.array(found["kept"].to_pylist()))["similar_id"].to_pylist()) == {"tables/a:test#0"}


@pytest.mark.parametrize(
    ("kept", "other", "report", "leaks", "drop"),
    [
        ("corpus", "corpus", *["near_duplicate"] * 3),
        ("heldout", "heldout", *["near_duplicate"] * 3),
        ("heldout", "corpus", *["near_duplicate_of_heldout"] * 3),
        ("t:dev", "corpus", *["near_duplicate_of_dev"] * 3),
        ("t:train", "corpus", None, None, None),
        ("t:test", "heldout", None, None, None),
        ("other", "other", *["near_duplicate"] * 3),
        *((kept, "other", *[f"near_duplicate_of_{kept.rpartition(':')[2]}"] * 3) for kept in ("t:test", "t:dev", *TEXTS[:3])),
        ("t:train", "other", None, None, None),
        *((kept, "general", None, None, None) for kept in ("t:test", "t:dev", "t:train", "heldout", "corpus", "general")),
        *(("general", other, None, None, None) for other in ("corpus", "t:train", "t:dev")),
        ("t:test", "t:train", None, "near_duplicate_of_test", "near_duplicate_of_test"),
        ("t:test", "u:train", None, "near_duplicate_of_test", "near_duplicate_of_test"),
        ("t:test", "t:dev", None, "near_duplicate_of_test", "near_duplicate_of_test"),
        ("t:test", "u:dev", None, None, None),
        ("t:train", "u:train", None, None, None),
        ("t:train", "t:train", None, None, "near_duplicate"),
    ],
)
def test_reasons_to_leave(kept: str, other: str, report: str | None, leaks: str | None, drop: str | None) -> None:
    assert [drop_reason(kept, other, labelled) for labelled in ("report", "leaks", "drop")] == [report, leaks, drop]


def test_nothing_is_found_in_nothing(tmp_path: Path) -> None:
    assert len(find_clusters([], CONFIG)) == 0
    assert len(cluster(tmp_path, {"corpus": ["only one text here"]})) == 0
    assert fingerprints([], CONFIG).bands_BD.shape == (CONFIG.bands, 0)


def test_a_shard_that_does_not_fit_is_refused_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"'test' is no place; allowed: heldout, corpus, general, other, or a table with :train, :dev or :test"
    ):
        write_shard(tmp_path / "bad", "test", [], fingerprints([], CONFIG))
    with pytest.raises(DataError, match=r"absent: no readable shard of fingerprints"):
        find_clusters([tmp_path / "absent"], CONFIG)
    write_shard(tmp_path / "other", "corpus", ["a"], fingerprints(["a"], DuplicatesConfig(bands=4)))
    with pytest.raises(DataError, match=r"other: made with bands 4 and sketch 128; set are 16 and 128"):
        find_clusters([tmp_path / "other"], CONFIG)
    (tmp_path / "other" / "bands.npy").write_bytes(b"cut short")
    with pytest.raises(DataError, match=r"other: no readable shard"):
        find_clusters([tmp_path / "other"], CONFIG)
