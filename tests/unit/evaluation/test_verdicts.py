from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t as student

from acclimate.evaluation.significance import Comparison
from acclimate.evaluation.verdicts import Judged, judge, scope_of, sentence


def comparison(mean: float, error: float, freedom: float = 500.0) -> Comparison:
    half = student.ppf(0.975, freedom) * error
    return Comparison(mean, mean - half, mean + half, float(2 * student.cdf(-abs(mean) / error, freedom)), error, freedom)


def judged(mean: float, error: float, *, lower_is_better: bool = False, others: int = 0, margin: float = 0.01) -> Judged:
    all_of_them = {0: comparison(mean, error)} | {1 + other: comparison(0.001, 0.05) for other in range(others)}
    return judge(all_of_them, confidence=0.95, margin=margin, lower_is_better=dict.fromkeys(all_of_them, lower_is_better))[0]


@pytest.mark.parametrize(
    ("mean", "error", "lower_is_better", "verdict"),
    [
        (0.05, 0.01, False, "better"),
        (-0.05, 0.01, False, "worse"),
        (0.05, 0.01, True, "worse"),
        (-0.05, 0.01, True, "better"),
        (0.001, 0.002, False, "equivalent"),
        (-0.001, 0.002, True, "equivalent"),
        (0.02, 0.02, False, "inconclusive"),
        (0.0, 0.02, True, "inconclusive"),
        (0.006, 0.001, False, "better"),  # below the margin, and still shown
    ],
)
def test_the_verdict(mean: float, error: float, lower_is_better: bool, verdict: str) -> None:
    assert judged(mean, error, lower_is_better=lower_is_better).verdict == verdict


def test_holm_counts_every_comparison_for_difference_and_for_equivalence() -> None:
    alone, among = judged(0.022, 0.01), judged(0.022, 0.01, others=3)
    assert (alone.verdict, among.verdict) == ("better", "inconclusive")
    assert among.p_holm == pytest.approx(4 * alone.p_holm)
    alone, among = judged(0.0, 0.005), judged(0.0, 0.005, others=3)
    assert (alone.verdict, among.verdict) == ("equivalent", "inconclusive")
    assert among.detectable > alone.detectable


@given(mean=st.floats(-0.2, 0.2), error=st.floats(1e-4, 0.2), margin=st.floats(1e-3, 0.1), others=st.integers(0, 6))
def test_a_verdict_follows_its_interval(mean: float, error: float, margin: float, others: int) -> None:
    found = judged(mean, error, margin=margin, others=others)
    each = found.comparison
    if found.verdict in ("better", "worse"):
        assert not each.low <= 0 <= each.high
        assert found.p_holm <= 0.05
    if found.verdict == "equivalent":
        assert abs(mean) < margin
    if found.verdict == "inconclusive" and not others:
        assert abs(mean) < found.detectable
    turned = judged(mean, error, margin=margin, others=others, lower_is_better=True)
    assert turned.verdict == {"better": "worse", "worse": "better"}.get(found.verdict, found.verdict)


def said(found: Judged, scope: str = scope_of(1601, 3)) -> str:
    return sentence(found, name="halves-full", against="base-full", task="section", metric="macro-F1", confidence=0.95, scope=scope)


def test_the_sentence_of_each_verdict() -> None:
    assert said(judged(0.013, 0.0045)) == (
        "halves-full is better than base-full on section: macro-F1 +0.013, 95% interval +0.004 to +0.022, p 0.004; 1,601 test rows, 3 seeds"
    )
    assert said(judged(-0.05, 0.01, others=3)) == (
        "halves-full is worse than base-full on section: macro-F1 -0.050, 95% interval -0.070 to -0.030, "
        "p < 0.001 after Holm over 4 comparisons; 1,601 test rows, 3 seeds"
    )
    assert said(judged(0.006, 0.001)).startswith("halves-full is better than base-full on section, but by less than 0.010: macro-F1 +0.006")
    assert said(judged(0.001, 0.002), scope_of(500, 1)) == (
        "halves-full and base-full are equal within 0.010 on section: macro-F1 +0.001, 95% interval -0.003 to +0.005, "
        "p < 0.001 of equivalence; 500 test rows, one seed, so the interval speaks of rows alone"
    )
    assert said(judged(0.002, 0.01)) == (
        "no difference between halves-full and base-full is shown on section, and a difference of 0.028 or more would probably have been "
        "found: macro-F1 +0.002, 95% interval -0.018 to +0.022, p 0.842; 1,601 test rows, 3 seeds"
    )
    assert "macro-F1 (lower is better) -0.050" in said(judged(-0.05, 0.01, lower_is_better=True))
