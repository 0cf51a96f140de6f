"""Two halves of one corpus agree; another domain, longer texts and other labels do not."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from acclimate.data.screening.drift import TextStatistics, drift, population_stability_index

DEBIAN = Path(__file__).parents[3] / "data" / "debian"


def described(texts: list[str], labels: list[str] | None = None) -> dict[str, object]:
    statistics = TextStatistics()
    for start in range(0, len(texts), 500):
        statistics.add(texts[start : start + 500], (labels or [])[start : start + 500])
    return statistics.as_json()


@pytest.fixture(scope="module")
def corpus() -> list[str]:
    return pq.read_table(DEBIAN / "corpus.parquet", columns=["text"])["text"].to_pylist()[:8000]


def test_two_random_halves_are_stable(corpus: list[str]) -> None:
    found = drift(described(corpus[::2]), described(corpus[1::2]))
    assert set(found) == {"length", "words"}
    assert max(found.values()) < 0.05


def test_another_domain_and_longer_texts_drift(corpus: list[str]) -> None:
    glosses = pq.read_table(DEBIAN / "general.parquet", columns=["text"])["text"].to_pylist()
    assert drift(described(corpus), described(glosses))["words"] > 0.25
    longer = [text * 4 for text in corpus]
    found = drift(described(corpus), described(longer))
    assert found["length"] > 0.25
    assert found["words"] < 0.05


def test_a_class_that_doubles_drifts() -> None:
    texts = ["a text"] * 100
    found = drift(described(texts, ["x"] * 80 + ["y"] * 20), described(texts, ["x"] * 40 + ["y"] * 60))
    assert found["labels"] == pytest.approx((0.4 - 0.8) * -0.6931471805599453 + (0.6 - 0.2) * 1.0986122886681098)
    assert found["length"] == 0.0


def test_a_bin_that_was_empty_is_a_finite_drift() -> None:
    assert 0 < population_stability_index({"a": 1.0}, {"a": 0.99, "b": 0.01}) < 0.1
