"""The predictor, whatever it is given, answers or raises PredictorError: no other error, no hang, bounded memory."""

from __future__ import annotations

import math
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from acclimate import kinds
from acclimate.export.predictor import Predictor, PredictorError
from tests.security.fuzz import INPUTS, SHARE_OF_PARAMS, bounded, inputs, peak_mb

KINDS = {"classification": ["a", "b", "c"], "multi_label": ["x", "y"], "regression": None, "tagging": ["O", "B-CMD", "I-CMD"]}
PIECES = (
    *(
        "a",
        "run grep",
        "word " * 5,
        ".",
        "...",
        "(",
        "((",
        ")",
        "[<",
        "'",
        '"',
        "\u201c",
        " ",
        "\t",
        "\n",
        "\r\n",
        "\x0b",
        "\u2003",
        "\u3000",
    ),
    *(
        "\0",
        "\x01",
        "\x1b[31m",
        "\x7f",
        "\x85",
        "\u200b",
        "\u200d",
        "\u202e",
        "\u2066",
        "\ufeff",
        "\ufffd",
        "\ufffe",
        "\uffff",
        "\U0010ffff",
    ),
    *(
        "\ud800",
        "\udfff",
        "\ud83d\ude00",
        "\U0001f600",
        "\U0001f468\u200d\U0001f469\u200d\U0001f467",
        "\u05d0\u05d1",
        "\u0627\u0644",
        "\u4e2d\u6587",
    ),
    *(
        "\u0301",
        "e\u0301\u0316",
        "\u0f73",
        "\u1100\u1161",
        "\u0130",
        "\u00df",
        "\ufdfa",
        "\U0001d400",
        "[CLS]",
        "[SEP]",
        "[PAD]",
        "[MASK]",
        "[UNK]",
    ),
    *("##a", "</s>", "<svg onload=x>", "x" * 200, "-" * 50, "a." * 30, "/etc/passwd", "--help", "%s%n", "{0}", "null", "NaN", "\\ud800"),
)
ODD: tuple[Callable[[], Any], ...] = (
    *(
        lambda value=value: value
        for value in (None, True, 0, -1, 1.5, math.nan, math.inf, 10**400, b"", b"\xff", (), (1,), "", " \n", "\0")
    ),
    *(
        lambda value=value: value
        for value in ("text", ["text"], [["text"]], {"text": "a"}, {1, 2}, [None], [b"a"], [1], [math.nan], [""], [" "])
    ),
    *(
        lambda value=value: value
        for value in (["a", None], ["a", "\ud800"], [("a", "b")], [{"text": "a"}], object(), object, print, ..., range(3))
    ),
    *(lambda value=value: value for value in (np.str_("a"), np.float32(1), pd.NA, pd.NaT, np.datetime64("NaT"), [np.str_("a")], [pd.NA])),
    lambda: np.array(["a", "b"]),
    lambda: np.zeros((2, 2)),
    lambda: (text for text in ["a"]),
    lambda: pd.Series(["a"], index=[7]),
    lambda: pd.DataFrame({"text": ["a"]}, index=[3]),
    lambda: pd.DataFrame({"text": [["a"]], "text_pair": [None]}),
    lambda: pd.DataFrame(),
    lambda: pd.DataFrame([["a", "b"]], columns=["text", "text"]),
    lambda: pd.DataFrame({("text", 1): ["a"]}),
)


@pytest.fixture(scope="module")
def predictors(tiny_encoder_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Predictor]:
    import torch

    from acclimate.backbones.loading import load_backbone
    from acclimate.export.graph import export_graph
    from acclimate.training.task_model import TaskModel, TaskSpec, save_task_model

    made = []
    for kind, pair in (("classification", False), ("regression", True), ("tagging", False), ("multi_label", False)):
        labels = KINDS[kind]
        spec = TaskSpec("toy", kind, labels, pair, "accuracy", "mean", 16, "base", 0, 32, len(labels or "1"))  # type: ignore[arg-type]
        torch.manual_seed(1)
        model = TaskModel(load_backbone(tiny_encoder_dir, attention="sdpa"), spec).eval()
        directory = tmp_path_factory.mktemp(kind)
        save_task_model(model, tiny_encoder_dir, directory)
        export_graph(model, directory / "model.onnx", max_length=16)
        shutil.copyfile(kinds.decode_file(kind), directory / "decode.py")
        made.append(Predictor.load(directory, threads=1))
    return made


def _text(draw: random.Random) -> str:
    return "".join(draw.choice(PIECES) for _ in range(draw.randrange(1, 9)))


def _texts(draw: random.Random) -> Any:
    if draw.random() < 0.2:
        return draw.choice(ODD)()
    texts: list[Any] = [_text(draw) for _ in range(draw.choice((1, 1, 2, 3)))]
    if draw.random() < 0.1:
        texts[draw.randrange(len(texts))] = draw.choice(ODD)()
    return texts


def _answered(predictor: Predictor, texts: Any, pairs: Any, **options: Any) -> bool:
    try:
        answers = predictor.predict(texts, pairs, **options)
    except PredictorError as error:
        message = str(error)
        assert 0 < len(message) < 500
        assert message.isprintable()
        return False
    assert len(answers) == len(texts)
    for text, answer in zip(texts, answers, strict=True):
        if "spans" in answer:
            assert all(text[span["start"] : span["end"]] == span["text"] for span in answer["spans"])
        else:
            numbers = answer.get("probabilities", answer)
            assert all(math.isfinite(value) for value in numbers.values())
    return True


def test_every_odd_input_is_answered_or_named(predictors: list[Predictor]) -> None:
    answered, before = 0, peak_mb()
    for number, draw in enumerate(inputs(round(INPUTS * (2 - SHARE_OF_PARAMS)))):
        predictor = draw.choice(predictors)
        texts = _texts(draw)
        needs_pairs = predictor.task["pair"] and isinstance(texts, list)
        pairs = [_text(draw) for _ in texts] if needs_pairs else None
        if draw.random() < 0.1:
            pairs = _texts(draw)
        options = {"batch_size": draw.choice((1, 2, 0, -1, 1.5, None, "a", True, 10**30))} if draw.random() < 0.1 else {}
        try:
            with bounded(5):
                answered += _answered(predictor, texts, pairs, **options)
        except BaseException as error:
            error.add_note(f"input {number}: {predictor.kind}, {ascii(texts)[:300]}, {ascii(pairs)[:300]}, {options}")
            raise
    print(f"{answered} were answered")
    assert answered
    assert peak_mb() - before < 300


@pytest.mark.parametrize("piece", ["a ", "a", "(", ".", "\u0301", "\0", "\u4e2d", "[MASK]", " ", "\U0001f600"])
def test_a_text_of_ten_megabytes_takes_bounded_time_and_memory(predictors: list[Predictor], piece: str) -> None:
    text = "x " + piece * (10_000_000 // len(piece))
    for predictor in predictors:
        before = peak_mb()
        with bounded(30):
            _answered(predictor, [text], [text] if predictor.task["pair"] else None)
        assert peak_mb() - before < 1000, predictor.kind
