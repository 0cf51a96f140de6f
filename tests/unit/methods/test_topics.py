"""Neighbours share a topic and are no copies; topics come out the same again; both losses are what they are called."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from acclimate.data.tokens.encoding import Vocabulary
from acclimate.data.tokens.packing import PackedText, pack
from acclimate.errors import DataError
from acclimate.objectives._pairs import sentence_vectors
from acclimate.objectives._topics import TopicSpace, topic_space
from acclimate.objectives.topics import TopicBatch, Topics
from acclimate.protocols import Documents, Draw, Facts
from acclimate.training.streams import source_of
from tests.contract.made import objective

LENGTH, THEME = 20, 40


def two_themes(num_documents: int) -> PackedText:
    """Documents whose words are those of one of two themes, in turns; the last is a copy of the first."""
    generator = np.random.default_rng(0)
    words = [generator.choice(THEME, LENGTH - 2, replace=False) + 10 + THEME * (number % 2) for number in range(num_documents - 1)]
    ids = np.concatenate([np.concatenate([[2], each, [3]]) for each in [*words, words[0]]]).astype(np.uint16)
    return pack(ids, np.arange(0, len(ids), LENGTH), sequence_length=LENGTH)


def facts_of(text: PackedText) -> Facts:
    return Facts(Vocabulary(100, None, (0, 2, 3)), 0, np.ones(100), dict, partial(source_of, Documents, text))


def space_of(text: PackedText, **options: int) -> TopicSpace:
    return topic_space(facts_of(text), **{"num_topics": 8, "max_documents": 50, **options})


def test_neighbours_share_the_theme_and_are_no_copy() -> None:
    space = space_of(two_themes(41))
    near = space.neighbours(space.vectors([space.document(place) for place in range(41)]), 5)
    for place, places in enumerate(near):
        assert len(places) == 5
        assert {number % 2 for number in places} == {place % 2}
        assert place not in places
    assert 40 not in near[0] and 0 not in near[40]


def test_the_same_text_gives_the_same_bits() -> None:
    first, second = space_of(two_themes(41)), space_of(two_themes(41))
    assert first is not second
    assert np.array_equal(first.topics_VK, second.topics_VK) and np.array_equal(first.vectors_NK, second.vectors_NK)
    texts = [first.document(place) for place in first.numbers_N.tolist()]
    np.testing.assert_allclose(first.vectors(texts), first.vectors_NK, atol=1e-5)


@pytest.mark.parametrize(("most", "used"), [(50, 41), (41, 41), (40, 21), (14, 14), (3, 3)])
def test_no_more_documents_than_allowed_are_used(most: int, used: int) -> None:
    assert len(space_of(two_themes(41), max_documents=most).numbers_N) == used


def test_a_text_that_shares_no_words_is_refused() -> None:
    text = pack(np.arange(10, 90).astype(np.uint16), np.arange(0, 80, LENGTH), sequence_length=LENGTH)
    with pytest.raises(DataError, match="topics: 0 tokens stand in 3 or more of the 4 documents; 3 are needed"):
        space_of(text)


@pytest.mark.parametrize(("own_share", "opening_share"), [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0)])
def test_a_pair_is_a_text_with_a_neighbour_or_its_two_parts(own_share: float, opening_share: float) -> None:
    text = two_themes(41)
    facts, rows = facts_of(text), np.arange(6)
    view = source_of(Documents, text).view(rows, Draw(0, "topics", 0))
    chosen = Topics(own_share=own_share, opening_share=opening_share, opening=4, max_length=12, topics=8)
    batch = chosen.batch(view, facts, Draw(0, "topics", 0))
    sides = ((batch.pairs.left_BT, batch.pairs.left_mask_BT), (batch.pairs.right_BT, batch.pairs.right_mask_BT))
    for row, document in enumerate(view.ids):
        left, right = (ids_BT[row][mask_BT[row].bool()].tolist() for ids_BT, mask_BT in sides)
        assert len(left) <= 12 and len(right) <= 12
        assert left[0] == right[0] == 2 and left[-1] == right[-1] == 3
        if own_share:
            inner = document[1:-1].tolist()
            assert left[1:-1] == inner[: len(left) - 2] and not set(left[1:-1]) & set(right[1:-1]) and set(right[1:-1]) <= set(inner)
            assert len(left) - 2 in (range(1, 5) if opening_share else range(6, 13))
        else:
            assert left[1:-1] == document[1:11].tolist() and right != left
    assert torch.equal(batch.left_topics_BK, batch.right_topics_BK) == bool(own_share)


def test_the_losses_are_info_nce_and_a_divergence(encoders: Path) -> None:
    made = objective("topics", encoders)
    (work,) = made.streams.window(0)
    (member,) = made.trained.members.values()
    member.eval()
    batch = work.batch
    assert isinstance(batch, TopicBatch)
    pairs = batch.pairs
    with torch.no_grad():
        found = member(batch, "topics")
        left = sentence_vectors(member.backbone, pairs.left_BT, pairs.left_mask_BT).double()
        right = sentence_vectors(member.backbone, pairs.right_BT, pairs.right_mask_BT).double()
    scores = left @ right.T / 0.05
    contrast = sum(-torch.log_softmax(each, -1).diagonal().sum() for each in (scores, scores.T)) / 2
    student, teacher = torch.cat([left, right]), torch.cat([batch.left_topics_BK, batch.right_topics_BK]).double()
    divergence = 0.0
    for row in range(len(student)):
        others = [other for other in range(len(student)) if other != row]
        log_p, log_q = ((each[others] @ each[row] / 0.1).log_softmax(0) for each in (teacher, student))
        divergence += float((log_p.exp() * (log_p - log_q)).sum())
    torch.testing.assert_close(found["topics"].double(), contrast, rtol=1e-4, atol=1e-4)
    assert float(found["topics_similarity"]) == pytest.approx(divergence, rel=1e-3)
