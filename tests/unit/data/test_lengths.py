"""How many texts are cut is said before anything is trained, by words where no tokenizer is at hand."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from acclimate import kinds
from acclimate.data.lengths import log_many_words


def said(caplog: pytest.LogCaptureFixture, kind: str, texts: list[list[str]], max_length: int) -> list[tuple[str, str]]:
    caplog.clear()
    with caplog.at_level("INFO"):
        own = {} if kind == "extractive_qa" else {"label": "label"}
        log_many_words(kinds.configured_table(kind, own), texts, max_length, where="tasks.t")
    return [(record.levelname, record.getMessage()) for record in caplog.records]


def test_the_share_that_is_cut_for_certain_is_said(caplog: pytest.LogCaptureFixture) -> None:
    texts = [["word " * 9], *[["short"]] * 19]
    message = "tasks.t: 5.0 % or more of 20 rows are longer than max_length: 8 tokens, and are cut there"
    assert said(caplog, "classification", texts, 8) == [("WARNING", message)]
    assert said(caplog, "classification", texts, 9) == []
    assert said(caplog, "classification", [*texts, ["short"]], 8)[0][0] == "INFO"
    assert said(caplog, "classification", [["word " * 5, "word " * 4]], 8)[0][0] == "WARNING"
    assert said(caplog, "extractive_qa", texts, 8) == []
    assert said(caplog, "classification", [], 8) == []


@settings(max_examples=50, derandomize=True, deadline=5000)
@given(text=st.text(st.characters(codec="utf-8", exclude_categories=["C"])))
def test_a_text_has_a_token_a_word_at_least(text: str) -> None:
    tokenizer = Tokenizer(models.WordPiece({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    assert len(tokenizer.encode(text).ids) >= len(text.split())
