"""The halves are disjoint and whole, and the loss is InfoNCE in both directions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from acclimate.data.tokens.encoding import Vocabulary
from acclimate.objectives._pairs import sentence_vectors
from acclimate.objectives.halves import Halves
from acclimate.protocols import Documents, Draw, Facts
from tests.contract.made import objective


def test_the_halves_are_the_document() -> None:
    facts = Facts(Vocabulary(900, None, (2, 3)), 0, np.ones(900), dict)
    documents = [torch.tensor([2, *range(10, 10 + length), 3]) for length in (6, 20, 31)]
    batch = Halves().batch(Documents(documents), facts, Draw(1, "halves", 0))
    for row, document in enumerate(documents):
        left = batch.left_BT[row][batch.left_mask_BT[row].bool()].tolist()
        right = batch.right_BT[row][batch.right_mask_BT[row].bool()].tolist()
        assert left[0] == right[0] == 2 and left[-1] == right[-1] == 3
        assert left[1:-1] + right[1:-1] == document[1:-1].tolist()
        assert min(len(left), len(right)) >= 3


def test_the_loss_is_info_nce(encoders: Path) -> None:
    made = objective("halves", encoders)
    (work,) = made.streams.window(0)
    (member,) = made.trained.members.values()
    member.eval()
    with torch.no_grad():
        found = member(work.batch, "halves")["halves"]
        batch, backbone = work.batch, member.backbone
        left = sentence_vectors(backbone, batch.left_BT, batch.left_mask_BT)
        right = sentence_vectors(backbone, batch.right_BT, batch.right_mask_BT)
        scores = (left @ right.T / 0.05).double()
    by_hand = sum(-torch.log_softmax(each, -1).diagonal().sum() for each in (scores, scores.T)) / 2
    torch.testing.assert_close(found.double(), by_hand, rtol=1e-5, atol=1e-5)
