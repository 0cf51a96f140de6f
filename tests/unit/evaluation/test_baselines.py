from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from acclimate.errors import DataError
from acclimate.evaluation.baselines import fit_baseline

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
