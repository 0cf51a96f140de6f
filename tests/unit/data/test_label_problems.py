"""Doubtful labels: clusters that disagree, and labels that a model finds unlikely."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acclimate.data.screening.label_problems import (
    LabelProblem,
    confident_learning,
    problem_table,
    rank_problems,
    similar_text_problems,
    unlikely_label_sets,
    unlikely_labels,
)
from acclimate.errors import DataError
from acclimate.evaluation.label_audit import out_of_fold_probabilities

NAMES = ("kernel", "music", "python", "web")
WORDS = {
    "kernel": ["driver", "module", "device", "interrupt", "scheduler", "memory", "bus", "firmware"],
    "music": ["audio", "player", "chord", "synthesizer", "playlist", "codec", "melody", "mixer"],
    "python": ["decorator", "generator", "wheel", "import", "bytecode", "tuple", "asyncio", "typing"],
    "web": ["browser", "server", "template", "cookie", "http", "router", "stylesheet", "session"],
}


def planted_table(rows: int, flips: int, *, seed: int) -> tuple[list[str], np.ndarray, np.ndarray, list[str]]:
    """Texts of four topics with some words in common, of which `flips` rows carry another label than their text's."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, 4, rows)
    shared = ["the", "package", "library", "tool", "simple", "fast", "support", "file"]
    texts = [" ".join([*generator.choice(WORDS[NAMES[topic]], 4), *generator.choice(shared, 6)]) for topic in truth]
    flipped = generator.choice(rows, flips, replace=False)
    given_labels = truth.copy()
    given_labels[flipped] = (truth[flipped] + generator.integers(1, 4, flips)) % 4
    return texts, given_labels, flipped, [f"group {row // 2}" for row in range(rows)]


def test_planted_flips_stand_at_the_top_of_the_list() -> None:
    texts, labels, flipped, groups = planted_table(800, 40, seed=3)
    found = out_of_fold_probabilities(texts, labels, groups, kind="classification", num_labels=4)
    problems = unlikely_labels(labels, found.probabilities_RC, found.judged_RC[np.arange(800), labels], NAMES)
    hits = [problem.row in set(flipped.tolist()) for problem in problems]
    assert np.mean(hits[:20]) == 1.0  # precision at 20
    assert np.mean(hits[:40]) >= 0.95
    assert sum(hits) >= 32  # recall 0.8
    assert all(problem.given == NAMES[labels[problem.row]] != problem.suggested for problem in problems)


def test_planted_flips_of_a_multi_label_table_are_found_with_the_label_at_fault() -> None:
    texts, labels, _, groups = planted_table(600, 0, seed=5)
    both = [f"{left} {right}" for left, right in zip(texts[:300], texts[300:], strict=True)]
    given_RC = np.zeros((300, 4), dtype=np.int64)
    given_RC[np.arange(300), labels[:300]] = 1
    given_RC[np.arange(300), labels[300:]] = 1
    flips = [(row, row // 20 % 4) for row in range(0, 300, 20)]
    for row, label in flips:
        given_RC[row, label] ^= 1
    found = out_of_fold_probabilities(both, given_RC, groups[:300], kind="multi_label", num_labels=4)
    problems = unlikely_label_sets(given_RC, found.probabilities_RC, found.judged_RC, NAMES)
    top = {problem.row: problem for problem in problems[:15]}
    assert len(set(top) & {row for row, _ in flips}) >= 10
    for row, label in flips:
        if row in top:
            given_labels, suggested = set(top[row].given.split(", ")), set(top[row].suggested.split(", "))
            assert given_labels ^ suggested >= {NAMES[label]}


def test_a_row_is_judged_by_a_model_that_saw_none_of_its_group() -> None:
    """Every group has a word and a label of its own: only a model that saw the group could know the label."""
    rng = np.random.default_rng(0)
    groups = [f"g{row // 4}" for row in range(200)]
    labels = np.repeat(rng.integers(0, 2, 50), 4)
    texts = [f"word{group}" for group in groups]
    found = out_of_fold_probabilities(texts, labels, groups, kind="classification", num_labels=2)
    assert np.mean(found.probabilities_RC.argmax(axis=1) == labels) < 0.7


def test_a_label_of_one_group_only_is_not_judged() -> None:
    texts, labels, _, groups = planted_table(200, 0, seed=1)
    rare = [*texts, "unseen words entirely", "unseen words again"]
    labels = np.array([*labels, 4, 4])
    found = out_of_fold_probabilities(rare, labels, [*groups, "alone", "alone"], kind="classification", num_labels=5)
    judged = found.judged_RC[np.arange(202), labels]
    assert judged[:200].all() and not judged[200:].any()
    assert not {200, 201} & {problem.row for problem in unlikely_labels(labels, found.probabilities_RC, judged, [*NAMES, "rare"])}


def test_the_folds_do_not_depend_on_the_order_of_rows() -> None:
    texts, labels, _, groups = planted_table(200, 10, seed=2)
    forward = out_of_fold_probabilities(texts, labels, groups, kind="classification", num_labels=4)
    backward = out_of_fold_probabilities(texts[::-1], labels[::-1], groups[::-1], kind="classification", num_labels=4)
    # The solver stops at a tolerance of 1e-3; the order of sums moves where exactly.
    np.testing.assert_allclose(forward.probabilities_RC, backward.probabilities_RC[::-1], atol=1e-3)


@pytest.mark.parametrize(
    ("kind", "groups", "message"),
    [("regression", ["a", "b"], "labels of kind 'regression' cannot be audited"), ("classification", ["a", "a"], "fewer than 2 folds")],
)
def test_what_cannot_be_audited_is_said_in_one_line(kind: str, groups: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        out_of_fold_probabilities(["x", "y"], np.array([0, 1]), groups, kind=kind, num_labels=2)
    assert "\n" not in str(caught.value)


def test_suspects_are_those_worked_out_by_hand() -> None:
    """Thresholds: label 0 mean(.9, .8, .1) = .6, label 1 mean(.7, .9) = .8. Row 2 says 0 but is confidently 1; row 3 reaches neither."""
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.3, 0.7], [0.1, 0.9]])
    found = confident_learning([0, 0, 0, 1, 1], probabilities)
    assert (found.suspects.tolist(), found.suggested.tolist()) == ([2], [1])
    assert found.scores.tolist() == pytest.approx([0.9])


@given(st.integers(0, 2**32 - 1))
def test_a_model_that_agrees_with_every_label_makes_no_suspect(seed: int) -> None:
    generator = np.random.default_rng(seed)
    probabilities = generator.dirichlet(np.ones(3), 30)
    assert confident_learning(probabilities.argmax(axis=1), probabilities).suspects.size == 0


def test_no_judged_row_makes_no_suspect() -> None:
    found = confident_learning([0, 1], np.full((2, 2), 0.5), np.zeros(2, dtype=bool))
    assert found.suspects.size == 0


def test_clusters_are_judged_by_their_rows() -> None:
    """Of three, the one that differs is named; of two, both are; the order of a row's labels has no say."""
    labels = [["a"], ["b"], ["b"], ["b"], ["a"], ["x", "y"], ["y", "x"], ["p"], ["q"]]
    found = similar_text_problems([[0, 2, 4], [1, 3], [5, 6], [7, 8]], labels)
    assert [(problem.row, problem.given, problem.suggested, problem.score, problem.others) for problem in found] == [
        (2, "b", "a", 1.0, (0, 4)),
        (7, "p", "q", 1.0, (8,)),
        (8, "q", "p", 1.0, (7,)),
    ]


def test_a_row_found_twice_is_listed_once_with_both_reasons() -> None:
    problems = [
        LabelProblem(7, "a", "c", 0.99, ("unlikely",)),
        LabelProblem(3, "a", "b", 0.6, ("similar_text",), (5,)),
        LabelProblem(5, "a", "b", 0.7, ("unlikely",)),
        LabelProblem(3, "a", "d", 0.8, ("unlikely",)),
        LabelProblem(9, "b", "a", 1.0, ("similar_text",), (3,)),
    ]
    ranked = rank_problems(problems)
    assert [(problem.row, problem.suggested, problem.reasons) for problem in ranked] == [
        (3, "b", ("similar_text", "unlikely")),
        (9, "a", ("similar_text",)),
        (7, "c", ("unlikely",)),
        (5, "b", ("unlikely",)),
    ]
    assert ranked == rank_problems(problems[::-1])


def test_the_table_names_rows_by_id() -> None:
    table = problem_table([LabelProblem(1, "a", "b", 2 / 3, ("similar_text",), (0,))], ["first", "second"])
    assert table == [
        {"rank": 1, "id": "second", "given": "a", "suggested": "b", "score": 0.6667, "reason": "similar_text", "others": "first"}
    ]
