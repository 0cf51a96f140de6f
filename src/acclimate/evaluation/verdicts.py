"""Better, worse, equivalent or inconclusive: what a comparison says, and the smallest effect that it could have found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from acclimate.evaluation.significance import Comparison, Key, holm

Verdict = Literal["better", "worse", "equivalent", "inconclusive"]


@dataclass(frozen=True)
class Judged:
    """A comparison with its verdict."""

    comparison: Comparison
    verdict: Verdict
    p_holm: float
    p_equivalent_holm: float
    detectable: float
    """The smallest difference that this test, corrected for all comparisons, finds with a probability of 80 %."""
    margin: float
    comparisons: int
    """How many were judged together."""
    lower_is_better: bool = False

    def record(self, sentence: str) -> dict[str, Any]:
        """The comparison as JSON."""
        return {
            "verdict": self.verdict,
            "difference": asdict(self.comparison),
            "p_holm": self.p_holm,
            "p_equivalent_holm": self.p_equivalent_holm,
            "detectable": self.detectable,
            "margin": self.margin,
            "sentence": sentence,
        }


def judge(
    comparisons: Mapping[Key, Comparison], *, confidence: float, margin: float, lower_is_better: Mapping[Key, bool]
) -> dict[Key, Judged]:
    """Judge comparisons together.

    Args:
        comparisons: all that are asked together; Holm corrects over them, and over their tests of equivalence likewise.
        confidence: of the intervals; a p up to 1 - confidence shows a difference, or equivalence.
        margin: differences below it do not matter; above 0.
        lower_is_better: for each comparison, whether its metric is.

    Returns:
        `better` or `worse` where a difference is shown, be it below the margin; else `equivalent` where two one-sided tests show
        that it lies within the margin; else `inconclusive`.
    """
    assert margin > 0
    alpha = 1 - confidence
    adjusted = holm({key: each.p for key, each in comparisons.items()})
    equivalent = holm({key: each.p_equivalent(margin) for key, each in comparisons.items()})
    judged = {}
    for key, each in comparisons.items():
        verdict: Verdict = "equivalent" if equivalent[key] <= alpha else "inconclusive"
        if adjusted[key] <= alpha and not each.low <= 0 <= each.high:
            verdict = "better" if (each.mean > 0) != lower_is_better[key] else "worse"
        detectable = each.detectable(alpha / len(comparisons))
        found = (adjusted[key], equivalent[key], detectable, margin, len(comparisons), lower_is_better[key])
        judged[key] = Judged(each, verdict, *found)
    return judged


def sentence(judged: Judged, *, name: str, against: str, task: str, metric: str, confidence: float, scope: str) -> str:
    """A comparison as one plain sentence.

    Args:
        name: what was compared.
        against: what with.
        task: where: a task, or "the mean over 3 tasks".
        metric: its name as it is printed.
        scope: of what the interval speaks: "1,601 test rows, 3 seeds".
    """
    each = judged.comparison
    shown = {
        "better": f"{name} is better than {against} on {task}",
        "worse": f"{name} is worse than {against} on {task}",
        "equivalent": f"{name} and {against} are equal within {judged.margin:.3f} on {task}",
        "inconclusive": f"no difference between {name} and {against} is shown on {task}, "
        f"and a difference of {judged.detectable:.3f} or more would probably have been found",
    }[judged.verdict]
    below = judged.verdict in ("better", "worse") and judged.p_equivalent_holm <= 1 - confidence
    shown += f", but by less than {judged.margin:.3f}" if below else ""
    p = judged.p_equivalent_holm if judged.verdict == "equivalent" else judged.p_holm
    after_holm = f" after Holm over {judged.comparisons} comparisons" if judged.comparisons > 1 else ""
    of_equivalence = " of equivalence" if judged.verdict == "equivalent" else ""
    direction = " (lower is better)" if judged.lower_is_better else ""
    return (
        f"{shown}: {metric}{direction} {each.mean:+.3f}, {confidence:.0%} interval {each.low:+.3f} to {each.high:+.3f}, "
        f"{format_p(p)}{of_equivalence}{after_holm}; {scope}"
    )


def scope_of(rows: int, seeds: int) -> str:
    """Of what an interval speaks."""
    return f"{rows:,} test rows, " + (f"{seeds} seeds" if seeds > 1 else "one seed, so the interval speaks of rows alone")


def format_p(p: float) -> str:
    """P as text: `p 0.012`, `p < 0.001`."""
    return f"p {p:.3f}" if p >= 0.001 else "p < 0.001"
