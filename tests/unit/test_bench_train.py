"""How the benchmark of training counts work and compares rounds; no time is measured here."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.bench_train import FINETUNING_GOALS, contests, mlm_contest, pretraining_goals
from benchmarks.train_rounds import Goal, Side, compare_quality, lines_of, table, verdict
from benchmarks.train_work import (
    DEV_ROWS,
    Ragged,
    Ratio,
    Round,
    Run,
    Size,
    Timing,
    Turns,
    Work,
    flops_per_token,
    flops_utilisation,
    ratio_of_rounds,
)


@pytest.fixture
def work(tmp_path):
    documents = Ragged(np.arange(300, dtype=np.uint16), np.array([0, 100, 200, 300]))
    return Work(documents, documents, documents, documents, ["a", "b"], tmp_path / "tokenizer.json")


def side(rates, *, loss=9.0, quality=None, weights="same", error=""):
    rounds = [Round(seconds=2.0, processor_s=1.0, tokens=2 * rate, sequences=rate // 10) for rate in rates]
    timing = Timing([1], [1], [1.0], [loss], quality or {"loss": loss}, weights)
    return Side(Run("mlm", rounds=len(rates)), rounds, [0.5] * len(rates), None, timing, 100.0, {}, error)


def test_operations_of_a_token_equal_the_count_by_hand():
    # L 2, h 4, texts of 1 and 3 tokens: context (1 + 9) / 4 = 2.5. 6*12*2*16 = 2304; 12*2*4*2.5 = 240; 6*(10*4 + 16)*0.5 = 168.
    assert flops_per_token(Size(2, 4, 1), np.array([1, 3]), masked_share=0.5, vocabulary=10) == 2304 + 240 + 168


def test_utilisation_is_the_share_of_the_measured_peak():
    assert flops_utilisation(1000.0, 2712.0, 27_120_000.0) == pytest.approx(0.1)


def test_the_bench_of_bert_base_spends_most_on_its_layers():
    found = flops_per_token(Size(12, 768, 12), np.full(5, 128), masked_share=0.15)
    assert found == pytest.approx(6 * 12 * 12 * 768**2 + 12 * 12 * 768 * 128 + 6 * (30_522 * 768 + 768**2) * 0.15)


def test_packed_rows_hold_pieces_of_documents(work):
    assert work.packed(128).tolist() == [list(range(128)), list(range(128, 256))]
    assert work.packed_lengths(128).tolist() == [100, 28, 72, 56]


def test_special_tokens_are_not_counted_as_maskable(work):
    assert work.masked_share() == pytest.approx(0.15 * 294 / 300)


def test_cutting_keeps_the_last_token_and_the_labels():
    rows = Ragged(np.array([2, 7, 8, 9, 3, 2, 3]), np.array([0, 5, 7]), np.array([1, 0]))
    cut = rows.cut(3)
    assert [cut.row(0).tolist(), cut.row(1).tolist()] == [[2, 7, 3], [2, 3]]
    assert cut.head(1).labels.tolist() == [1] and cut.head(1).lengths.tolist() == [3]


def test_ratio_is_taken_round_by_round():
    # Rounds 2 and 3 were both slowed, by others on the machine: the ratio of each stays, that of sums would not.
    assert ratio_of_rounds([40.0, 10.0, 60.0], [10.0, 2.0, 30.0]) == Ratio(4.0, 2.0, 5.0)
    assert str(Ratio(4.0, 2.0, 5.0)) == "4.00 (2.00-5.00)"
    with pytest.raises(ValueError, match="no round"):
        ratio_of_rounds([], [])
    with pytest.raises(ValueError):
        ratio_of_rounds([1.0], [1.0, 2.0])


def test_a_goal_is_met_by_the_median_and_an_equal_model():
    assert verdict(Ratio(5.0, 4.0, 6.0), 5.0, as_good=True) == "yes"
    assert verdict(Ratio(4.9, 4.0, 6.0), 5.0, as_good=True) == "no"
    assert verdict(Ratio(5.0, 4.0, 6.0), 5.0, as_good=False) == "no: quality is lower"


def test_our_loss_may_be_one_per_cent_higher_or_lower_at_will():
    assert compare_quality(side([1], loss=9.05), side([1], loss=9.0))[1]
    assert compare_quality(side([1], loss=8.85), side([1], loss=9.0)) == ("loss 8.850, 9.000 (-1.7%)", True)
    assert not compare_quality(side([1], loss=9.1), side([1], loss=9.0))[1]
    assert compare_quality(side([1]), side([1], weights="other")) == ("the initial weights differ", False)


def test_accuracies_may_differ_by_two_standard_errors():
    def scored(accuracy):
        return side([1], quality={"accuracy": accuracy, "loss": 1.0})

    two_errors = 2 * (2 * 0.25 / DEV_ROWS) ** 0.5
    assert compare_quality(scored(0.5 - 0.9 * two_errors), scored(0.5))[1]
    assert not compare_quality(scored(0.5 - 1.1 * two_errors), scored(0.5))[1]


def test_every_goal_has_a_line_with_rates_ratio_and_verdict(work):
    contest = mlm_contest("MLM tiny", Run("mlm"), pretraining_goals(5.0, 10.0, 0.2), wanted=["g1", "g2", "g3"])
    sides = {"ours": side([600, 500, 400]), "best": side([100, 100, 100]), "shipped_groups": side([100, 40, 40])}
    sides["shipped_lines"] = side([], error="out of memory")
    first, groups, lines, busy = lines_of(contest, sides, work, peak_flops_per_s=1e9)
    assert (first.ratio, first.wanted, first.met) == ("5.00 (4.00-6.00); by processor time 5.00", "5x", "yes")
    assert (first.peer_rate, first.our_rate) == ("100 tokens/s", "500 tokens/s")
    assert (groups.ratio.split(";")[0], groups.met) == ("10.00 (6.00-12.50)", "yes")
    assert (lines.met, lines.quality) == ("FAILED", "shipped_lines: out of memory")
    assert (busy.goal, busy.wanted) == ("G3", "20%")


def test_a_table_keeps_its_columns_when_an_error_holds_a_bar(work):
    contest = mlm_contest("MLM tiny", Run("mlm"), [Goal("G1", 5.0, "best")], wanted=["g1"])
    lines = lines_of(contest, {"ours": side([1]), "best": side([], error="a | b")}, work, peak_flops_per_s=1.0)
    head, rule, row = table(lines).splitlines()
    assert head.count("|") == rule.count("|") == row.count("|")
    assert "a / b" in row


def test_turns_stop_after_the_warm_up_and_after_each_round():
    done = []
    turns = Turns(Run("mlm", warmup_steps=2, steps_per_round=3, rounds=2), done.append)
    for step in range(turns.steps):
        turns.step(tokens=step, sequences=1, loss=0.5)
    assert [(one.tokens, one.sequences) for one in done] == [(0 + 1, 2), (2 + 3 + 4, 3), (5 + 6 + 7, 3)]
    assert turns.timing(quality={}, weights_at_start="").tokens == list(range(8))


def test_a_side_that_took_too_few_steps_is_refused():
    turns = Turns(Run("mlm"))
    turns.step(tokens=1, sequences=1, loss=0.5)
    with pytest.raises(RuntimeError, match="1 steps were taken; 17 were asked for"):
        turns.timing(quality={}, weights_at_start="")


def test_sides_of_a_contest_take_equally_many_steps_at_equal_rates():
    for contest in contests(["g1", "g2", "g3", "g7"], ["tiny", "mini", "base"], Run("mlm")):
        assert len({(run.steps, run.rows, run.size, run.learning_rate, run.seed) for run in contest.runs.values()}) == 1


def test_only_the_peers_of_wanted_goals_are_measured():
    (contest,) = contests(["g7"], ["tiny"], Run("mlm"))
    assert set(contest.runs) == {"ours", *(goal.peer for goal in FINETUNING_GOALS)}
