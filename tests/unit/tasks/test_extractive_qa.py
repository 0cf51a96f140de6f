"""Extractive question answering: windows, spans, what a table may hold, and SQuAD's own scores."""

from __future__ import annotations

import collections
import itertools
import json
import re
import string
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

from acclimate import kinds
from acclimate.data.tokens.encoding import load_tokenizer
from acclimate.errors import ConfigError, DataError, ModelError
from acclimate.evaluation.metrics import score
from acclimate.tasks.extractive_qa.decode import Places, best_spans
from acclimate.tasks.extractive_qa.table import Table

KIND = "extractive_qa"
OPTIONS = Table(unanswerable=True).carried
QUESTION = "What does grep do?"
CONTEXT = (
    "cat: joins files and writes them to the standard output, one after the other. grep: searches files for lines that match a "
    "pattern; with -v, for those that do not. na\u00efve caf\u00e9: prints \u4e2d\u6587 and e\u0301. less: shows a file page by page."
)
ANSWERS = ["searches files for lines that match a pattern", "joins files", "cat", "page by page", "caf\u00e9", "\u4e2d\u6587"]


@pytest.fixture(scope="module", params=["wordpiece", "byte_level"])
def tokenizer(request: pytest.FixtureRequest, minilm_dir: Path) -> Tokenizer:
    """BERT's and one as RoBERTa's, whose tokens begin with the space before them and whose template has four special tokens."""
    if request.param == "wordpiece":
        return load_tokenizer(minilm_dir)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        [CONTEXT, QUESTION], trainers.BpeTrainer(vocab_size=400, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet)
    )
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 1), ("<s>", 0), trim_offsets=True, add_prefix_space=False)
    return tokenizer


def encoded(tokenizer: Tokenizer, *, max_length: int, question: str = QUESTION, context: str = CONTEXT) -> Any:
    inputs = [{"question": question, "context": context}]
    return kinds.model(KIND).encode(inputs, tokenizer, max_length=max_length, options=OPTIONS)


@pytest.mark.parametrize("max_length", [16, 24, 40, 256])
@pytest.mark.parametrize("answer", ANSWERS)
def test_the_targets_of_an_answer_are_decoded_to_the_answer(tokenizer: Tokenizer, answer: str, max_length: int) -> None:
    rows, model = encoded(tokenizer, max_length=max_length), kinds.model(KIND)
    gold = model.gold([[{"text": answer, "start": CONTEXT.index(answer)}]], None)
    width = int(rows.lengths.max())
    targets_BT3, terms = model.targets(gold, rows, np.arange(len(rows.lengths)), width)
    assert terms.tolist() == [1] * len(rows.lengths)
    assert targets_BT3[..., 1:].sum(dim=1).eq(1).all()
    logits = [(targets[positions, 1:].numpy() * 9.0) for targets, positions in zip(targets_BT3, rows.own.places.positions, strict=True)]
    found = model.predictions(logits, rows)[0]
    if targets_BT3[:, 1:, 1].any():
        assert (found["text"], found["start"]) == (answer, CONTEXT.index(answer))
    else:  # the answer is longer than any window
        assert (found["text"], found["start"]) == ("", -1)
        assert max_length == 16 or len(answer) > 20


def test_an_accent_that_the_tokenizer_drops_stays_with_its_letter(minilm_dir: Path) -> None:
    rows = encoded(load_tokenizer(minilm_dir), max_length=256)
    logits = rows.own.places.characters[0] == np.array([182, CONTEXT.index("\u0301")])
    assert kinds.model(KIND).predictions([logits * 9.0], rows)[0]["text"] == "\u4e2d\u6587 and e\u0301"


def test_windows_are_those_of_transformers(minilm_dir: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    theirs = PreTrainedTokenizerFast(tokenizer_file=str(minilm_dir / "tokenizer.json"), pad_token="[PAD]")
    expected = theirs(
        QUESTION,
        CONTEXT,
        max_length=32,
        truncation="only_second",
        stride=int(29 / 3),
        return_overflowing_tokens=True,
        return_token_type_ids=True,
    )
    rows = encoded(load_tokenizer(minilm_dir), max_length=32)
    assert len(rows.lengths) > 2
    assert [rows.row(row).tolist() for row in range(len(rows.lengths))] == expected["input_ids"]
    assert np.split(rows.type_ids, rows.offsets[1:-1])[0].tolist() == expected["token_type_ids"][0]


def test_every_character_of_a_context_is_in_a_window_and_a_long_question_leaves_half_a_row(tokenizer: Tokenizer) -> None:
    rows = encoded(tokenizer, max_length=20, question="why " * 500 + "\U0001f600" * 50)
    read = {position for each in rows.own.places.characters for start, end in each.tolist() for position in range(start, end)}
    assert read >= {position for position, sign in enumerate(CONTEXT) if not sign.isspace() and not unicodedata.combining(sign)}
    assert rows.truncated == 1
    assert rows.lengths.max() <= 20
    assert min(len(positions) for positions in rows.own.places.positions[:-1]) > 8 - 1


def test_a_row_without_room_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(ConfigError, match="max_length: 4 tokens leave no room for a question and a context"):
        encoded(tokenizer, max_length=4)


def test_the_loss_of_a_row_is_torchs_over_its_readable_tokens_however_wide_its_batch(minilm_dir: Path) -> None:
    rows, model = encoded(load_tokenizer(minilm_dir), max_length=32), kinds.model(KIND)
    gold = model.gold([[{"text": "grep", "start": CONTEXT.index("grep")}]], None)
    count = len(rows.lengths)
    outputs = torch.randn(count, 48, 2, generator=torch.Generator().manual_seed(1))
    losses = {}
    for width in (32, 48):
        targets, _ = model.targets(gold, rows, np.arange(count), width)
        losses[width] = model.row_losses(outputs[:, :width], targets)
    assert torch.equal(losses[32], losses[48])
    for row, positions in enumerate(rows.own.places.positions):
        logits, wanted = outputs[row, positions], targets[row, positions, 1:].int().argmax(dim=0)
        expected = torch.nn.functional.cross_entropy(logits.T, wanted)
        torch.testing.assert_close(losses[48][row], expected)


@given(st.integers(1, 12), st.integers(1, 5), st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_the_best_span_is_that_of_trying_all(num_tokens: int, max_length: int, seed: int) -> None:
    logits = np.random.default_rng(seed).normal(size=(num_tokens + 1, 2)).astype(np.float32)
    characters = np.array([(0, 0), *((2 * token, 2 * token + 1) for token in range(num_tokens))])
    places = Places(np.array([0]), [np.arange(num_tokens + 1)], [characters], ["a " * num_tokens])
    found = best_spans(places, [logits], unanswerable=False, max_answer_tokens=max_length)[0]
    spans = [(first, last) for first in range(num_tokens) for last in range(first, min(num_tokens, first + max_length))]
    first, last = max(spans, key=lambda span: float(logits[1 + span[0], 0]) + float(logits[1 + span[1], 1]))
    assert (found["start"], found["end"]) == (2 * first, 2 * last + 1)


def test_no_answer_is_given_where_it_scores_more_than_every_span_of_all_windows() -> None:
    characters = np.array([(0, 0), (0, 3), (4, 7)])
    places = Places(np.array([0, 0]), [np.arange(3)] * 2, [characters, characters + 8], ["one two six ten"])
    logits = [np.array([[3, 3], [1, 0], [0, 0]], np.float32), np.array([[1, 1], [2, 0], [0, 0.5]], np.float32)]
    choice = {"unanswerable": True, "max_answer_tokens": 2}
    found = best_spans(places, logits, **choice)[0]
    assert found == {"text": "six ten", "start": 8, "end": 15, "scores": [2.5, 2.0]}
    logits[1][0] = 2.0
    assert best_spans(places, logits, **choice)[0] == {"text": "", "start": -1, "end": -1, "scores": [2.5, 4.0]}
    logits[0][1] = np.nan
    assert np.isnan(best_spans(places, logits, **choice)[0]["scores"][0])


# What follows is SQuAD's evaluate-v2.0.py, its names and its arithmetic.


def normalize_answer(s: str) -> str:
    def remove_articles(text: str) -> str:
        return re.sub(re.compile(r"\b(a|an|the)\b", re.UNICODE), " ", text)

    def remove_punc(text: str) -> str:
        exclude = set(string.punctuation)
        return "".join(ch for ch in text if ch not in exclude)

    return " ".join(remove_articles(remove_punc(s.lower())).split())


def compute_f1(a_gold: str, a_pred: str) -> float:
    gold_toks = normalize_answer(a_gold).split() if a_gold else []
    pred_toks = normalize_answer(a_pred).split() if a_pred else []
    num_same = sum((collections.Counter(gold_toks) & collections.Counter(pred_toks)).values())
    if len(gold_toks) == 0 or len(pred_toks) == 0:
        return int(gold_toks == pred_toks)
    if num_same == 0:
        return 0
    precision, recall = 1.0 * num_same / len(pred_toks), 1.0 * num_same / len(gold_toks)
    return (2 * precision * recall) / (precision + recall)


def raw_scores(answers: list[str], a_pred: str) -> tuple[float, float]:
    gold_answers = [answer for answer in answers if normalize_answer(answer)] or [""]
    exact = max(int(normalize_answer(a) == normalize_answer(a_pred)) for a in gold_answers)
    return max(compute_f1(a, a_pred) for a in gold_answers), exact


TEXTS = st.lists(st.sampled_from(["the", "A", "an", "Denver", "denver.", "U.S.", "'s", "--", "the-", "\u00e9", "b"]), max_size=4).map(
    " ".join
)


@given(st.lists(st.tuples(st.lists(TEXTS, max_size=3), TEXTS), min_size=1, max_size=5))
@settings(max_examples=200, deadline=None)
def test_exact_match_and_f1_are_those_of_squads_own_script(rows: list[tuple[list[str], str]]) -> None:
    gold = kinds.model(KIND).gold([[{"text": text, "start": 0} for text in answers] for answers, _ in rows], None)
    predictions = [{"text": text, "start": 0, "end": 1, "scores": [1.0, 0.0]} for _, text in rows]
    expected = np.mean([raw_scores(answers, text) for answers, text in rows], axis=0)
    found = score(KIND, gold, predictions, labels=None)
    assert [found["f1"], found["exact_match"]] == pytest.approx(expected.tolist(), abs=1e-12)


def test_f1_counts_characters_where_no_space_parts_words() -> None:
    rows = [(["新的墨盒"], "墨盒"), (["墨盒"], "墨盒"), (["墨盒"], "纸"), (["ink 墨盒"], "the ink墨")]
    gold = [{"texts": answers, "starts": [0]} for answers, _ in rows]
    predictions = [{"text": text, "start": 0, "end": 1, "scores": [1.0, 0.0]} for _, text in rows]
    found = kinds.metrics("extractive_qa").row_statistics(gold, predictions, None)
    assert found[:, 0].round(3).tolist() == [0.667, 1.0, 0.0, 0.8]


def test_a_score_that_is_not_finite_is_refused() -> None:
    prediction = {"text": "", "start": -1, "end": -1, "scores": [float("nan"), 0.0]}
    with pytest.raises(ModelError, match="not finite"):
        score(KIND, [{"texts": ["x"], "start": 0, "end": 1}], [prediction], labels=None)


PLACED = [{"text": "cat", "start": 0}, {"text": "joins files", "start": 5}]
FORMS = {
    "struct": {"text": ["cat", "joins files"], "answer_start": [0, 5]},
    "pairs": [{"text": "cat", "answer_start": 0}, {"text": "joins files", "answer_start": 5.0}],
    "spaces": [{"text": "cat", "answer_start": 0}, {"text": " joins files ", "answer_start": 4}],
    "no starts": ["cat", "joins files"],
    "JSON": json.dumps({"text": ["cat", "joins files"], "answer_start": [0, 5]}),
}


def read(answers: list[Any], **options: Any) -> list[Any]:
    columns = {"question": ["What?"] * len(answers), "context": [CONTEXT] * len(answers), "answers": answers}
    return Table(**options).read(columns, where="rows").labels


@pytest.mark.parametrize("form", FORMS)
def test_answers_are_read_in_every_form(form: str) -> None:
    assert read([FORMS[form]]) == [PLACED]


def test_flat_columns_are_read() -> None:
    cells = {
        "question": ["What?"] * 3,
        "context": [CONTEXT] * 3,
        "answer": ["files", "files", ""],
        "at": ["11", CONTEXT.rindex("files"), None],
    }
    found = Table(answers="answer", answer_start="at").read(cells, where="rows").labels
    assert found == [[{"text": "files", "start": 11}], [{"text": "files", "start": CONTEXT.rindex("files")}], None]


@pytest.mark.parametrize("empty", [None, "", [], {"text": [], "answer_start": []}, float("nan"), "[]"])
def test_a_question_without_an_answer_is_left_out_unless_the_task_has_such(empty: Any) -> None:
    labels = read([empty, "cat"])
    assert labels == [None, PLACED[:1]]
    assert "1 of 2 questions have none and are left out" in Table().notes(labels)[0]
    assert read([empty, "cat"], unanswerable=True) == [[], PLACED[:1]]
    assert Table(unanswerable=True).notes([[], PLACED]) == []


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ({"text": ["cat"], "answer_start": [1]}, r"1 of 2 rows .* 'cat' does not stand at character 1 of the context; there stands 'at:'"),
        ("dog", "'dog' does not stand in the context"),
        ({"text": ["cat"], "answer_start": [0, 5]}, "1 texts, 2 starts"),
        ({"text": ["cat"], "answer_start": ["x"]}, "start 'x' is no whole number"),
        ({"text": ["cat"], "answer_start": [-3]}, "does not stand at character -3"),
        (7, "'7' is no answer"),
    ],
)
def test_an_answer_that_does_not_fit_is_refused_with_its_row(answer: Any, problem: str) -> None:
    with pytest.raises(DataError, match=f"row 2: .*{problem}|{problem}"):
        read(["cat", answer])


def test_a_context_that_is_no_text_is_refused_and_an_empty_one_is_empty() -> None:
    cells = {"question": ["What?"] * 2, "context": [" \n", None], "answers": ["cat", None]}
    assert [row["context"] for row in Table().read(cells, where="rows").inputs] == ["", ""]
    with pytest.raises(DataError, match=r"1 of 2 rows hold no text: row 2: .* is no text"):
        Table().read({**cells, "context": ["x", ["a"]]}, where="rows")


def test_training_rows_without_any_answer_are_refused() -> None:
    with pytest.raises(DataError, match="no training question has an answer"):
        Table(unanswerable=True).collect_labels({"train": [[], []], "dev": [PLACED]}, where="tasks.qa")


def test_the_baseline_finds_the_words_next_to_those_of_the_question() -> None:
    contexts = ["grep searches files. less shows pages of long files.", "Nothing is known. It rains in Rome all day."]
    rows = {"question": ["What does less do with pages?"], "context": contexts[:1]}
    train = {"question": ["?", "?"], "context": contexts}
    gold = {"train": kinds.model(KIND).gold([[{"text": "files", "start": 0}], [{"text": "Rome", "start": 0}]], None)}
    found = kinds.baseline(KIND).candidates({"train": train, "dev": rows, "test": rows}, gold, None)
    assert [predictions["test"][0]["text"] for _, predictions in found] == ["shows", "grep", ""]
    for (_, predictions), split in itertools.product(found, ("dev", "test")):
        prediction = predictions[split][0]
        assert prediction["text"] == contexts[0][max(0, prediction["start"]) : max(0, prediction["end"])]


def test_a_probe_reads_the_span_off_features_that_hold_it(minilm_dir: Path) -> None:
    model, tokenizer = kinds.model(KIND), load_tokenizer(minilm_dir)
    answers = ["joins files", "grep", "shows a file"]
    inputs = [{"question": QUESTION, "context": CONTEXT}] * len(answers)
    encoded = model.encode(inputs, tokenizer, max_length=32, options=OPTIONS)
    gold = model.gold([[{"text": answer, "start": CONTEXT.index(answer)}] for answer in answers], None)
    count = len(encoded.lengths)
    targets_BT3, _ = model.targets(gold, encoded, np.arange(count), 32)
    positions = encoded.own.places.positions
    features = np.concatenate([targets_BT3[row, positions[row], 1:].numpy() for row in range(count)]).astype(np.float32)
    rows = kinds.ProbeRows(features, gold, np.array(list(map(len, positions))), encoded)
    (found,) = kinds.baseline(KIND).probe(rows, [rows], num_outputs=2, regularization=1.0, tolerance=1e-3)
    assert [prediction["text"] for prediction in found] == answers
