"""The test rows that an export is judged on, what torch says of them, and a few of them for later comparison."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from acclimate.errors import DataError
from acclimate.export.predictor import Inputs, Predictor, Rows, batched_logits

if TYPE_CHECKING:
    import torch

_BATCH_ROWS = 32
_NUM_EXAMPLES = 8


@dataclass(frozen=True)
class TestRows:
    """A task's test split, tokenized as the predictor tokenizes it."""

    __test__ = False  # the name begins with Test, and this is no test class

    ids: list[str]
    gold: list[Any]
    examples: list[dict[str, Any]]
    """As the ingested table holds them."""
    rows: Rows
    trained: list[Any]
    """What fine-tuning predicted for the same examples."""


def read_examples(table: Path) -> list[dict[str, Any]]:
    """The test split of an ingested table."""
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = pq.read_table(table / "test.parquet").to_pylist()
    return rows


def digest_of_rows(examples: Sequence[Mapping[str, Any]]) -> str:
    """Names test rows: equal for equal ids, texts and labels, in whatever order."""
    lines = sorted(json.dumps(example, sort_keys=True, default=str) for example in examples)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def read_test_rows(table: Path, finetuned: Path, predictor: Predictor) -> TestRows:
    """Join the test table with the predictions that fine-tuning kept.

    Raises:
        DataError: a test row has no prediction, or a prediction no row.
    """
    import pyarrow.parquet as pq

    found = {row["id"]: row for row in read_examples(table)}
    predictions = pq.read_table(finetuned / "predictions.parquet", filters=[("split", "=", "test")]).to_pylist()
    ids = [row["id"] for row in predictions]
    if set(ids) != set(found):
        raise DataError(
            f"{finetuned / 'predictions.parquet'}: its {len(ids)} test ids are not the {len(found)} of {table / 'test.parquet'}"
        )
    examples = [found[example] for example in ids]
    gold, trained = [row["gold"] for row in predictions], [row["prediction"] for row in predictions]
    return TestRows(ids, gold, examples, predictor.decoder.read_table(examples), trained)


def torch_call(model: torch.nn.Module) -> Callable[[Inputs], NDArray[np.float32]]:
    """The torch model as a function from a batch's inputs to its logits."""
    import torch

    def call(inputs: Inputs) -> NDArray[np.float32]:
        with torch.inference_mode():
            output: NDArray[np.float32] = model(*(torch.from_numpy(array) for array in inputs.values())).numpy()
        return output

    return call


def torch_predictions(model: torch.nn.Module, test: TestRows, predictor: Predictor) -> list[Any]:
    """The torch model's prediction of each example, in fp32."""
    logits = batched_logits(
        torch_call(model),
        test.rows.encodings,
        pad_id=predictor.pad_id,
        per_token=predictor.decoder.per_token,
        batch_size=_BATCH_ROWS,
    )
    return predictor.decoder.predictions(test.rows, logits)


def onnx_predictions(predictor: Predictor, test: TestRows) -> list[Any]:
    """The graph's prediction of each example."""
    return predictor.decoder.predictions(test.rows, predictor.logits(test.rows.encodings))


def examples(test: TestRows, predictions: Mapping[str, Sequence[Any]], predictor: Predictor) -> list[dict[str, Any]]:
    """A few test rows with each variant's numbers and the deployed variant's answer to their raw text.

    Whoever loads the model elsewhere can ask it the same and compare.
    """
    decoder = predictor.decoder
    chosen = range(min(_NUM_EXAMPLES, len(test.ids)))
    raw = [decoder.raw(test.examples[row]) for row in chosen]
    answers = predictor.predict(*(list(column) for column in zip(*raw, strict=True)))
    return [
        {
            "id": test.ids[row],
            "inputs": dict(zip(decoder.inputs, raw[row], strict=True)),
            "logits": {name: decoder.numbers(values[row]).tolist() for name, values in predictions.items()},
            "prediction": answers[row],
        }
        for row in chosen
    ]
