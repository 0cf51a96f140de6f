"""Softmax over the tokens of a window for the answer's start, and for its end.

Shapes: B rows, T tokens, K readable positions of a row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from acclimate import kinds
from acclimate.data.tokens.encoding import Encoded
from acclimate.errors import ConfigError
from acclimate.tasks.extractive_qa.decode import NO_ANSWER, Places, Windows, best_spans

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import Tensor, nn

NO_SPAN = -1


@dataclass(frozen=True)
class Own:
    """What is kept of the rows."""

    places: Places
    options: Mapping[str, Any]


class Model:
    """Cross-entropy of start and end, over the tokens of the context and the first token, which stands for no answer.

    A window that does not hold the whole answer has none. Of several answers the first is learnt.
    """

    per_token: ClassVar[bool] = True
    task_class: ClassVar[str] = "QuestionAnswering"
    problem_type: ClassVar[str | None] = None

    def encode(self, inputs: Sequence[kinds.Input], tokenizer: Tokenizer, *, max_length: int, options: Mapping[str, Any]) -> Encoded:
        """Windows of `max_length` tokens, one or more an example.

        Raises:
            ConfigError: `max_length` has no room for a question and a context.
        """
        try:
            windows = Windows(tokenizer, max_length, overlap=options["overlap"])
        except ValueError as error:
            raise ConfigError(f"max_length: {error}") from None
        rows = windows.read([row["question"] for row in inputs], [row["context"] for row in inputs])
        lengths = [len(encoding.ids) for encoding in rows.encodings]
        return Encoded(
            ids=np.concatenate([np.array(encoding.ids, dtype=np.int32) for encoding in rows.encodings]),
            type_ids=np.concatenate([np.array(encoding.type_ids, dtype=np.int32) for encoding in rows.encodings]),
            offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            word_positions=rows.places.positions,
            truncated=rows.num_cut,
            only_special=sum(all(encoding.special_tokens_mask) for encoding in rows.encodings),
            example_of_row=rows.places.example_of_row,
            own=Own(rows.places, options),
        )

    def num_outputs(self, labels: Sequence[str] | None) -> int:
        """Start and end."""
        return 2

    def gold(self, values: Sequence[Any], labels: Sequence[str] | None) -> list[dict[str, Any]]:
        """The texts of all answers, an empty one for none as in SQuAD; first and past the last character of the first, or -1."""
        return [_gold(answers) for answers in values]

    def standardization(self, values: Sequence[Any]) -> tuple[float, float]:
        """None."""
        return 0.0, 1.0

    def targets(
        self, gold: Sequence[Mapping[str, Any]], encoded: Encoded, rows: NDArray[np.int64], width: int
    ) -> tuple[Tensor, NDArray[np.int64]]:
        """(B, T, 3) bool: whether a token is readable, the start, the end; one loss term a row."""
        import torch

        targets_BT3 = np.zeros((len(rows), width, 3), dtype=np.bool_)
        for target_T3, row in zip(targets_BT3, rows.tolist(), strict=True):
            positions = encoded.own.places.positions[row]
            start, end = positions[span_in_row(gold, encoded, row)]
            target_T3[positions, 0] = True
            target_T3[start, 1] = target_T3[end, 2] = True
        return torch.from_numpy(targets_BT3), np.ones(len(rows), dtype=np.int64)

    def head(self, width: int, num_outputs: int) -> nn.Module:
        """Linear."""
        from acclimate.backbones.heads import linear_head

        return linear_head(width, num_outputs)

    def row_losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy of each row, the mean of start's and end's. Padding has no say, so a row's loss does not depend on its batch."""
        import torch

        outputs_BT2, readable_BT1, spans_BT2 = outputs.float(), targets[..., :1], targets[..., 1:]
        normalizer_B2 = torch.logsumexp(outputs_BT2.masked_fill(~readable_BT1, -torch.inf), dim=1)
        chosen_B2 = outputs_BT2.masked_fill(~spans_BT2, 0.0).sum(dim=1)
        return (normalizer_B2 - chosen_B2).mean(dim=1)

    def predictions(self, logits: Sequence[NDArray[np.float32]], encoded: Encoded) -> list[dict[str, Any]]:
        """The best span of each example, see `decode.best_spans`."""
        own: Own = encoded.own
        choice = {name: own.options[name] for name in ("unanswerable", "max_answer_tokens")}
        return best_spans(own.places, logits, **choice)


def _gold(answers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    if not answers:
        return {"texts": [""], "start": NO_SPAN, "end": NO_SPAN}
    start = int(answers[0]["start"])
    return {"texts": [answer["text"] for answer in answers], "start": start, "end": start + len(answers[0]["text"])}


def span_in_row(gold: Sequence[Mapping[str, Any]], encoded: Encoded, row: int) -> list[int]:
    """Which readable positions of a row are the first and the last token of the answer; NO_ANSWER twice where it does not hold it all."""
    places: Places = encoded.own.places
    example, characters_K2 = places.example_of_row[row], places.characters[row]
    start, end = gold[example]["start"], gold[example]["end"]
    touched = np.flatnonzero((characters_K2[:, 0] < end) & (characters_K2[:, 1] > start))
    if start == NO_SPAN or not len(touched):
        return [NO_ANSWER, NO_ANSWER]
    neighbours = [0 <= each < len(places.example_of_row) and places.example_of_row[each] == example for each in (row - 1, row + 1)]
    cut_before = neighbours[0] and characters_K2[1, 0] > start
    cut_after = neighbours[1] and characters_K2[-1, 1] < end
    return [NO_ANSWER, NO_ANSWER] if cut_before or cut_after else [int(touched[0]), int(touched[-1])]


COMPONENT: type[kinds.Model] = Model
