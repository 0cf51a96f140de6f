"""The test rows that an export is judged on, what torch says of them, and a few of them for later comparison.

Shapes: T tokens, C labels, K words of a row that the model read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from acclimate.errors import DataError
from acclimate.export.predictor import Inputs, Predictor, batched_logits, first_tokens

if TYPE_CHECKING:
    import torch
    from tokenizers import Encoding

_BATCH_ROWS = 32
_NUM_EXAMPLES = 8


@dataclass(frozen=True)
class TestRows:
    """A task's test split, tokenized as the predictor tokenizes it."""

    __test__ = False  # the name begins with Test, and this is no test class

    kind: str
    ids: list[str]
    gold: list[Any]
    inputs: list[dict[str, Any]]
    """`text`, with `text_pair` for a task on pairs; `words` for tagging."""
    encodings: list[Encoding]
    trained_logits: list[NDArray[np.float32]]
    """What fine-tuning recorded for the same rows: (C,) or (K, C)."""


def read_test_rows(table: Path, finetuned: Path, predictor: Predictor) -> TestRows:
    """Join the test table with the predictions that fine-tuning kept.

    Raises:
        DataError: a test row has no prediction, or a prediction no row.
    """
    import pyarrow.parquet as pq

    inputs = {row["id"]: row for row in pq.read_table(table / "test.parquet").to_pylist()}
    predictions = pq.read_table(finetuned / "predictions.parquet", filters=[("split", "=", "test")]).to_pylist()
    ids = [row["id"] for row in predictions]
    if set(ids) != set(inputs):
        raise DataError(
            f"{finetuned / 'predictions.parquet'}: its {len(ids)} test ids are not the {len(inputs)} of {table / 'test.parquet'}"
        )
    rows = [inputs[row_id] for row_id in ids]
    width = len(predictor.labels) or 1
    trained = [np.asarray(row["logits"], dtype=np.float32) for row in predictions]
    return TestRows(
        kind=predictor.kind,
        ids=ids,
        gold=[row["gold"] for row in predictions],
        inputs=[{name: row[name] for name in ("text", "text_pair", "words") if row.get(name) is not None} for row in rows],
        encodings=_encode(rows, predictor),
        trained_logits=[row.reshape(-1, width) for row in trained] if predictor.kind == "tagging" else trained,
    )


def _encode(rows: Sequence[dict[str, Any]], predictor: Predictor) -> list[Encoding]:
    if predictor.kind == "tagging":
        return predictor.encode_words([row["words"] for row in rows])
    pairs = [row["text_pair"] for row in rows] if predictor.task["pair"] else None
    return predictor.encode([row["text"] for row in rows], pairs)


def torch_call(model: torch.nn.Module) -> Callable[[Inputs], NDArray[np.float32]]:
    """The torch model as a function from a batch's inputs to its logits."""
    import torch

    def call(inputs: Inputs) -> NDArray[np.float32]:
        with torch.inference_mode():
            output: NDArray[np.float32] = model(*(torch.from_numpy(array) for array in inputs.values())).numpy()
        return output

    return call


def torch_logits(model: torch.nn.Module, rows: TestRows, pad_id: int) -> list[NDArray[np.float32]]:
    """The torch model's logits of each row in fp32: (C,), or (K, C) for tagging."""
    per_token = rows.kind == "tagging"
    logits = batched_logits(torch_call(model), rows.encodings, pad_id=pad_id, per_token=per_token, batch_size=_BATCH_ROWS)
    return per_word(logits, rows)


def per_word(logits: Sequence[NDArray[np.float32]], rows: TestRows) -> list[NDArray[np.float32]]:
    """Reduce a tagger's (T, C) to (K, C), read at each word's first token; other kinds stay as they are."""
    if rows.kind != "tagging":
        return list(logits)
    return [row_TC[list(first_tokens(encoding).values())] for row_TC, encoding in zip(logits, rows.encodings, strict=True)]


def examples(rows: TestRows, logits: dict[str, list[NDArray[np.float32]]], predictor: Predictor) -> dict[str, Any]:
    """A few test rows with each variant's logits and the deployed variant's answer to their raw text.

    Whoever loads the model elsewhere can ask it the same and compare.
    """
    chosen = range(min(_NUM_EXAMPLES, len(rows.ids)))
    texts = [rows.inputs[row].get("text") or " ".join(rows.inputs[row]["words"]) for row in chosen]
    pairs = [rows.inputs[row]["text_pair"] for row in chosen] if predictor.task["pair"] else None
    predictions = predictor.predict(texts, pairs)
    return {
        "examples": [
            {
                "id": rows.ids[row],
                "text": texts[row],
                "text_pair": pairs[row] if pairs else None,
                "logits": {name: values[row].tolist() for name, values in logits.items()},
                "prediction": predictions[row],
            }
            for row in chosen
        ]
    }
