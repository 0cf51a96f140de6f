# ruff: noqa: RUF001 - the signs of other scripts are what is tested
from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from acclimate.errors import DataError
from acclimate.evaluation.baselines import fit_baseline
from acclimate.evaluation.label_audit import out_of_fold_probabilities

FRUIT, TOOLS = (
    ["apple pear plum", "ripe pear", "plum and apple", "apple pie"],
    ["hammer saw nail", "sharp saw", "nail the hammer", "saw blade"],
)


def _write(directory: Path, columns: dict[str, list], splits=("train", "dev", "test")) -> Path:
    for split in splits:
        rows = len(next(iter(columns.values())))
        pq.write_table(pa.table({"id": [f"{split}{i}" for i in range(rows)], **columns}), directory / f"{split}.parquet")
    return directory


def test_a_topic_told_by_its_words_is_learned(tmp_path):
    table = _write(tmp_path, {"text": FRUIT + TOOLS, "label": ["fruit"] * 4 + ["tools"] * 4})
    baseline = fit_baseline(table, "classification", ["fruit", "tools", "never seen"], metric="macro_f1")
    assert baseline.scores["test"]["accuracy"] == 1.0


WORDS = {"退款": ["付款", "金额", "账单"], "技术": ["屏幕", "打印机", "无法"]}
FILLED = [
    (label, f"{'昨天客户' if i % 2 else '我们今天'}{word}{'之后了' if i % 3 else '请尽快'}")
    for label in WORDS
    for word in WORDS[label]
    for i in range(6)
]


def test_a_topic_told_by_characters_is_learned_where_no_space_parts_words(tmp_path):
    table = _write(tmp_path, {"text": [text for _, text in FILLED], "label": [label for label, _ in FILLED]})
    assert fit_baseline(table, "classification", sorted(WORDS), metric="macro_f1").scores["test"]["accuracy"] == 1.0


def test_labels_of_such_texts_are_judged_by_characters():
    texts, gold = [f"{text}{i}" for i, (_, text) in enumerate(FILLED)], [sorted(WORDS).index(label) for label, _ in FILLED]
    found = out_of_fold_probabilities(texts, gold, texts, kind="classification", num_labels=2)
    assert (found.probabilities_RC.argmax(axis=1) == gold).mean() > 0.9


def test_an_answer_is_as_long_as_answers_are_where_no_space_parts_words(tmp_path):
    contexts = [f"昨天打印机{i}号坏了，我们换了新的墨盒，然后客户付款{i}元。" for i in range(6)]
    answers = [{"texts": ["墨盒"], "starts": [context.index("墨盒")]} for context in contexts]
    _write(
        tmp_path,
        {
            "question": ["换了新的什么？"] * 6,
            "context": contexts,
            "label": [[{"text": each["texts"][0], "start": each["starts"][0]}] for each in answers],
        },
    )
    found = fit_baseline(tmp_path, "extractive_qa", None, metric="f1").test_predictions
    assert {len(each["text"]) for each in found} == {2}  # as answers have; a clause would be one word


def test_several_labels_a_row_are_learned_and_a_label_without_rows_is_never_given(tmp_path):
    table = _write(tmp_path, {"text": FRUIT + TOOLS, "label": [["fruit", "thing"]] * 4 + [["thing"]] * 4})
    baseline = fit_baseline(table, "multi_label", ["fruit", "thing", "never"], metric="micro_f1")
    assert baseline.scores["test"]["micro_f1"] == 1.0


def test_the_overlap_of_a_pair_is_seen(tmp_path):
    texts = FRUIT + TOOLS
    table = _write(tmp_path, {"text": texts * 2, "text_pair": texts + TOOLS + FRUIT, "label": [1.0] * 8 + [0.0] * 8})
    assert fit_baseline(table, "regression", None, metric="spearman").scores["test"]["pearson"] > 0.9


def test_a_word_gets_its_commonest_tag_and_a_new_word_gets_none(tmp_path):
    _write(tmp_path, {"words": [["ls", "and", "ls"], ["ls", "runs"]], "label": [["B-CMD", "O", "B-CMD"], ["O", "O"]]}, ("train", "dev"))
    _write(tmp_path, {"words": [["ls", "new"]], "label": [["B-CMD", "B-CMD"]]}, ("test",))
    scores = fit_baseline(tmp_path, "tagging", ["O", "B-CMD", "I-CMD"], metric="entity_f1").scores["test"]
    assert (scores["entity_precision"], scores["entity_recall"], scores["token_accuracy"]) == (1.0, 0.5, 0.5)


def test_a_missing_split_is_named(tmp_path):
    _write(tmp_path, {"text": FRUIT, "label": ["a", "b", "a", "b"]}, ("train", "test"))
    with pytest.raises(DataError, match=r"dev\.parquet: no such file"):
        fit_baseline(tmp_path, "classification", ["a", "b"], metric="macro_f1")
