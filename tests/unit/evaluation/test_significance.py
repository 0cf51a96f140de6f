from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from acclimate.errors import DataError
from acclimate.evaluation.metrics import row_statistics
from acclimate.evaluation.significance import compare, holm

LABELS = ["a", "b", "c"]


def _statistics(accuracy: float, seed: int, num_rows: int = 400):
    generator = np.random.default_rng(seed)
    gold = np.random.default_rng(0).integers(0, 3, num_rows)
    predicted = np.where(generator.random(num_rows) < accuracy, gold, (gold + 1) % 3)
    return row_statistics("classification", gold, np.eye(3)[predicted], labels=LABELS)


def test_an_encoder_compared_with_itself_shows_no_difference():
    runs = [_statistics(0.6, seed) for seed in range(3)]
    found = compare(runs, runs, samples=500, confidence=0.95, seed=1).by_metric["macro_f1"]
    assert (found.mean, found.low, found.high, found.p) == (0.0, 0.0, 0.0, 1.0)


def test_a_large_gain_is_found_with_its_sign_and_a_small_p():
    before, after = [_statistics(0.5, seed) for seed in range(3)], [_statistics(0.8, seed + 9) for seed in range(3)]
    found = compare(before, after, samples=500, confidence=0.95, seed=1).by_metric["macro_f1"]
    assert 0.2 < found.low < found.mean < found.high < 0.4
    assert found.p == pytest.approx(2 / 501)
    turned = compare(after, before, samples=500, confidence=0.95, seed=1).by_metric["macro_f1"]
    assert (turned.mean, turned.low, turned.high) == pytest.approx((-found.mean, -found.high, -found.low))


def test_the_interval_of_accuracy_with_one_seed_is_that_of_a_paired_mean():
    """For a mean over rows the bootstrap must agree with the normal theory of paired differences."""
    before, after = _statistics(0.6, 1, 2000), _statistics(0.65, 2, 2000)
    found = compare([before], [after], samples=4000, confidence=0.95, seed=3).by_metric["accuracy"]
    per_row = (after.per_row[:, :3] - before.per_row[:, :3]).sum(axis=1)
    half = norm.ppf(0.975) * per_row.std() / np.sqrt(len(per_row))
    assert (found.low, found.high) == pytest.approx((per_row.mean() - half, per_row.mean() + half), abs=0.003)  # 4,000 samples: about 0.001


def test_one_seed_says_that_seeds_were_not_resampled():
    assert not compare([_statistics(0.6, 1)], [_statistics(0.7, 2)], samples=50, confidence=0.95, seed=0).seeds_resampled


def test_seeds_that_disagree_widen_the_interval():
    steady = compare(
        [_statistics(0.5, s) for s in range(3)], [_statistics(0.6, 9 + s) for s in range(3)], samples=500, confidence=0.95, seed=0
    )
    after = [_statistics(accuracy, 9) for accuracy in (0.4, 0.6, 0.8)]
    wild = compare([_statistics(0.5, s) for s in range(3)], after, samples=500, confidence=0.95, seed=0)
    widths = [each.by_metric["accuracy"].high - each.by_metric["accuracy"].low for each in (steady, wild)]
    assert widths[1] > 2 * widths[0]


def test_the_same_seed_gives_the_same_interval():
    runs = [_statistics(0.5, 1)], [_statistics(0.55, 2)]
    assert compare(*runs, samples=200, confidence=0.9, seed=4) == compare(*runs, samples=200, confidence=0.9, seed=4)


def test_runs_over_different_rows_are_refused():
    with pytest.raises(DataError, match="do not pair up"):
        compare([_statistics(0.5, 1, 400)], [_statistics(0.5, 1, 300)], samples=10, confidence=0.95, seed=0)


def test_holm_multiplies_the_smallest_p_by_the_number_of_tasks_and_never_falls():
    assert holm({"x": 0.01, "y": 0.04, "z": 0.03}) == pytest.approx({"x": 0.03, "z": 0.06, "y": 0.06})
    assert holm({"x": 0.7, "y": 0.8}) == {"x": 1.0, "y": 1.0}
    assert holm({"x": 0.02}) == {"x": 0.02}
