"""A refusal names the rules that rows left by, each with its count and its key."""

from __future__ import annotations

import pytest

from acclimate.config import Config
from acclimate.data.options import IngestConfig
from acclimate.data.quarantine import HELD_BACK, SETTINGS, Quarantine
from acclimate.errors import DataError


def quarantine(**counts: int) -> Quarantine:
    found = Quarantine()
    for rule, count in counts.items():
        for _ in range(count):
            found.add("corpus", "a.txt", 1, "a:1", rule, "text")
    found.read["corpus"] = sum(counts.values())
    return found


def test_too_many_rows_are_refused_with_each_rule_its_count_and_its_key() -> None:
    message = (
        "corpus: 6 of 9 rows are quarantined (long_words 3 by ingest.quality.max_mean_word_chars, duplicate 2, too_short 1 by "
        "ingest.min_chars); allowed by ingest.max_quarantine_share: 20.0%"
    )
    with pytest.raises(DataError) as caught:
        quarantine(long_words=3, duplicate=2, too_short=1, contaminated=3).check(0.2)
    assert str(caught.value) == message


def test_near_duplicates_of_a_split_go_by_the_same_key() -> None:
    assert quarantine(near_duplicate_of_test=2).describe("corpus") == "near_duplicate_of_test 2 by ingest.duplicates"
    assert quarantine().describe("corpus") == "none"
    assert quarantine(**{f"rule_{n}": 1 for n in range(9)}).describe("corpus").endswith("and 3 more rules")
    assert quarantine(duplicate=1, weight=1).describe("corpus", but=HELD_BACK) == "duplicate 1"


@pytest.mark.parametrize("key", sorted(set(SETTINGS.values())))
def test_every_key_stands_in_params(key: str) -> None:
    first, *rest = key.split(".")
    if first == "ingest":
        field = IngestConfig.model_fields[rest[0]]
        assert len(rest) == 1 or rest[1] in field.annotation.model_fields  # type: ignore[union-attr]
    else:
        assert key == "the source's weight"
    assert "ingest" in Config.model_fields
