"""What was cut out and what was kept make the document again, in the shares of T5's paper."""

from __future__ import annotations

import numpy as np
import torch

from acclimate.data.tokens.encoding import Vocabulary
from acclimate.objectives.span_corruption import SpanCorruption
from acclimate.protocols import Documents, Draw, Facts

SENTINELS = {f"<extra_id_{number}>": 900 + number for number in range(60)}
FACTS = Facts(Vocabulary(960, None, (0, 1), {"</s>": 1, "<pad>": 0, **SENTINELS}), 0, np.ones(960), dict)


def test_documents_can_be_put_together_again() -> None:
    generator = torch.Generator().manual_seed(0)
    documents = [torch.cat([torch.randint(10, 800, (length,), generator=generator), torch.tensor([1])]) for length in (20, 33, 100, 7)]
    batch = SpanCorruption().batch(Documents(documents), FACTS, Draw(3, "span_corruption", 0))
    for row, document in enumerate(documents):
        read = [token for token in batch.ids_BT[row].tolist() if token not in (0, 1)]
        written = [token for token in batch.targets_BS[row].tolist() if token not in (-100, 1)]
        spans: dict[int, list[int]] = {}
        for token in written:
            if token >= 900:
                spans[token] = []
            else:
                spans[list(spans)[-1]].append(token)
        whole = [each for token in read for each in (spans[token] if token >= 900 else [token])]
        assert whole == document[:-1].tolist()
        assert batch.given_BS[row, 0] == 0
        assert torch.equal(
            batch.given_BS[row, 1:][batch.targets_BS[row, :-1] != -100], batch.targets_BS[row, :-1][batch.targets_BS[row, :-1] != -100]
        )


def test_shares_and_lengths_are_those_of_the_paper() -> None:
    documents = Documents([torch.arange(10, 522) % 800 + 10 for _ in range(40)])
    batch = SpanCorruption().batch(documents, FACTS, Draw(3, "span_corruption", 1))
    cut = int(((batch.targets_BS >= 0) & (batch.targets_BS < 900) & (batch.targets_BS != 1)).sum())
    spans = int((batch.ids_BT >= 900).sum())
    assert abs(cut / (40 * 512) - 0.15) < 0.001  # rounded to whole tokens a document
    assert abs(cut / spans - 3.0) < 0.1
