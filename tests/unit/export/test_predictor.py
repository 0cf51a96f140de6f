"""From raw text to labels, scores and spans."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities

from acclimate import kinds
from acclimate.data.screening.options import CleaningConfig, PersonalDataConfig
from acclimate.data.screening.texts import FILES, TextCounts, carried, prepare
from acclimate.data.tokens.encoding import encode_texts, encode_words, load_tokenizer
from acclimate.export.predictor import CUDA, Predictor, PredictorError, Preparation, Reader, open_session
from acclimate.tasks.tagging.decode import spans_of, split_words

LABELS = {"classification": ["a", "b", "c"], "multi_label": ["x", "y"], "regression": None, "tagging": ["O", "B-CMD", "I-CMD"]}
ODD_WORDS = ["run", "\u200b", "", "na\u00efve", "\x07", "/etc/passwd", "\u4e2d\u6587", "--help", "e\u0301"]


@pytest.fixture(scope="module")
def export_directory(tiny_encoder_dir: Path, tmp_path_factory):
    """Make, once for each kind, the directory that the stage writes."""
    import torch

    from acclimate.backbones.loading import load_backbone
    from acclimate.export.graph import export_graph
    from acclimate.training.task_model import TaskModel, TaskSpec, save_task_model

    made: dict[tuple[str, bool], Path] = {}

    def make(kind: str, *, pair: bool = False) -> Path:
        if (kind, pair) not in made:
            labels = LABELS[kind]
            spec = TaskSpec("toy", kind, labels, pair, "accuracy", "mean", 16, "base", 0, 32, len(labels or "1"))
            torch.manual_seed(1)
            model = TaskModel(load_backbone(tiny_encoder_dir, attention="sdpa"), spec).eval()
            torch.nn.init.normal_(model.head.weight)
            directory = tmp_path_factory.mktemp(f"{kind}-{pair}")
            save_task_model(model, tiny_encoder_dir, directory)
            export_graph(model, directory / "model.onnx", max_length=16)
            shutil.copyfile(kinds.decode_file(kind), directory / "decode.py")
            made[kind, pair] = directory
        return made[kind, pair]

    return make


def test_classification_gives_the_most_probable_label(export_directory):
    answer = Predictor.load(export_directory("classification")).predict(["a text editor"])[0]
    assert answer["label"] == max(answer["probabilities"], key=answer["probabilities"].get)
    assert answer["probability"] == answer["probabilities"][answer["label"]]
    assert sum(answer["probabilities"].values()) == pytest.approx(1.0)


def test_multi_label_gives_every_label_above_one_half(export_directory):
    for answer in Predictor.load(export_directory("multi_label")).predict(["plays music", "draws plots", "reads mail"]):
        assert answer["labels"] == [label for label, p in answer["probabilities"].items() if p > 0.5]


def test_pair_regression_depends_on_the_second_text(export_directory):
    predictor = Predictor.load(export_directory("regression", pair=True))
    same, other = predictor.predict(["a text editor"] * 2, ["a text editor", "an image viewer"])
    assert same["score"] != other["score"]


def test_answer_does_not_depend_on_the_rest_of_the_batch(export_directory):
    predictor = Predictor.load(export_directory("classification"))
    texts = ["one", "a somewhat longer text than the first", "two words"]
    together = predictor.predict(texts, batch_size=3)
    alone = [predictor.predict([text])[0] for text in texts]
    # Padding is masked; what is left is the order of fp32 sums.
    assert [a["probability"] for a in together] == pytest.approx([a["probability"] for a in alone], abs=1e-5)


def test_spans_quote_the_text_they_point_at(export_directory):
    text = 'Use "grep" (or egrep), then see /etc/passwd. ' * 4
    for span in Predictor.load(export_directory("tagging")).predict([text])[0]["spans"]:
        assert text[span["start"] : span["end"]] == span["text"]
        assert span["type"] == "CMD"


def test_tagging_reads_a_text_longer_than_the_model_to_its_end(export_directory):
    predictor = Predictor.load(export_directory("tagging"))
    words = split_words("alpha beta gamma " * 40)
    windows = predictor.decoder._windows(words)
    assert [word for window in windows for word in window] == words
    assert all(len(predictor.reader.words([[w.text for w in window]])[0].ids) <= 16 for window in windows)


def test_long_texts_are_cut_with_a_warning(export_directory, caplog):
    Predictor.load(export_directory("classification")).predict(["word " * 100, "short"])
    assert "1 of 2 texts are longer than 16 tokens" in caplog.text


def test_ids_are_those_of_training(export_directory, tiny_encoder_dir):
    tokenizer = load_tokenizer(tiny_encoder_dir)
    texts = ["A text editor.", "caf\u00e9 " * 30, "\u4e2d\u6587"]
    pairs = ["An image viewer", "short", "long " * 40]
    for given_pairs in (None, pairs):
        predictor = Predictor.load(export_directory("regression", pair=given_pairs is not None))
        trained = encode_texts(tokenizer, texts, given_pairs, max_length=16)
        served = predictor.reader.texts([texts] if given_pairs is None else [texts, given_pairs])
        assert np.concatenate([encoding.ids for encoding in served]).tolist() == trained.ids.tolist()
        assert np.concatenate([encoding.type_ids for encoding in served]).tolist() == trained.type_ids.tolist()
    rows = [ODD_WORDS, ["plain"] * 30]
    trained = encode_words(tokenizer, rows, max_length=16)
    served = Predictor.load(export_directory("tagging")).reader.words(rows)
    assert np.concatenate([encoding.ids for encoding in served]).tolist() == trained.ids.tolist()


SPECIAL = ["[MASK] and [SEP]", "</s> <s> <mask>", "[PAD]", "[UNK] x", "[CLS]"]


def test_control_tokens_in_a_text_are_text_in_training_and_serving(export_directory, tiny_encoder_dir):
    tokenizer = load_tokenizer(tiny_encoder_dir)
    special = {token_id for token_id, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    trained = encode_texts(tokenizer, SPECIAL, max_length=16)
    served = Predictor.load(export_directory("classification")).reader.texts([SPECIAL])
    assert np.concatenate([encoding.ids for encoding in served]).tolist() == trained.ids.tolist()
    words = encode_words(tokenizer, [["[MASK]", "[SEP]", "x"]], max_length=16)
    tagged = Predictor.load(export_directory("tagging")).reader.words([["[MASK]", "[SEP]", "x"]])
    assert tagged[0].ids == words.ids.tolist()
    unknown = tokenizer.token_to_id("[UNK]")
    for ids in (*(encoding.ids[1:-1] for encoding in served), words.ids[1:-1].tolist()):
        assert not special.intersection(ids) - {unknown}


@settings(deadline=None, max_examples=30)
@given(
    st.text(st.sampled_from(list("ab \x85\u200b\u00e9Ã¼<>br/&;@.\n")), min_size=1, max_size=30).filter(str.strip),
    st.sampled_from(["classification", "tagging"]),
)
def test_a_raw_text_is_read_as_the_ingested_one(export_directory, text, kind):
    clean, personal = CleaningConfig(), PersonalDataConfig(mode="redact")
    directory = export_directory(kind)
    for file in FILES:
        shutil.copyfile(file, directory / file.name)
    loaded = Predictor.load(directory)
    reader = Reader(loaded.reader.tokenizer, 16, Preparation(directory, carried(clean, personal)))
    decoder = type(loaded.decoder)(loaded.task, reader)
    how, given_one = ("words", [word.text for word in split_words(text)]) if kind == "tagging" else ("text", text)
    (prepared,) = prepare([given_one], how, clean, personal, TextCounts())
    ingested = decoder.read_table([{"words": prepared} if kind == "tagging" else {"text": prepared}]).encodings[0].ids
    served = decoder.read([[text]]).encodings
    assert [token for each in served for token in each.ids[1:-1]][: len(ingested) - 2] == ingested[1:-1]


@pytest.mark.parametrize(
    ("texts", "pairs", "message"),
    [
        ("a string", None, "`text` must be a list of texts, found str"),
        ([], None, "`text` is empty"),
        (["fine", ""], None, r"text\[1\] is empty"),
        (["fine", "  \n"], None, r"text\[1\] is empty"),
        ([None], None, r"text\[0\] is NoneType; each must be a string"),
        (["fine"], ["needless"], "task 'toy' reads text: 1 list of texts; 2 were given"),
    ],
)
def test_bad_input_is_named(export_directory, texts, pairs, message):
    with pytest.raises(PredictorError, match=message):
        Predictor.load(export_directory("classification")).predict(texts, pairs)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (None, "task 'toy' reads text, text_pair: 2 lists of texts; 1 were given"),
        (["a", "b"], "1 of text but 2 of text_pair"),
        ([3], r"text_pair\[0\] is int"),
    ],
)
def test_bad_pairs_are_named(export_directory, pairs, message):
    with pytest.raises(PredictorError, match=message):
        Predictor.load(export_directory("regression", pair=True)).predict(["one"], pairs)


def test_missing_graph_is_named(export_directory):
    with pytest.raises(PredictorError, match=r"model\.int8\.onnx: no such file"):
        Predictor.load(export_directory("classification"), variant="model.int8.onnx")


def test_provider_that_cannot_run_is_refused(export_directory):
    """onnxruntime alone would run on the CPU without a word."""
    import onnxruntime

    graph = export_directory("classification") / "model.onnx"
    try:
        active = (
            onnxruntime.InferenceSession(str(graph), providers=[CUDA]).get_providers()[0]
            if CUDA in onnxruntime.get_available_providers()
            else None
        )
    except RuntimeError:
        active = None
    if active == CUDA:
        assert open_session(graph, providers=[CUDA]).get_providers()[0] == CUDA
    else:
        with pytest.raises(PredictorError, match=CUDA):
            open_session(graph, providers=[CUDA])


def test_predictor_runs_as_a_file_by_itself(export_directory, tmp_path):
    """It travels inside the registered model: no torch, no acclimate."""
    import acclimate.export.predictor as module

    (tmp_path / "predictor.py").write_bytes(Path(module.__file__).read_bytes())
    code = (
        "import sys, json, pathlib, predictor\n"
        f"answer = predictor.Predictor.load(pathlib.Path({str(export_directory('classification'))!r})).predict(['a text editor'])\n"
        "loaded = [name for name in ('torch', 'transformers', 'pydantic', 'acclimate') if name in sys.modules]\n"
        "print(json.dumps([answer[0]['label'], loaded]))"
    )
    printed = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    label, loaded = json.loads(printed)
    assert loaded == []
    assert label == Predictor.load(export_directory("classification")).predict(["a text editor"])[0]["label"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Run grep, then exit.", ["Run", "grep", ",", "then", "exit", "."]),
        ('An " infinite " value', ["An", '"', "infinite", '"', "value"]),
        ("see (open(2)) and syncmask[0].", ["see", "(", "open(2)", ")", "and", "syncmask[0]", "."]),
        ("edit /etc/passwd!", ["edit", "/etc/passwd", "!"]),
        ("...", [".", ".", "."]),
        ("(foo).", ["(", "foo", ")", "."]),
        ("don't", ["don't"]),
    ],
)
def test_words_of_raw_text_look_like_the_tables(text, words):
    assert [word.text for word in split_words(text)] == words


@settings(deadline=None)  # a busy machine pauses longer than the default allows
@given(st.text())
def test_words_cover_every_visible_character_once_and_in_order(text):
    words = split_words(text)
    assert "".join(word.text for word in words) == "".join(text.split())
    assert all(text[word.start : word.end] == word.text for word in words)
    assert all(left.end <= right.start for left, right in itertools.pairwise(words))


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        (["O", "B-A", "I-A", "O", "B-B"], [("A", 1, 2), ("B", 4, 4)]),
        (["B-A", "B-A"], [("A", 0, 0), ("A", 1, 1)]),
        (["I-A", "I-A", "I-B"], [("A", 0, 1), ("B", 2, 2)]),
        (["B-A", "O", "I-A"], [("A", 0, 0), ("A", 2, 2)]),
        (["O", "O"], []),
    ],
)
def test_spans_follow_conlleval(tags, spans):
    assert spans_of(tags) == spans


@settings(deadline=None)  # a busy machine pauses longer than the default allows
@given(st.lists(st.sampled_from(["O", "B-A", "I-A", "B-B", "I-B"]), max_size=12))
def test_spans_equal_those_of_seqeval(tags):
    assert spans_of(tags) == [tuple(entity) for entity in get_entities(tags)]
