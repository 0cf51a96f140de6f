"""Rows whose label is in doubt: nearly equal texts that disagree, and labels that a model finds unlikely.

Shapes: R rows, C labels. Nothing is changed or dropped here; the result is a ranked table for a person to look through.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from acclimate.settings import Count, Options, Share

Reason = Literal["similar_text", "unlikely"]
REASONS: tuple[Reason, ...] = ("similar_text", "unlikely")
"""Surest first: two labels for one text cannot both be right where only one is asked for."""


class LabelProblemsConfig(Options):
    """How rows with a doubtful label are looked for."""

    confident_learning: bool = True
    folds: Count = 5
    max_rows: Count = 5000
    max_listed: Count = 100
    min_disagreement: Share = 0.5


@dataclass(frozen=True)
class LabelProblem:
    """A row in doubt. Labels of a row stand in one string, with commas."""

    row: int
    given: str
    suggested: str
    score: float
    """0 to 1. similar_text: share of the other rows of the group that say otherwise. unlikely: 1 - p(given)."""
    reasons: tuple[Reason, ...]
    others: tuple[int, ...] = ()
    """Rows of the same group, where there is one."""


@dataclass(frozen=True)
class ConfidentLearning:
    """What out-of-fold probabilities say about given labels."""

    suspects: NDArray[np.int64]
    """Rows that are confidently of another label, least likely label first."""
    suggested: NDArray[np.int64]
    """That other label, one for each suspect."""
    scores: NDArray[np.float64]
    """1 - p(given label), one for each suspect."""


def similar_text_problems(
    clusters: Iterable[Sequence[int]], labels: Sequence[Sequence[str]], *, min_disagreement: float = 0.5
) -> list[LabelProblem]:
    """Rows that more than `min_disagreement` of the others in their cluster contradict; of A, A, B that is B alone.

    Args:
        clusters: row numbers of each cluster of near-duplicates.
        labels: the labels of each row; a class is a list of one. Their order has no say.
    """
    problems = []
    for rows in clusters:
        names = {row: _joined(labels[row]) for row in rows}
        counts = Counter(names.values())
        for row in rows if len(counts) > 1 else ():
            score = (len(rows) - counts[names[row]]) / (len(rows) - 1)
            if score > min_disagreement:
                suggested = min((name for name in counts if name != names[row]), key=lambda name: (-counts[name], name))
                others = tuple(other for other in rows if other != row)
                problems.append(LabelProblem(row, names[row], suggested, score, ("similar_text",), others))
    return problems


def _joined(labels: Iterable[str]) -> str:
    return ", ".join(sorted(labels))


def confident_learning(given_R: Any, probabilities_RC: Any, judged_R: Any | None = None) -> ConfidentLearning:
    """Find rows that are confidently of another label than the given one.

    A label's threshold is the mean probability of that label over the rows that carry it; a row is confidently of the most probable of
    those labels whose threshold it reaches (Northcutt et al. 2021, section 3.1, https://arxiv.org/abs/1911.00068).

    Args:
        given_R: label indices.
        probabilities_RC: predicted by a model that has not seen the row.
        judged_R: False where the model could not know the given label; such rows are neither counted nor suspected.
    """
    given_R = np.asarray(given_R, dtype=np.int64)
    probabilities_RC = np.asarray(probabilities_RC, dtype=np.float64)
    rows = np.arange(len(given_R)) if judged_R is None else np.flatnonzero(judged_R)
    given, probabilities = given_R[rows], probabilities_RC[rows]
    num_labels = probabilities_RC.shape[1]
    own = probabilities[np.arange(len(rows)), given]
    counts_C = np.bincount(given, minlength=num_labels)
    sums_C = np.bincount(given, weights=own, minlength=num_labels)
    thresholds_C = np.where(counts_C > 0, sums_C / np.maximum(counts_C, 1), np.inf)
    # A hair below, so that a model with one constant probability reaches its own mean despite rounding.
    confident = np.where(probabilities >= thresholds_C - 1e-9, probabilities, -1.0)
    label = confident.argmax(axis=1) if len(rows) else np.empty(0, np.int64)
    # Where the threshold of the given label is high, the model may yet find that label the likeliest: no reason to doubt it.
    wrong = np.flatnonzero((confident.max(axis=1, initial=-1.0) >= 0) & (label != given) & (probabilities.argmax(axis=1) != given))
    wrong = wrong[np.argsort(own[wrong], kind="stable")]
    return ConfidentLearning(rows[wrong], label[wrong], 1 - own[wrong])


def unlikely_labels(given_R: Any, probabilities_RC: Any, judged_R: Any | None, names: Sequence[str]) -> list[LabelProblem]:
    """Rows of a classification whose class is confidently another, least likely first."""
    found = confident_learning(given_R, probabilities_RC, judged_R)
    return [
        LabelProblem(int(row), names[int(np.asarray(given_R)[row])], names[suggested], float(score), ("unlikely",))
        for row, suggested, score in zip(found.suspects, found.suggested.tolist(), found.scores, strict=True)
    ]


def unlikely_label_sets(given_RC: Any, probabilities_RC: Any, judged_RC: Any | None, names: Sequence[str]) -> list[LabelProblem]:
    """Rows of a multi-label table with a label too many or too few, each label judged by itself; least likely first.

    Args:
        given_RC: multi-hot.
        probabilities_RC: of each label by itself.
        judged_RC: False where the model could not know the label.
    """
    given_RC, probabilities_RC = np.asarray(given_RC, dtype=np.int64), np.asarray(probabilities_RC, dtype=np.float64)
    suggested_RC, scores_R = given_RC.copy(), np.zeros(len(given_RC))
    for label, chance_R in enumerate(probabilities_RC.T):
        judged_R = None if judged_RC is None else np.asarray(judged_RC)[:, label]
        found = confident_learning(given_RC[:, label], np.stack([1 - chance_R, chance_R], axis=1), judged_R)
        suggested_RC[found.suspects, label] = found.suggested
        scores_R[found.suspects] = np.maximum(scores_R[found.suspects], found.scores)
    rows = np.flatnonzero(scores_R)
    rows = rows[np.argsort(-scores_R[rows], kind="stable")]

    def named(labels_C: NDArray[np.int64]) -> str:
        return _joined(names[label] for label in np.flatnonzero(labels_C).tolist())

    return [LabelProblem(row, named(given_RC[row]), named(suggested_RC[row]), float(scores_R[row]), ("unlikely",)) for row in rows.tolist()]


def rank_problems(problems: Iterable[LabelProblem]) -> list[LabelProblem]:
    """One entry a row, surest first: by its first reason, then by the number of reasons, then by score, then by row.

    A row found for several reasons keeps the suggestion of the first and names them all.
    """
    by_row: dict[int, LabelProblem] = {}
    for problem in sorted(problems, key=lambda problem: (REASONS.index(problem.reasons[0]), -problem.score, problem.row)):
        first = by_row.setdefault(problem.row, problem)
        by_row[problem.row] = replace(first, reasons=tuple(reason for reason in REASONS if reason in {*first.reasons, *problem.reasons}))
    return sorted(by_row.values(), key=lambda found: (REASONS.index(found.reasons[0]), -len(found.reasons), -found.score, found.row))


def problem_table(problems: Sequence[LabelProblem], ids: Sequence[str]) -> list[dict[str, str | float | int]]:
    """The ranked problems as records for a report or a Parquet file: rank, id, given, suggested, score, reason, others (ids)."""
    return [
        {
            "rank": rank,
            "id": ids[problem.row],
            "given": problem.given,
            "suggested": problem.suggested,
            "score": round(problem.score, 4),
            "reason": ", ".join(problem.reasons),
            "others": ", ".join(ids[other] for other in problem.others[:5]),
        }
        for rank, problem in enumerate(problems, start=1)
    ]
