from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm
from scipy.stats import t as student

from acclimate.errors import DataError
from acclimate.evaluation.metrics import row_statistics
from acclimate.evaluation.significance import Comparison, compare, compare_resampled, holm, mean_of, resampled

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
    assert found.p < 0.01
    turned = compare(after, before, samples=500, confidence=0.95, seed=1).by_metric["macro_f1"]
    assert (turned.mean, turned.low, turned.high) == pytest.approx((-found.mean, -found.high, -found.low))


def test_the_interval_of_accuracy_with_one_seed_is_that_of_a_paired_mean():
    """For a mean over rows the bootstrap must agree with the normal theory of paired differences."""
    before, after = _statistics(0.6, 1, 2000), _statistics(0.65, 2, 2000)
    found = compare([before], [after], samples=4000, confidence=0.95, seed=3).by_metric["accuracy"]
    per_row = (after.per_row[:, :3] - before.per_row[:, :3]).sum(axis=1)
    half = norm.ppf(0.975) * per_row.std() / np.sqrt(len(per_row))
    assert (found.low, found.high) == pytest.approx((per_row.mean() - half, per_row.mean() + half), abs=0.003)  # 4,000 samples: about 0.001


def test_sides_that_were_resampled_once_compare_as_when_resampled_together():
    sides = [[_statistics(accuracy, 10 * place + seed) for seed in range(3)] for place, accuracy in enumerate((0.5, 0.55, 0.6))]
    first, second, third = (resampled(side, samples=200, seed=5) for side in sides)
    for left, right, runs in ((first, second, sides[:2]), (first, third, sides[::2]), (second, third, sides[1:])):
        assert compare_resampled(left, right, confidence=0.9) == compare(*runs, samples=200, confidence=0.9, seed=5)


def test_only_the_metrics_that_are_asked_for_are_kept():
    found = resampled([_statistics(0.5, 1)], samples=20, seed=0, metrics=["mcc"])
    assert list(found.resamples) == list(compare_resampled(found, found, confidence=0.9).by_metric) == ["mcc"]


def test_seeds_add_what_rows_do_not_explain_and_no_more():
    """Two-way random effects, known by construction: the standard error must be that of the mean (Owen 2007)."""
    of_rows = compare([_statistics(0.6, 0)] * 3, [_statistics(0.6, 1)] * 3, samples=2000, confidence=0.95, seed=0).by_metric["accuracy"]
    alone = compare([_statistics(0.6, 0)], [_statistics(0.6, 1)], samples=2000, confidence=0.95, seed=0).by_metric["accuracy"]
    assert of_rows.standard_error == pytest.approx(alone.standard_error)  # equal seeds tell nothing new about the rows
    after = [_statistics(accuracy, 9) for accuracy in (0.3, 0.6, 0.9)]
    found = compare([_statistics(0.6, 0)] * 3, after, samples=2000, confidence=0.95, seed=0).by_metric["accuracy"]
    scores = [each.per_row[:, :3].sum() / 400 for each in after]
    assert found.standard_error == pytest.approx(np.std(scores, ddof=1) / np.sqrt(3), rel=0.03)
    assert 1.9 < found.degrees_of_freedom < 2.3  # three seeds decide, so Student's t has nearly two


@pytest.mark.parametrize("seeds", [1, 3])
def test_equivalence_is_two_one_sided_tests(seeds):
    left, right = ([_statistics(0.6, place * 7 + seed, 2000) for seed in range(seeds)] for place in (0, 1))
    found = compare(left, right, samples=500, confidence=0.95, seed=1).by_metric["accuracy"]
    for margin in (0.001, 0.02, 0.2):
        tails = [student.cdf((sign * found.mean - margin) / found.standard_error, found.degrees_of_freedom) for sign in (-1, 1)]
        assert found.p_equivalent(margin) == pytest.approx(max(tails), rel=1e-6)


@pytest.mark.parametrize("freedom", [2.0, 4.0, 30.0, 1000.0])
def test_the_smallest_detectable_difference_is_found_four_times_in_five(freedom):
    each = Comparison(0.0, -0.02, 0.02, 1.0, 0.01, freedom)
    generator = np.random.default_rng(0)
    drawn = each.detectable(0.05) + each.standard_error * generator.standard_normal(20_000)
    errors = each.standard_error * np.sqrt(generator.chisquare(freedom, 20_000) / freedom)
    found = (np.abs(drawn) / errors > student.ppf(0.975, freedom)).mean()
    assert found == pytest.approx(0.8, abs=0.01)  # 20,000 draws: 0.003


def test_a_mean_over_tasks_adds_their_variances():
    each = [Comparison(mean, 0, 0, 0.5, error, 40.0) for mean, error in ((0.01, 0.003), (0.03, 0.004))]
    found = mean_of(each, confidence=0.95)
    assert (found.mean, found.standard_error) == pytest.approx((0.02, 0.0025))
    assert 40 < found.degrees_of_freedom < 80
    assert mean_of(each[:1], confidence=0.95).standard_error == pytest.approx(0.003)


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
