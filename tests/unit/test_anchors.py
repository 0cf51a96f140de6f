"""The anchors: how public files are read, how rows are drawn, and when two ways of training are equivalent. No data of theirs is needed."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acclimate.evaluation.metrics import row_statistics
from benchmarks import anchor_data
from benchmarks.anchor_data import DataMissingError, read_banking77, read_mrpc, read_scientific, read_sick
from benchmarks.anchor_frozen import undersampled
from benchmarks.anchor_results import Results, equivalence_lines, frozen_lines, table
from benchmarks.anchors import finetuned, frozen, main
from benchmarks.equivalence import welch_equivalence


def resized(monkeypatch, name, rows):
    """The same files, with as many rows as a test writes."""
    monkeypatch.setattr(anchor_data, name, dataclasses.replace(getattr(anchor_data, name), rows=rows))


def write(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(text.encode())


SICK_HEAD = "pair_ID\tsentence_A\tsentence_B\trelatedness_score\tentailment_judgment\n"
SICK_FILES = {
    "SICK_train.txt": SICK_HEAD + '1\tA man says "hi\tA man speaks\t4.5\tNEUTRAL\n2\tA\tB\t1\tNEUTRAL\n',
    "SICK_trial.txt": SICK_HEAD + "4\tC\tD\t3.2\tNEUTRAL\r\n",
    "SICK_test_annotated.txt": SICK_HEAD + "6\tE\tF\t2.25\tENTAILMENT",
}


def test_all_pairs_of_sick_are_read_in_the_order_of_the_splits(tmp_path, monkeypatch):
    resized(monkeypatch, "SICK", (2, 1, 1))
    write(tmp_path / "data/sts/sick2014", SICK_FILES)
    rows = read_sick(tmp_path)
    assert [row["score"] for row in rows] == [4.5, 1.0, 3.2, 2.25]
    assert rows[0] == {"text": 'A man says "hi', "text_pair": "A man speaks", "score": 4.5}


def test_the_folder_itself_reads_as_the_checkout_does(tmp_path, monkeypatch):
    resized(monkeypatch, "SICK", (2, 1, 1))
    write(tmp_path / "data/sts/sick2014", SICK_FILES)
    assert read_sick(tmp_path / "data/sts/sick2014") == read_sick(tmp_path)


def test_another_number_of_rows_than_the_published_is_refused(tmp_path):
    write(tmp_path, SICK_FILES)
    with pytest.raises(DataMissingError, match=r"SICK: \[4\] rows; the published figures are for \[9927\]"):
        read_sick(tmp_path)


def test_a_missing_file_is_refused_with_where_it_is_public(tmp_path):
    with pytest.raises(DataMissingError, match=r"train\.csv: no such file; give a checkout of https://github.com/PolyAI-LDN/"):
        read_banking77(tmp_path)


MRPC_HEAD = "\N{ZERO WIDTH NO-BREAK SPACE}Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n"


def test_mrpc_keeps_its_quotation_marks_and_drops_its_byte_order_mark(tmp_path, monkeypatch):
    resized(monkeypatch, "MRPC", (2, 1, 1))
    names = anchor_data.MRPC.files
    texts = ['1\t7\t8\t"Yes, he said.\tHe said yes.\n0\t1\t2\tA "b"\tc\n', "1\t1\t2\tx\ty\n", "0\t1\t2\tv\tw\n"]
    write(tmp_path, {name: MRPC_HEAD + text for name, text in zip(names, texts, strict=True)})
    found = read_mrpc(tmp_path)
    assert found["train"] == [
        {"text": '"Yes, he said.', "text_pair": "He said yes.", "label": "1"},
        {"text": 'A "b"', "text_pair": "c", "label": "0"},
    ]
    assert [len(found[split]) for split in ("train", "dev", "test")] == [2, 1, 1]


def test_a_row_with_too_few_fields_is_named_by_its_line(tmp_path):
    write(tmp_path, dict.fromkeys(anchor_data.MRPC.files, MRPC_HEAD + "1\t7\t8\tx\n"))
    with pytest.raises(DataMissingError, match=r"msr-para-train\.tsv: line 2 has 4 fields, the header has 5"):
        read_mrpc(tmp_path)


def test_banking77_reads_quoted_commas_and_line_ends(tmp_path, monkeypatch):
    resized(monkeypatch, "BANKING77", (2, 1))
    train = 'text,category\n"How, and\nwhen?",card_arrival\nWhy?,pin\n'
    write(tmp_path / "banking_data", {"train.csv": train, "test.csv": "text,category\nWho?,pin\n"})
    found = read_banking77(tmp_path)
    assert found["train"][0] == {"text": "How, and\nwhen?", "label": "card_arrival"}
    assert [row["label"] for row in found["train"] + found["test"]] == ["card_arrival", "pin", "pin"]


def test_scientific_sentences_keep_odd_line_separators(tmp_path):
    source = dataclasses.replace(anchor_data.ACL_ARC, rows=(1, 1, 1))
    line = json.dumps({"text": "a\N{LINE SEPARATOR}b", "label": "Uses", "metadata": {}}, ensure_ascii=False)
    write(tmp_path, dict.fromkeys(source.files, line + "\n"))
    assert read_scientific(source, tmp_path)["dev"] == [{"text": "a\N{LINE SEPARATOR}b", "label": "Uses"}]


# How rows are drawn.


def test_rows_are_drawn_as_by_hand():
    # RandomState(0) brings [0..5] to [5, 2, 1, 3, 0, 4]: place i takes what stood at p[i]. The second experiment applies p again:
    # [4, 1, 2, 3, 5, 0]. One row of each of "a" (0 1 2) and "b" (3 4 5), in that order.
    assert np.random.RandomState(0).permutation(6).tolist() == [5, 2, 1, 3, 0, 4]
    assert list(undersampled(list("aaabbb"), per_label=1, experiments=2, seed=0)) == [[5, 2], [4, 1]]


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(1, 5), st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_each_experiment_has_as_many_rows_of_a_label_as_there_are_up_to_the_limit(labels, per_label, seed):
    for chosen in undersampled(labels, per_label=per_label, experiments=3, seed=seed):
        assert len(set(chosen)) == len(chosen)
        drawn = [labels[row] for row in chosen]
        assert {label: drawn.count(label) for label in set(labels)} == {label: min(per_label, labels.count(label)) for label in set(labels)}


# When two are equivalent.


def test_equivalence_is_that_of_the_formulae():
    ours, theirs, margin = [0.80, 0.82, 0.81, 0.84], [0.79, 0.81, 0.80], 0.05
    found = welch_equivalence(ours, theirs, margin=margin)
    # Means .8175 and .8000; variances .000291667 and .0001, so the squared errors .0000729167 and .0000333333.
    variances = (0.0008750 / 3 / 4, 0.0002 / 2 / 3)
    error = math.sqrt(sum(variances))
    freedom = sum(variances) ** 2 / (variances[0] ** 2 / 3 + variances[1] ** 2 / 2)
    from scipy.stats import t

    above, below = t.sf((0.0175 + margin) / error, freedom), t.cdf((0.0175 - margin) / error, freedom)
    half = t.ppf(0.95, freedom) * error
    assert found.difference == pytest.approx(0.0175)
    assert found.p == pytest.approx(max(above, below), rel=1e-9)
    assert (found.low, found.high) == (pytest.approx(0.0175 - half), pytest.approx(0.0175 + half))
    assert found.equivalent


SCORES = st.lists(st.integers(5000, 10_000).map(lambda value: value / 10_000), min_size=2, max_size=8, unique=True)


@given(SCORES, SCORES, st.floats(0.001, 0.2))
@settings(max_examples=100, deadline=None)
def test_both_one_sided_tests_are_those_of_scipy(ours, theirs, margin):
    from scipy.stats import ttest_ind

    found = welch_equivalence(ours, theirs, margin=margin)
    above = ttest_ind(np.array(ours) + margin, theirs, equal_var=False, alternative="greater").pvalue
    below = ttest_ind(np.array(ours) - margin, theirs, equal_var=False, alternative="less").pvalue
    interval = ttest_ind(ours, theirs, equal_var=False).confidence_interval(0.9)
    assert found.p == pytest.approx(max(above, below), rel=1e-6)
    assert (found.low, found.high) == (pytest.approx(interval.low), pytest.approx(interval.high))


@given(SCORES, SCORES, st.floats(0.001, 0.2))
@settings(max_examples=100, deadline=None)
def test_two_are_equivalent_exactly_where_the_interval_lies_within_the_margin(ours, theirs, margin):
    found = welch_equivalence(ours, theirs, margin=margin)
    inside = -margin < found.low and found.high < margin
    assert found.equivalent == inside or math.isclose(found.p, 0.05, rel_tol=1e-6)


def test_one_side_may_be_the_same_for_every_seed():
    assert welch_equivalence([0.8, 0.8, 0.8], [0.79, 0.8, 0.81], margin=0.05).equivalent


@pytest.mark.parametrize(
    ("ours", "theirs", "margin", "says"),
    [
        ([0.8, 0.9], [0.8, 0.9], 0.0, "the margin is 0; it must be above 0"),
        ([0.8], [0.8, 0.9], 0.02, "1 and 2 values; each side needs two or more"),
        ([0.8, 0.8], [0.9, 0.9], 0.02, "neither side varies"),
    ],
)
def test_what_cannot_be_tested_is_refused(ours, theirs, margin, says):
    with pytest.raises(ValueError, match=says):
        welch_equivalence(ours, theirs, margin=margin)


# The model that Trainer gets, and what is made of results.


def test_the_peers_model_computes_what_ours_does(tmp_path):
    torch = pytest.importorskip("torch")
    from transformers import BertConfig, BertModel

    from acclimate.backbones.loading import load_backbone
    from acclimate.training.task_model import TaskModel, TaskSpec
    from benchmarks.anchor_finetuning import MeanPooled

    torch.manual_seed(0)
    shape = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(**shape, max_position_embeddings=12), add_pooling_layer=False).save_pretrained(tmp_path)
    peer = MeanPooled(tmp_path, 3).eval()
    ours = TaskModel(
        load_backbone(tmp_path), TaskSpec("t", "classification", list("abc"), True, "accuracy", "mean", 12, "e", 0, 16, 3)
    ).eval()
    ours.head.load_state_dict(peer.classifier.state_dict())
    ids = torch.tensor([[2, 7, 8, 3, 9, 3], [2, 5, 3, 0, 0, 0]])
    mask, types = (ids > 0).long(), torch.tensor([[0, 0, 0, 0, 1, 1], [0] * 6])
    torch.testing.assert_close(ours(ids, mask, types), peer(ids, mask, types)["logits"], rtol=1e-4, atol=1e-5)


def test_a_table_says_whether_each_anchor_is_met():
    told = {"base": {"accuracy": 0.81, "processor_s": 3.0}}
    difference = {"mean": -0.01, "low": -0.02, "high": -0.001, "p": 0.01}
    told["mlm"] = {"accuracy": 0.80, "processor_s": 2.0, "after_minus_base": {"accuracy": difference}}
    lines = frozen_lines("Banking77", {"published": {"accuracy": (0.8004, 0.006)}, "encoders": told})
    assert [(line.published, line.met) for line in lines] == [("0.8004 (MTEB, the same weights)", "no"), ("base", "")]
    assert "mlm: 0.8000, -0.0100 (95% interval -0.0200 to -0.0010)" in table(lines)


def test_an_encoder_is_compared_with_the_base_over_the_same_pairs(tmp_path):
    gold = np.arange(60.0)
    noise = {tmp_path / "base": 5.0, tmp_path / "mlm": 40.0}

    def read(encoder):
        predicted = gold + noise[encoder] * np.random.RandomState(0).normal(size=60)
        return [row_statistics("regression", gold, predicted[:, None], labels=None)]

    found = frozen("SICK-R", read, {"spearman": (0.7758, 0.0005)}, {"base": tmp_path / "base", "mlm": tmp_path / "mlm"})
    base, other = (found["encoders"][name] for name in ("base", "mlm"))
    difference = other["after_minus_base"]["spearman"]
    assert difference["mean"] == pytest.approx(other["spearman"] - base["spearman"])
    assert difference["low"] < difference["mean"] < difference["high"] < 0


def test_equivalence_is_told_for_seeds_in_their_order():
    runs = {str(seed): {"test_accuracy": 0.7 + seed / 1000, "test_f1": 0.8 + seed / 1000, "processor_s": 1.0} for seed in (10, 2, 1)}
    lines = equivalence_lines("MRPC", {"runs": {"ours": runs, "trainer": runs}})
    assert [line.met for line in lines] == ["yes", "yes"]
    assert lines[0].anchor == "MRPC, test accuracy, 3 seeds"


def test_results_survive_and_are_taken_up(tmp_path):
    Results.at(tmp_path / "new/a.json").put("mrpc", {"runs": 1})
    assert Results.at(tmp_path / "new/a.json").found == {"mrpc": {"runs": 1}}


def test_a_stopped_series_of_fine_tunings_goes_on_where_it_stopped(tmp_path):
    from benchmarks.anchor_finetuning import Settings

    ran = []

    def train(encoder, rows, settings, seed):
        ran.append((settings.epochs, seed))
        return {"test_accuracy": 0.5, "seconds": 1.0}

    def go(seeds, **changes):
        chosen = dataclasses.replace(Settings(1e-4, 2, 32, 128), **changes)
        return finetuned("mrpc", {}, {"ours": train}, chosen, seeds, tmp_path, Results.at(tmp_path / "a.json"))

    go(2)
    assert list(go(3)["runs"]["ours"]) == ["0", "1", "2"]
    assert ran == [(2, 0), (2, 1), (2, 2)]
    assert list(go(1, epochs=3)["runs"]["ours"]) == ["0"], "runs by other settings are not taken"
    assert ran[-1] == (3, 0)


def test_what_has_no_path_is_skipped_with_a_line(tmp_path, capsys):
    assert main(["--only", "sick,mrpc", "--json", str(tmp_path / "a.json")]) == 0
    assert capsys.readouterr().out.startswith("sick: skipped; no path is given\nmrpc: skipped; no path is given\n")


def test_a_path_without_the_data_is_refused_in_one_line(tmp_path, capsys):
    assert main(["--only", "sick", "--sick", str(tmp_path), "--json", str(tmp_path / "a.json")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
