"""From texts to a number.

Needs NumPy alone and imports nothing of acclimate: this file travels inside the registered model, beside predictor.py.

Shapes: R rows, C outputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tokenizers import Encoding

    from acclimate.export import predictor


@dataclass
class Rows:
    """One an example."""

    encodings: list[Encoding]


class Decoder:
    """One number."""

    outputs: ClassVar[Mapping[str, Any]] = {"score": "double"}
    max_chars: ClassVar[int | None] = None
    per_token: ClassVar[bool] = False

    def __init__(self, task: Mapping[str, Any], reader: predictor.Reader) -> None:
        self._reader = reader
        self._labels: list[str] = task["labels"] or []
        self._pair: bool = task["pair"]

    @property
    def inputs(self) -> tuple[str, ...]:
        """A text, or two."""
        return ("text", "text_pair") if self._pair else ("text",)

    def read(self, columns: Sequence[Sequence[str]]) -> Rows:
        """Texts or pairs of texts, prepared and cut."""
        return Rows(self._reader.texts([self._reader.prepared.texts(column) for column in columns]))

    def read_table(self, examples: Sequence[Mapping[str, Any]]) -> Rows:
        """The table's texts are prepared."""
        return Rows(self._reader.texts([[example[name] for example in examples] for name in self.inputs]))

    def raw(self, example: Mapping[str, Any]) -> list[str]:
        """The texts."""
        return [example[name] for name in self.inputs]

    def predictions(self, rows: Rows, logits: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """The logits, (C,)."""
        return list(logits)

    def numbers(self, prediction: Any) -> NDArray[np.float32]:
        """The logits."""
        return np.asarray(prediction, dtype=np.float32)

    def decisions(self, prediction: Any) -> NDArray[np.int64]:
        """A number decides nothing."""
        return np.empty(0, dtype=np.int64)

    def answers(self, rows: Rows, logits: Sequence[NDArray[np.float32]]) -> list[dict[str, Any]]:
        """The number."""
        return [{"score": float(row[0])} for row in logits]


COMPONENT: type[predictor.Decoder] = Decoder
